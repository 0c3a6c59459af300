"""Assign customers to the segments of a fitted model."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from segkit.customers.anticipation import Space, are_skewed, coordinates, z_scores
from segkit.customers.category_mix import split_words
from segkit.customers.features import CustomerData
from segkit.errors import RunError

CELLS_AT_ONCE = 4_000_000  # distances (customers x centres) are computed in slices of this many
# Of the distance to the nearest centre, by how much that of the old segment may be longer: the widest border tried that
# costs at most .005 of R2 on both data sets of benchmarks/staying.py.
BORDER_WIDTH = 0.1
TIE = 1e-6  # squared distances closer than this are equal: far above what runtimes differ by, far below what matters


@dataclass(frozen=True)
class SegmentModel:
    """All that is needed to place a customer; plain arrays, nothing executable.

    Parameters
    ----------
    space : from features to coordinates
    segments, macro : id of each centre, and the macro bucket it sits in
    centres : segments x axes
    bag_centres, bag_of, bag_segment : every centre of every bag, its bag, and the number of the segment it went to
    """

    space: Space
    segments: tuple[str, ...]
    macro: tuple[str, ...]
    centres: np.ndarray
    bag_centres: np.ndarray
    bag_of: np.ndarray
    bag_segment: np.ndarray


@dataclass(frozen=True)
class Folded:
    """A space as one linear map from the features and purchases of a customer to coordinates.

    Parameters
    ----------
    features, skewed, mean, scale : of the z-scores; skewed features are read as log(1 + value)
    behaviour, logs, shares : z-scores, log(1 + amount) of terms and square-root shares of terms to axes
    constant : added to the axes
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
        """Clipped z-scores of feature values, customers x features."""
        return z_scores(values, skewed=self.skewed, mean=self.mean, scale=self.scale)


@dataclass(frozen=True)
class Placement:
    """The segment of one customer, and which share of the bags agrees."""

    segment: str
    macro_segment: str
    confidence: float


