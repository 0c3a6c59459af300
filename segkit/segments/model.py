"""Assign customers to the segments of a fitted model: all at once, one at a time, and with hysteresis at borders."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from segkit.customers.anticipation import Space, are_skewed, coordinates, z_scores
from segkit.customers.category_mix import split_words
from segkit.customers.features import CustomerData
from segkit.errors import RunError

CELLS_AT_ONCE = 4_000_000  # distances (customers x centres) computed at once
# How much farther than the nearest centre the previous segment's may be within a level, as a share: wider keeps hardly
# more customers, and hardly anyone changes need any more (benchmarks/staying.py).
BORDER_WIDTH = 0.25
# Standard deviations of the first axis that a customer may lie beyond their previous level: the widest border tried
# that costs at most .005 of R2 on both data sets of that benchmark.
LEVEL_BORDER = 0.13
# Squared distances closer than this are equal, and values this far below a border are at it: far above what runtimes
# differ by, far below what matters.
TIE = 1e-6


@dataclass(frozen=True)
class SegmentModel:
    """Hold all that is needed to assign a customer: plain arrays, nothing executable.

    The names of the fields are those in the model file, where a subsample is called a bag.

    Parameters
    ----------
    space
        Maps features to coordinates.
    segments, macro
        Id of each segment, and the macro segment it belongs to.
    centres
        Segments x axes.
    bag_centres, bag_of, bag_segment
        Every centre of every subsample, its subsample, and the number of the segment it belongs to.
    borders, level
        Values on the first axis between levels (ascending), and the level of each segment. A customer belongs to the
        nearest centre of their level.
    bag_borders
        The borders of each subsample (subsamples x borders).
    need
        Id of the need of each segment; empty for none.
    """

    space: Space
    segments: tuple[str, ...]
    macro: tuple[str, ...]
    centres: np.ndarray
    bag_centres: np.ndarray
    bag_of: np.ndarray
    bag_segment: np.ndarray
    borders: np.ndarray = field(default_factory=lambda: np.zeros(0))
    level: np.ndarray | None = None
    bag_borders: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    need: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.level is None:
            object.__setattr__(self, "level", np.zeros(len(self.centres), dtype=np.int64))
        if not self.need:
            object.__setattr__(self, "need", ("",) * len(self.segments))


@dataclass(frozen=True)
class LinearMap:
    """Hold a space as one linear map from the features and purchases of a customer to coordinates.

    Parameters
    ----------
    features, skewed, mean, scale
        What z-scores are computed from; skewed features enter as log(1 + value).
    behaviour, logs, shares
        Loadings on the axes of z-scores, of log(1 + amount) by term and of the square root of each term's share.
    terms, words
        Names of the terms, and whether they are words of category names.
    constant
        Added to the axes.
    """

    features: tuple[str, ...]
    skewed: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    behaviour: np.ndarray
    terms: tuple[str, ...]
    words: bool
    logs: np.ndarray
    shares: np.ndarray
    constant: np.ndarray

    def z_scores(self, values: np.ndarray) -> np.ndarray:
        """Return clipped z-scores of feature values (customers x features)."""
        return z_scores(values, skewed=self.skewed, mean=self.mean, scale=self.scale)


@dataclass(frozen=True)
class Assignment:
    """The segment of one customer, its need (None for no single one), and the share of subsamples that agree."""

    segment: str
    macro_segment: str
    need: str | None
    confidence: float


class Assigner:
    """Assign any number of customers with a prepared model, also one at a time.

    Parameters
    ----------
    model
        The segments and the space they lie in.
    with_outcomes
        The map also returns the expected outcomes less their centre, after the axes.
    """

    def __init__(self, model: SegmentModel, *, with_outcomes: bool = False) -> None:
        self._model, self._with_outcomes = model, with_outcomes
        self._terms_of: dict[str, tuple[int, ...]] = {}
        names, self.codes = np.unique(model.segments, return_inverse=True)  # merged segments share an id
        self.code = {name: code for code, name in enumerate(names.tolist())}
        self._centres = _centres_of(model.centres)
        self._subsample_centres, self._subsample_codes, self._subsample_levels = _centres_by_subsample(
            model, codes=self.codes
        )
        self._subsample_numbers = np.arange(len(self._subsample_codes))
        self._value, own = model.centres[:, 0], [model.centres[model.level == n, 0] for n in np.unique(model.level)]
        self._has_levels = all(np.ptp(value) == 0 for value in own)

    @cached_property
    def map(self) -> LinearMap:
        """Return the space of the model as one linear map."""
        return to_linear_map(self._model.space, with_outcomes=self._with_outcomes)

    def assign(self, points: np.ndarray, *, previous_codes: np.ndarray | None = None) -> np.ndarray:
        """Return the number of the centre that each customer belongs to.

        Parameters
        ----------
        points
            Coordinates, customers x axes.
        previous_codes
            Code (`self.code`) of each customer's segment in the previous run, kept near a border; -1 for none.
        """
        found = []
        for rows in _slices(points, self._centres):
            part = points[rows]
            distances = self._centres.distances(part)
            number = _first_least(_in_level(distances, part, borders=self._model.borders, level=self._model.level))
            previous = None if previous_codes is None else previous_codes[rows]
            if previous is not None and ((previous >= 0) & (self.codes[number] != previous)).any():
                squares = np.maximum(distances + np.square(part).sum(axis=1, keepdims=True) - self._shared(part), 0.0)
                number = self._keep_previous(squares, part, number, previous_codes=previous)
            found.append(number)
        return found[0] if len(found) == 1 else np.concatenate(found)

    def _shared(self, points: np.ndarray) -> np.ndarray:
        """Return the part of squared distances that all centres of a level share, which says nothing about needs."""
        return np.square(points[:, :1] - self._value) if self._has_levels else np.zeros((1, 1))

    def _keep_previous(
        self, squares: np.ndarray, points: np.ndarray, number: np.ndarray, *, previous_codes: np.ndarray
    ) -> np.ndarray:
        """Let customers near a border keep their previous segment: near its level, and near its centre in the level."""
        edges = np.concatenate([[-np.inf], self._model.borders, [np.inf]])
        level = self._model.level
        value = points[:, :1]
        near = (value >= edges[level] - LEVEL_BORDER) & (value < edges[level + 1] + LEVEL_BORDER)
        own = np.where((self.codes == previous_codes[:, None]) & near, squares, np.inf)
        kept = own.argmin(axis=1)
        same_level = np.where(level[kept][:, None] == level, squares, np.inf)
        keeps_previous = own.min(axis=1) <= (1 + BORDER_WIDTH) ** 2 * same_level.min(axis=1) + TIE
        return np.where(keeps_previous & (self.codes[number] != previous_codes), kept, number)

    def agreement(self, points: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Return the share of subsamples whose nearest cluster belongs to the same segment; 0 without clusters.

        Parameters
        ----------
        points
            Coordinates, customers x axes.
        codes
            Segment code of each customer.
        """
        subsamples = len(self._subsample_codes)
        if not subsamples:
            return np.zeros(len(points))
        nearest = _nearest(
            points, self._subsample_centres, borders=self._model.bag_borders, level=self._subsample_levels
        )
        found = self._subsample_codes[self._subsample_numbers, nearest]
        return (np.add.reduce(found == codes[:, None], axis=1) / subsamples).round(6)

    def assign_one(self, features: Mapping[str, float], *, weights: Mapping[str, float] | None = None) -> Assignment:
        """Assign one customer.

        Parameters
        ----------
        features
            Value by name, at least those of the space.
        weights
            Purchases by category, above zero (amounts, or lines where there is no money), as the batch weighs them.

        Raises
        ------
        RunError
            A feature of the space is missing or not finite.
        """
        point = self.axes(features, weights=weights)[None]
        number = self.assign(point)
        segment, macro, need = (of[number[0]] for of in (self._model.segments, self._model.macro, self._model.need))
        return Assignment(segment, macro, need or None, float(self.agreement(point, self.codes[number])[0]))

    def axes(self, features: Mapping[str, float], *, weights: Mapping[str, float] | None = None) -> np.ndarray:
        """Return one customer's coordinates in the space; parameters and errors as in `assign_one`."""
        linear = self.map
        try:
            values = np.array([features[name] for name in linear.features], dtype=float)
        except KeyError as error:
            raise RunError(
                f"features: no {error.args[0]!r}, which the model reads. Give the source of the run."
            ) from None
        if not np.isfinite(values).all():
            bad = sorted({name for name, value in zip(linear.features, values, strict=True) if not np.isfinite(value)})
            raise RunError(f"features: {bad[0]!r} is missing or not finite. Check the amounts and quantities.")
        axes = linear.z_scores(values) @ linear.behaviour + linear.constant
        amounts: dict[int, float] = {}
        for category, weight in (weights or {}).items():
            for i in self.terms_of(category) if weight > 0 else ():
                amounts[i] = amounts.get(i, 0.0) + float(weight)
        if amounts:
            rows = np.fromiter(amounts, dtype=np.int64, count=len(amounts))
            bought = np.fromiter(amounts.values(), dtype=float, count=len(amounts))
            axes += np.log1p(bought) @ linear.logs[rows] + np.sqrt(bought / bought.sum()) @ linear.shares[rows]
        return axes

    def terms_of(self, category: str) -> tuple[int, ...]:
        """Return the numbers of a category's terms, cached because the same categories occur again and again."""
        if category not in self._terms_of:
            names = split_words(category) if self.map.words else [category]
            self._terms_of[category] = tuple(self._position[name] for name in names if name in self._position)
        return self._terms_of[category]

    @cached_property
    def _position(self) -> dict[str, int]:
        return {term: i for i, term in enumerate(self.map.terms)}


