"""One customer at a time: the model folded to one linear map, so that a placement takes far less than a millisecond."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from segkit.customers.anticipate import CLIP, Space
from segkit.customers.terms import words_of
from segkit.errors import RunError
from segkit.segments.place import TIE, SegmentModel
from segkit.vocabulary import is_skewed


@dataclass(frozen=True)
class Folded:
    """A space as one linear map from what is known of a customer to coordinates.

    Parameters
    ----------
    features, skewed, mean, scale : of the z-scores, clipped at `CLIP`; skewed ones are read as log(1 + value)
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


@dataclass(frozen=True)
class Placement:
    """Where one customer belongs, and which share of the bags agrees."""

    segment: str
    macro_segment: str
    confidence: float


class Placer:
    """Places customers one by one: the same segments as `place`, from features and amounts by category as dicts."""

    def __init__(self, model: SegmentModel) -> None:
        self._model, self._map = model, fold(model.space)
        self._position = {term: i for i, term in enumerate(self._map.terms)}
        self._terms_of: dict[str, tuple[int, ...]] = {}
        self._codes = np.unique(model.segments, return_inverse=True)[1]
        order = np.argsort(model.bag_of, kind="stable")
        self._bag_centres, bag = model.bag_centres[order], model.bag_of[order]
        self._bag_codes = self._codes[model.bag_segment[order]]
        self._starts = np.flatnonzero(np.diff(bag, prepend=-1))
        self._bag = np.cumsum(np.diff(bag, prepend=-1) != 0) - 1
        self._sizes, self._bag_sizes = (np.square(c).sum(axis=1) for c in (model.centres, self._bag_centres))

    def place(self, features: Mapping[str, float], *, weights: Mapping[str, float] | None = None) -> Placement:
        """Place one customer.

        Takes  features: name -> value, at least those of the space; weights: category -> what was bought, above zero
               (amounts, or lines where there is no money), as the batch weighs it
        Gives  Placement

        Raises
        ------
        RunError : a feature of the space is missing or not finite
        """
        return self.place_at(self.axes(features, weights=weights))

    def place_at(self, at: np.ndarray) -> Placement:
        """The same for a customer whose coordinates are known."""
        number = int((_from(at, self._model.centres, self._sizes) <= 0).argmax())
        agreed = self._agreed(at, self._codes[number]) if len(self._starts) else 0.0
        return Placement(self._model.segments[number], self._model.macro[number], round(agreed, 6))

    def agreed(self, at: np.ndarray, *, segment: str) -> float:
        """Share of the bags whose own nearest centre went to a segment."""
        code = self._codes[self._model.segments.index(segment)]
        return round(self._agreed(at, code), 6) if len(self._starts) else 0.0

    def axes(self, features: Mapping[str, float], *, weights: Mapping[str, float] | None = None) -> np.ndarray:
        """Coordinates of one customer in the anticipation space."""
        known = self._map
        try:
            values = np.array([features[name] for name in known.features], dtype=float)
        except KeyError as error:
            raise RunError(
                f"features: no {error.args[0]!r}, which the model is made of. Give the run's source."
            ) from None
        if not np.isfinite(values).all():
            bad = sorted({name for name, value in zip(known.features, values, strict=True) if not np.isfinite(value)})
            raise RunError(f"features: {bad[0]!r} is missing or not finite. Check the amounts and quantities.")
        values = np.where(known.skewed, np.log1p(np.maximum(values, 0.0)), values)
        scores = (values - known.mean) / known.scale
        at = np.minimum(np.maximum(scores, -CLIP), CLIP) @ known.behaviour + known.constant
        amounts = self._by_term(weights or {})
        if amounts:
            rows = np.fromiter(amounts, dtype=np.int64, count=len(amounts))
            bought = np.fromiter(amounts.values(), dtype=float, count=len(amounts))
            at += np.log1p(bought) @ known.logs[rows] + np.sqrt(bought / bought.sum()) @ known.shares[rows]
        return at

    def _by_term(self, weights: Mapping[str, float]) -> dict[int, float]:
        amounts: dict[int, float] = {}
        for category, weight in weights.items():
            if weight > 0:
                for i in self.terms_of(category):
                    amounts[i] = amounts.get(i, 0.0) + float(weight)
        return amounts

    def terms_of(self, category: str) -> tuple[int, ...]:
        """Numbers of the terms of a category; remembered, as the same categories come again and again."""
        if category not in self._terms_of:
            names = words_of(category) if self._map.words else [category]
            self._terms_of[category] = tuple(self._position[name] for name in names if name in self._position)
        return self._terms_of[category]

    def _agreed(self, at: np.ndarray, code: int) -> float:
        """Share of the bags whose nearest centre went to the segment."""
        gaps = self._bag_sizes - 2.0 * (self._bag_centres @ at)
        near = gaps <= np.minimum.reduceat(gaps, self._starts)[self._bag] + TIE
        first = np.minimum.reduceat(np.where(near, np.arange(len(gaps)), len(gaps)), self._starts)
        return float((self._bag_codes[first] == code).mean())


def fold(space: Space) -> Folded:
    """A space as one linear map: what lies between signals and axes is multiplied out."""
    return Folded(
        features=tuple(space.features),
        skewed=np.array([is_skewed(name) for name in space.features], dtype=bool),
        mean=space.mean,
        scale=space.scale,
        behaviour=space.behaviour_outcomes @ space.rotation,
        terms=tuple(space.terms),
        words=space.words,
        logs=space.log_outcomes @ space.rotation,
        shares=space.share_outcomes @ space.rotation,
        constant=(space.constant_outcomes - space.centre) @ space.rotation,
    )


def _from(at: np.ndarray, centres: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Squared distances less the least and `TIE`: at most zero for those that count as nearest."""
    gaps = sizes - 2.0 * (centres @ at)
    return gaps - (gaps.min() + TIE)