class Placer:
    """A model prepared to assign any number of customers, also one at a time.

    Parameters
    ----------
    model
        The segments and the space they lie in.
    with_outcomes
        The map also gives the expected outcomes less their centre, after the axes.
    """

    def __init__(self, model: SegmentModel, *, with_outcomes: bool = False) -> None:
        self._model, self._with_outcomes = model, with_outcomes
        self._terms_of: dict[str, tuple[int, ...]] = {}
        names, self.codes = np.unique(model.segments, return_inverse=True)  # merged segments share an id
        self.code = {name: code for code, name in enumerate(names.tolist())}
        self._centres = _centres_of(model.centres)
        self._bags, self._bag_codes = _by_bag(model, codes=self.codes)
        self._bag_numbers = np.arange(len(self._bag_codes))

    @cached_property
    def map(self) -> Folded:
        """The space of the model as one linear map."""
        return fold(self._model.space, with_outcomes=self._with_outcomes)

    def assign(self, points: np.ndarray, *, home: np.ndarray | None = None) -> np.ndarray:
        """Number of the centre that each customer belongs to.

        Parameters
        ----------
        points
            Coordinates, customers x axes.
        home
            Code (`self.code`) of the segment that each customer has in the run before, and keeps at a border; -1 for
            none.
        """
        found = []
        for rows in _slices(points, self._centres):
            part = points[rows]
            gaps = self._centres.gaps(part)
            number = _first_least(gaps)
            if home is not None and ((home[rows] >= 0) & (self.codes[number] != home[rows])).any():
                squares = np.maximum(gaps + np.square(part).sum(axis=1, keepdims=True), 0.0)
                number = keep_previous_segment(squares, number, codes=self.codes, previous_code=home[rows])
            found.append(number)
        return found[0] if len(found) == 1 else np.concatenate(found)

    def agreement(self, points: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """Share of the bags whose own nearest centre went to the same segment; 0 where no bag found anything.

        Parameters
        ----------
        points
            Coordinates, customers x axes.
        codes
            Of the segment of each customer.
        """
        bags = len(self._bag_codes)
        if not bags:
            return np.zeros(len(points))
        went = self._bag_codes[self._bag_numbers, _nearest(points, self._bags)]
        return (np.add.reduce(went == codes[:, None], axis=1) / bags).round(6)

    def place(self, features: Mapping[str, float], *, weights: Mapping[str, float] | None = None) -> Placement:
        """Place one customer.

        Parameters
        ----------
        features
            Value by name, at least those of the space.
        weights
            What was bought by category, above zero (amounts, or lines where there is no money), as the batch weighs it.

        Raises
        ------
        RunError
            A feature of the space is missing or not finite.
        """
        at = self.axes(features, weights=weights)[None]
        number = self.assign(at)
        segment, macro = self._model.segments[number[0]], self._model.macro[number[0]]
        return Placement(segment, macro, float(self.agreement(at, self.codes[number])[0]))

    def axes(self, features: Mapping[str, float], *, weights: Mapping[str, float] | None = None) -> np.ndarray:
        """Coordinates of one customer in the anticipation space; parameters and errors as in `place`."""
        known = self.map
        try:
            values = np.array([features[name] for name in known.features], dtype=float)
        except KeyError as error:
            raise RunError(
                f"features: no {error.args[0]!r}, which the model is made of. Give the run's source."
            ) from None
        if not np.isfinite(values).all():
            bad = sorted({name for name, value in zip(known.features, values, strict=True) if not np.isfinite(value)})
            raise RunError(f"features: {bad[0]!r} is missing or not finite. Check the amounts and quantities.")
        at = known.z_scores(values) @ known.behaviour + known.constant
        amounts: dict[int, float] = {}
        for category, weight in (weights or {}).items():
            for i in self.terms_of(category) if weight > 0 else ():
                amounts[i] = amounts.get(i, 0.0) + float(weight)
        if amounts:
            rows = np.fromiter(amounts, dtype=np.int64, count=len(amounts))
            bought = np.fromiter(amounts.values(), dtype=float, count=len(amounts))
            at += np.log1p(bought) @ known.logs[rows] + np.sqrt(bought / bought.sum()) @ known.shares[rows]
        return at

    def terms_of(self, category: str) -> tuple[int, ...]:
        """Numbers of the terms of a category; kept, as the same categories occur again and again."""
        if category not in self._terms_of:
            names = split_words(category) if self.map.words else [category]
            self._terms_of[category] = tuple(self._position[name] for name in names if name in self._position)
        return self._terms_of[category]

    @cached_property
    def _position(self) -> dict[str, int]:
        return {term: i for i, term in enumerate(self.map.terms)}


def fold(space: Space, *, with_outcomes: bool = False) -> Folded:
    """Multiply a space out to one linear map.

    Parameters
    ----------
    space
        From signals to expected outcomes, and from these to axes.
    with_outcomes
        Give the expected outcomes less their centre too, after the axes.
    """
    to = space.rotation
    if with_outcomes:
        to = np.hstack([to, np.eye(len(to), len(space.outcome_names))])
    return Folded(
        features=tuple(space.features),
        skewed=are_skewed(space.features),
        mean=space.mean,
        scale=space.scale,
        behaviour=space.behaviour_outcomes @ to,
        terms=tuple(space.terms),
        words=space.words,
        logs=space.log_outcomes @ to,
        shares=space.share_outcomes @ to,
        constant=(space.constant_outcomes - space.centre) @ to,
    )


def assign_segments(
    model: SegmentModel, customers: CustomerData, *, previous_segment: pd.Series | None = None
) -> pd.DataFrame:
    """Assign a segment to everyone, also to customers that the fit has not seen.

    Takes  model; signals of any date with the features of the model's space
    Gives  one row per customer, indexed by customer_id: segment, macro_segment, confidence (0-1: share of bags that
           agree)

    Parameters
    ----------
    home : segment by customer_id that they have in the run before, and keep at a border
    """
    return assign_points(model, coordinates(model.space, customers), previous_segment=previous_segment)


def assign_points(
    model: SegmentModel, axes: pd.DataFrame, *, previous_segment: pd.Series | None = None
) -> pd.DataFrame:
    """The same for customers whose coordinates are known."""
    points, placer = axes.to_numpy(dtype=float), Placer(model)
    codes = (
        None
        if previous_segment is None
        else pd.Index(list(placer.code)).get_indexer(previous_segment.reindex(axes.index))
    )
    number = placer.assign(points, home=codes)
    return pd.DataFrame(
        {
            "segment": np.array(model.segments, dtype=object)[number],
            "macro_segment": np.array(model.macro, dtype=object)[number],
            "confidence": placer.agreement(points, placer.codes[number]),
        },
        index=axes.index,
    )


def nearest_centre(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Number of the nearest centre (squared Euclidean distance); of equally near ones the first.

    Distances within `TIE` of the least count as equal, so that a batch, one customer and SQL, which round differently
    in the last digits, agree on ties too.
    """
    return _nearest(points, _centres_of(centres))


def keep_previous_segment(
    squares: np.ndarray, number: np.ndarray, *, codes: np.ndarray, previous_code: np.ndarray
) -> np.ndarray:
    """Number of the centre where those who are at a border keep the segment they had.

    Takes  squares: squared distances, customers x centres; number: of the nearest; codes: segment of each centre; home:
           code of the segment that each customer had, -1 for none
    """
    own = np.where(codes == previous_code[:, None], squares, np.inf)
    near = squares[np.arange(len(number)), number]
    keeps_previous = own.min(axis=1) <= (1 + BORDER_WIDTH) ** 2 * near + TIE
    return np.where(keeps_previous & (codes[number] != previous_code), own.argmin(axis=1), number)


@dataclass(frozen=True)
class _Centres:
    """Centres for distances: `towards` is axes x centres, times -2; `sizes` their squares, flat or bags x centres."""

    towards: np.ndarray
    sizes: np.ndarray

    def gaps(self, points: np.ndarray) -> np.ndarray:
        """Squared distances less the square of the point, which is the same for every centre."""
        return (points @ self.towards).reshape(len(points), *self.sizes.shape) + self.sizes


def _centres_of(centres: np.ndarray) -> _Centres:
    return _Centres(-2.0 * centres.reshape(-1, centres.shape[-1]).T, np.square(centres).sum(axis=-1))


def _nearest(points: np.ndarray, centres: _Centres) -> np.ndarray:
    found = [_first_least(centres.gaps(points[rows])) for rows in _slices(points, centres)]
    return found[0] if len(found) == 1 else np.concatenate(found)


def _first_least(gaps: np.ndarray) -> np.ndarray:
    return (gaps <= np.minimum.reduce(gaps, axis=-1, keepdims=True) + TIE).argmax(axis=-1)


def _slices(points: np.ndarray, centres: _Centres) -> list[slice]:
    """Rows whose distances fit in memory; one empty slice where there are no points."""
    step = max(CELLS_AT_ONCE // max(centres.sizes.size, 1), 1)
    return [slice(start, start + step) for start in range(0, max(len(points), 1), step)]


def _by_bag(model: SegmentModel, *, codes: np.ndarray) -> tuple[_Centres, np.ndarray]:
    """Centres by bag, and the code of the segment that each went to, bags x centres; where a bag has fewer centres than
    others, the rest is infinitely far.
    """
    bags, bag = np.unique(model.bag_of, return_inverse=True)
    order = np.argsort(bag, kind="stable")
    bag = bag[order]
    at = bag, np.arange(len(bag)) - np.searchsorted(bag, bag)
    shape = len(bags), int(np.bincount(bag).max(initial=0))
    centres, went = np.zeros((*shape, model.centres.shape[1])), np.full(shape, -1)
    centres[at], went[at] = model.bag_centres[order], codes[model.bag_segment[order]]
    made = _centres_of(centres)
    made.sizes[went < 0] = np.inf
    return made, went


def model_to_arrays(model: SegmentModel) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The model as arrays and plain values, as a run folder keeps it; `model_from` reads it back."""
    parts = {f"space_{k}": v for k, v in asdict(model.space).items()}
    parts |= {k: v for k, v in asdict(model).items() if k != "space"}
    arrays = {k: v for k, v in parts.items() if isinstance(v, np.ndarray)}
    meta = {k: list(v) if isinstance(v, tuple) else v for k, v in parts.items() if k not in arrays}
    return arrays, meta


def model_from_arrays(arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> SegmentModel:
    """The model of a run folder's arrays and values; what else stands beside it there is left out.

    Raises
    ------
    RunError : parts are missing: another version made it
    """
    stored = {**arrays, **{k: tuple(v) if isinstance(v, list) else v for k, v in meta.items()}}
    needed = [f"space_{field.name}" for field in fields(Space)]
    needed += [field.name for field in fields(SegmentModel) if field.name != "space"]
    missing = sorted(set(needed) - set(stored))
    if missing:
        raise RunError(
            f"model: there is no {', '.join(missing[:3])} in it, so another version of segkit made it. "
            f"Make that run again, or give another (--previous none does without)."
        )
    space = Space(**{field.name: stored[f"space_{field.name}"] for field in fields(Space)})
    return SegmentModel(space=space, **{f.name: stored[f.name] for f in fields(SegmentModel) if f.name != "space"})