def to_linear_map(space: Space, *, with_outcomes: bool = False) -> LinearMap:
    """Multiply a space out to one linear map.

    Parameters
    ----------
    space
        Maps features to expected outcomes, and these to axes.
    with_outcomes
        Return the expected outcomes less their centre too, after the axes.
    """
    rotation = space.rotation
    if with_outcomes:
        rotation = np.hstack([rotation, np.eye(len(rotation), len(space.outcome_names))])
    return LinearMap(
        features=tuple(space.features),
        skewed=are_skewed(space.features),
        mean=space.mean,
        scale=space.scale,
        behaviour=space.behaviour_outcomes @ rotation,
        terms=tuple(space.terms),
        words=space.words,
        logs=space.log_outcomes @ rotation,
        shares=space.share_outcomes @ rotation,
        constant=(space.constant_outcomes - space.centre) @ rotation,
    )


def assign_segments(
    model: SegmentModel, customers: CustomerData, *, previous_segment: pd.Series | None = None
) -> pd.DataFrame:
    """Assign a segment to every customer, also to those the fit has not seen.

    Parameters
    ----------
    model
        The segments and the space they lie in.
    customers
        Features at any date, at least those of the space.
    previous_segment
        Segment in the previous run by customer_id, which customers keep near a border.

    Returns
    -------
    pandas.DataFrame
        segment, macro_segment, need (id or null) and confidence (share of subsamples that agree, 0-1), by customer_id.
    """
    return assign_points(model, coordinates(model.space, customers), previous_segment=previous_segment)


def assign_points(
    model: SegmentModel, axes: pd.DataFrame, *, previous_segment: pd.Series | None = None
) -> pd.DataFrame:
    """Assign a segment to customers whose coordinates are known; otherwise as `assign_segments`."""
    points, assigner = axes.to_numpy(dtype=float), Assigner(model)
    codes = (
        None
        if previous_segment is None
        else pd.Index(list(assigner.code)).get_indexer(previous_segment.reindex(axes.index))
    )
    number = assigner.assign(points, previous_codes=codes)
    return pd.DataFrame(
        {
            "segment": np.array(model.segments, dtype=object)[number],
            "macro_segment": np.array(model.macro, dtype=object)[number],
            "need": np.array([need or None for need in model.need], dtype=object)[number],
            "confidence": assigner.agreement(points, assigner.codes[number]),
        },
        index=axes.index,
    )


def nearest_centre(
    points: np.ndarray,
    centres: np.ndarray,
    *,
    borders: np.ndarray | None = None,
    level: np.ndarray | None = None,
) -> np.ndarray:
    """Return the number of the nearest centre (squared Euclidean distance); of equally near ones the first.

    Distances within `TIE` of the least count as equal, so that a batch, one customer and SQL, which round differently
    in the last digits, agree on ties too.

    Parameters
    ----------
    points, centres
        Coordinates, customers x axes and centres x axes.
    borders, level
        Borders of levels on the first axis, and the level of each centre: only centres of the customer's level count.
    """
    return _nearest(points, _centres_of(centres), borders=borders, level=level)


@dataclass(frozen=True)
class _Centres:
    """Centres prepared for distances: `towards` is axes x centres, times -2; `sizes` are their squared lengths."""

    towards: np.ndarray
    sizes: np.ndarray

    def distances(self, points: np.ndarray) -> np.ndarray:
        """Return squared distances less the square of the point, which is the same for every centre."""
        return (points @ self.towards).reshape(len(points), *self.sizes.shape) + self.sizes


def _centres_of(centres: np.ndarray) -> _Centres:
    """Prepare centres for distances."""
    return _Centres(-2.0 * centres.reshape(-1, centres.shape[-1]).T, np.square(centres).sum(axis=-1))


def _nearest(
    points: np.ndarray, centres: _Centres, *, borders: np.ndarray | None = None, level: np.ndarray | None = None
) -> np.ndarray:
    """Return the number of each point's nearest centre in its level."""
    found = [
        _first_least(_in_level(centres.distances(points[rows]), points[rows], borders=borders, level=level))
        for rows in _slices(points, centres)
    ]
    return found[0] if len(found) == 1 else np.concatenate(found)


def _in_level(
    distances: np.ndarray, points: np.ndarray, *, borders: np.ndarray | None, level: np.ndarray | None
) -> np.ndarray:
    """Return the distances (customers x ... x centres) with those to centres of other levels made infinite."""
    if borders is None or level is None or not borders.size:
        return distances
    own = (points[:, :1, None] >= borders[None] - TIE).sum(axis=2)  # customers x subsamples, or x 1
    other = own[..., None] != np.atleast_2d(level)[None]
    return np.where(other.reshape(distances.shape), np.inf, distances)


def _first_least(distances: np.ndarray) -> np.ndarray:
    """Return the position of the smallest distance; of those within `TIE` of it the first."""
    return (distances <= np.minimum.reduce(distances, axis=-1, keepdims=True) + TIE).argmax(axis=-1)


def _slices(points: np.ndarray, centres: _Centres) -> list[slice]:
    """Return slices of rows whose distances fit in memory; one empty slice where there are no points."""
    step = max(CELLS_AT_ONCE // max(centres.sizes.size, 1), 1)
    return [slice(start, start + step) for start in range(0, max(len(points), 1), step)]


def _centres_by_subsample(model: SegmentModel, *, codes: np.ndarray) -> tuple[_Centres, np.ndarray, np.ndarray]:
    """Return centres by subsample, and the code (-1 and far for none) and level of each (subsamples x centres)."""
    subsamples, number = np.unique(model.bag_of, return_inverse=True)
    order = np.argsort(number, kind="stable")
    number = number[order]
    cells = number, np.arange(len(number)) - np.searchsorted(number, number)
    shape = len(subsamples), int(np.bincount(number).max(initial=0))
    centres, segment_codes = np.zeros((*shape, model.centres.shape[1])), np.full(shape, -1)
    centres[cells], segment_codes[cells] = model.bag_centres[order], codes[model.bag_segment[order]]
    levels = np.zeros(shape, dtype=np.int64)
    levels[cells] = model.level[model.bag_segment[order]]
    made = _centres_of(centres)
    made.sizes[segment_codes < 0] = np.inf
    return made, segment_codes, levels


def model_to_arrays(model: SegmentModel) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the model as arrays and JSON values, as a run folder stores it; `model_from_arrays` reads it back."""
    parts = {f"space_{k}": v for k, v in asdict(model.space).items()}
    parts |= {k: v for k, v in asdict(model).items() if k != "space"}
    arrays = {k: v for k, v in parts.items() if isinstance(v, np.ndarray)}
    meta = {k: list(v) if isinstance(v, tuple) else v for k, v in parts.items() if k not in arrays}
    return arrays, meta


def model_from_arrays(arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> SegmentModel:
    """Build a model from a run folder's arrays and values; other entries there are ignored.

    Raises
    ------
    RunError
        Parts are missing: the model was made by another version.
    """
    stored = {**arrays, **{k: tuple(v) if isinstance(v, list) else v for k, v in meta.items()}}
    required = [f"space_{each.name}" for each in fields(Space)]
    required += [each.name for each in fields(SegmentModel) if each.name != "space"]
    missing = sorted(set(required) - set(stored))
    if missing:
        raise RunError(
            f"model: there is no {', '.join(missing[:3])} in it, so another version of segkit made it. "
            f"Repeat that run, or give another one (--previous none starts without)."
        )
    bad = sorted(name for name in required if not _is_usable(stored[name]))
    space = Space(**{each.name: stored[f"space_{each.name}"] for each in fields(Space)})
    bad = bad or _misfits(space, **{name: stored[name] for name in required if not name.startswith("space_")})
    if bad:
        raise RunError(
            f"model/arrays.npz and model.json: {', '.join(bad[:3])} cannot be read as a model, so somebody changed "
            "them. Make the run again, or restore both files."
        )
    return SegmentModel(space=space, **{f.name: stored[f.name] for f in fields(SegmentModel) if f.name != "space"})


OPTIONAL_PARTS = ("bag_centres", "bag_of", "bag_segment", "bag_borders")  # a model without subsamples has none


def _is_usable(value: Any) -> bool:
    """Return whether a part of a stored model is a flag, texts, or finite numbers."""
    if isinstance(value, np.ndarray):
        return np.issubdtype(value.dtype, np.number) and bool(np.isfinite(value).all())
    return isinstance(value, bool) or (isinstance(value, tuple) and all(isinstance(each, str) for each in value))


def _misfits(space: Space, **parts: Any) -> list[str]:
    """Name the parts of a model whose shape does not fit the others."""
    if not all(isinstance(part, np.ndarray) for part in (parts["centres"], space.rotation, space.constant_outcomes)):
        return ["centres", "rotation"]
    features, terms, outcomes = len(space.features), len(space.terms), len(space.constant_outcomes)
    segments, subsamples = len(parts["segments"]), len(np.unique(parts["bag_of"]))
    axes, clusters = space.rotation.shape[-1], len(np.atleast_1d(parts["bag_of"]))
    borders = len(np.atleast_1d(parts["borders"]))
    shapes = {
        "space_mean": (features,),
        "space_scale": (features,),
        "space_behaviour_outcomes": (features, outcomes),
        "space_log_outcomes": (terms, outcomes),
        "space_share_outcomes": (terms, outcomes),
        "space_constant_outcomes": (outcomes,),
        "space_rotation": (outcomes, axes),
        "space_centre": (outcomes,),
        "macro": (segments,),
        "need": (segments,),
        "centres": (segments, axes),
        "level": (segments,),
        "borders": (borders,),
        "bag_centres": (clusters, axes),
        "bag_of": (clusters,),
        "bag_segment": (clusters,),
        "bag_borders": (subsamples, borders),
    }
    stored = {**{f"space_{name}": value for name, value in vars(space).items()}, **parts}
    found = [
        name
        for name, shape in shapes.items()
        if np.shape(stored[name]) != shape and (np.size(stored[name]) or name not in OPTIONAL_PARTS)
    ]
    numbers = {"bag_segment": segments, "level": borders + 1}
    return found + [
        n
        for n, most in numbers.items()
        if np.size(stored[n]) and not 0 <= np.min(stored[n]) <= np.max(stored[n]) < most
    ]
