"""Where one live customer stands: segment and expectations, what moved them from one to the other, in plain words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import log, log1p, sqrt
from operator import itemgetter
from typing import Any

import numpy as np

from segkit import format as fmt
from segkit.live.customer import Customer, WeightTally
from segkit.segments.model import Assigner, LinearMap, SegmentModel
from segkit.vocabulary import describe

STEP = log(2.0)  # an expectation that halves or doubles crosses a threshold
LEVELS = {-1: "halved", 0: "as before", 1: "doubled"}
REASONS = 3  # named of what moved a customer
FEW_DAYS = 2.0  # active days that are worth as much as what is not known of a newcomer


Assignment = tuple[str | None, list[int], list[float] | None]  # segment, level of each expectation, that of the run


@dataclass
class CustomerView:
    """What was seen of a customer at one moment: features and tastes at once, the rest by `Places.fill`.

    Parameters
    ----------
    features : as the batch has them; none where nothing of their own lies in the lookback
    part : of the coordinates, what tastes add
    taste, undo : what was bought by term; and of the terms that changed since, what they were
    home : code of their segment in the run, which they keep at a border; -1 for none
    at : coordinates, and behind them the expected outcomes less their centre
    segment : None where there are no features
    expected : log(1 + amount) of each outcome in the next horizon
    """

    features: Mapping[str, float]
    part: np.ndarray
    taste: "CategoryMix"
    undo: Mapping[int, int] = field(default_factory=dict)
    previous_code: int = -1
    coordinates: np.ndarray | None = None
    segment: str | None = None
    expected: list[float] = field(default_factory=list)


class CategoryMix:
    """What one customer bought by term, and its part of the coordinates, kept up to date change by change."""

    def __init__(self, space_map: LinearMap, terms_of: Callable[[str], tuple[int, ...]], *, unit: int) -> None:
        self._space_map, self._terms_of, self._unit = space_map, terms_of, unit
        self._weight: dict[str, int] = {}  # by category, as last followed
        self.amounts: dict[int, int] = {}  # by term, in whole parts
        self._logs, self._roots = np.zeros(space_map.logs.shape[1]), np.zeros(space_map.logs.shape[1])
        self._whole = 0

    def follow(self, bought: WeightTally) -> dict[int, int]:
        """Take over what changed; gives what the changed terms were before."""
        undo: dict[int, int] = {}
        for category in bought.changed:
            new = bought.weight.get(category, 0)
            more = new - self._weight.get(category, 0)
            self._weight[category] = new
            for term in self._terms_of(category) if more else ():
                undo.setdefault(term, self.amounts.get(term, 0))
                self.amounts[term] = self.amounts.get(term, 0) + more
                self._whole += more
        bought.changed.clear()
        if len(undo) == 1:
            self._move(*undo.items())
        elif undo:
            self._move_all(undo)
        return undo

    def part(self) -> np.ndarray:
        """Of the coordinates: log(1 + amount) and square-root shares, through their maps."""
        return self._logs + self._roots / sqrt(self._whole) if self._whole > 0 else self._logs

    def _move(self, changed: tuple[int, int]) -> None:
        term, old = changed
        old, new = old / self._unit, self.amounts[term] / self._unit
        self._logs += (log1p(new) - log1p(old)) * self._space_map.logs[term]
        self._roots += (sqrt(new) - sqrt(old)) * sqrt(self._unit) * self._space_map.shares[term]

    def _move_all(self, undo: Mapping[int, int]) -> None:
        terms = list(undo)
        old = np.array(list(undo.values())) / self._unit
        new = np.array([self.amounts[term] for term in terms]) / self._unit
        self._logs += (np.log1p(new) - np.log1p(old)) @ self._space_map.logs[terms]
        self._roots += (np.sqrt(new) - np.sqrt(old)) * sqrt(self._unit) @ self._space_map.shares[terms]


class LiveAssigner:
    """Places customers under a standing model, and gives reasons for what changed."""

    def __init__(self, model: SegmentModel, *, lookback_days: int, unit: int) -> None:
        space = model.space
        self.axes, self.outcomes = space.rotation.shape[1], tuple(space.outcome_names)
        self._placer = Assigner(model, with_outcomes=True)
        self._map, self._model = self._placer.map, model
        self._lookback_days, self._unit = lookback_days, unit
        self._values = itemgetter(*space.features) if len(space.features) > 1 else _only(space.features)
        self._middle = space.centre[: len(self.outcomes)]
        self._centres = {name: model.centres[i] for i, name in reversed(list(enumerate(model.segments)))}

    def new_category_mix(self) -> CategoryMix:
        """The taste of a customer who bought nothing yet."""
        return CategoryMix(self._map, self._placer.terms_of, unit=self._unit)

    def observe(self, customer: Customer, taste: CategoryMix, *, home: str | None = None) -> CustomerView:
        """Look at a customer; their taste must have followed them. `fill` says where they stand.

        Parameters
        ----------
        home : their segment in the run
        """
        return CustomerView(customer.features(), taste.part(), taste, previous_code=self._placer.code.get(home, -1))

    def assign_one(self, customer: Customer, taste: CategoryMix, *, home: str | None = None) -> CustomerView:
        """Look at a customer, and say where they stand."""
        look = self.observe(customer, taste, home=home)
        self.assign([look])
        return look

    def assign(self, looks: list[CustomerView]) -> None:
        """Say where customers stand, many at once; each by itself, so that the others do not matter."""
        with_features = [look for look in looks if look.features]
        if not with_features:
            return
        space_map, axes = self._map, self.axes
        values = np.array([self._values(look.features) for look in with_features], dtype=float)
        at = (
            np.einsum("ij,jk->ik", space_map.z_scores(values), space_map.behaviour) + space_map.constant
        )  # no BLAS: it would
        at += np.array([look.part for look in with_features])  # round differently by how many there are
        number = self._placer.assign(
            at[:, :axes], previous_codes=np.array([look.previous_code for look in with_features])
        ).tolist()
        expected = (at[:, axes:] + self._middle).round(9).tolist()
        for look, point, i, expectations in zip(with_features, at, number, expected, strict=True):
            look.coordinates, look.segment, look.expected = point, self._model.segments[i], expectations

    def confidence(self, look: CustomerView, *, in_run: bool = True) -> float:
        """Share of the bags that agree.

        Parameters
        ----------
        known : to the run; a newcomer's is cut by how little is known: a third is left after one day
        """
        if look.coordinates is None:
            return 0.0
        codes = np.array([self._placer.code[look.segment]])
        found = float(self._placer.agreement(look.coordinates[None, : self.axes], codes)[0])
        days = look.features["active_days"]
        return found if in_run else round(found * days / (days + FEW_DAYS), 6)

    def levels(self, expected: list[float], base: list[float]) -> list[int]:
        """Each expectation against that of the run: halved, as before, doubled."""
        return [(e - b >= STEP) - (b - e >= STEP) for e, b in zip(expected, base, strict=True)]

    def has_changed(self, standing: Assignment, now: CustomerView) -> bool:
        """Whether there is anything new about a customer."""
        segment, levels, base = standing
        if segment != now.segment:
            return True
        return now.coordinates is not None and base is not None and self.levels(now.expected, base) != levels

    def describe_changes(
        self, standing: Assignment, before: CustomerView, now: CustomerView, *, known: bool
    ) -> tuple[list[dict[str, Any]], Assignment]:
        """What is new about a customer, with reasons.

        Takes  where they stood when last compared; how they looked then (with that segment), and look now
        Gives  a change of segment and those of expectations, as far as there are any; where they stand now
        """
        segment, levels, base = standing
        found, after = [], levels
        if segment != now.segment:
            why = self.explain_segment(before, now)
            words = format_reasons(why) if now.segment else f"nothing of their own in {self._lookback_days} days"
            moved = {"from": segment, "to": now.segment, "confidence": self.confidence(now, in_run=known)}
            found.append({"kind": "segment", **moved, "because": words, "why": why})
        if now.segment is not None:
            expected = now.expected
            base = expected if base is None else base
            after = self.levels(expected, base)
            for i, outcome in enumerate(self.outcomes):
                if levels[i] != after[i]:
                    why = self.explain_expectation(before, now, outcome=outcome, up=after[i] > levels[i])
                    moved = {"outcome": outcome, "from": LEVELS[levels[i]], "to": LEVELS[after[i]]}
                    moved |= {"expected_at_run": _amount(base[i]), "expected": _amount(expected[i])}
                    found.append({"kind": "prediction", **moved, "because": format_reasons(why), "why": why})
        return found, (now.segment, after, base)

    def explain_segment(self, before: CustomerView, now: CustomerView) -> list[dict[str, Any]]:
        """What moved a customer to a segment: the terms of the difference of distances to the two centres.

        Distances are squared, so that their difference is linear in the coordinates, and these are in z-scores and
        tastes. A newcomer is held against the average customer and the middle of all centres.
        """
        if now.segment is None:
            return []
        middle = np.mean(list(self._centres.values()), axis=0)
        start = middle if before.segment is None else self._centres[before.segment]
        return self._explain(before, now, np.append(self._centres[now.segment] - start, np.zeros(len(self.outcomes))))

    def explain_expectation(
        self, before: CustomerView, now: CustomerView, *, outcome: str, up: bool
    ) -> list[dict[str, Any]]:
        """What moved an expectation."""
        towards = np.zeros(self.axes + len(self.outcomes))
        towards[self.axes + self.outcomes.index(outcome)] = 1.0 if up else -1.0
        return self._explain(before, now, towards)

    def _explain(self, before: CustomerView, now: CustomerView, towards: np.ndarray) -> list[dict[str, Any]]:
        pushes = [*self._feature_reasons(before, now, towards), *self._term_reasons(before, now, towards)]
        pushes = sorted((p for p in pushes if p["push"] > 0), key=lambda p: (-p["push"], p["feature"]))
        whole = sum(p["push"] for p in pushes)
        return [{**p, "push": round(p["push"] / whole, 3)} for p in pushes[:REASONS]]

    def _feature_reasons(self, before: CustomerView, now: CustomerView, towards: np.ndarray) -> list[dict[str, Any]]:
        space_map = self._map
        start = self._scores(before) if before.features else np.zeros(len(space_map.features))
        push = (self._scores(now) - start) * (space_map.behaviour @ towards)
        return [
            {
                "feature": name,
                "words": describe(name).label,
                "before": before.features.get(name),
                "now": now.features[name],
                "push": float(push[i]),
            }
            for i, name in enumerate(space_map.features)
        ]

    def _term_reasons(self, before: CustomerView, now: CustomerView, towards: np.ndarray) -> list[dict[str, Any]]:
        space_map = self._map
        amounts = [{**look.taste.amounts, **look.undo} if look.features else {} for look in (before, now)]
        rows = sorted({i for amount in amounts for i, value in amount.items() if value})
        if not rows:
            return []
        values = [np.array([a.get(i, 0) / self._unit for i in rows]) for a in amounts]
        logs = np.log1p(values[1]) - np.log1p(values[0])
        shares = [np.sqrt(v / (v.sum() or 1.0)) for v in values]
        push = logs * (space_map.logs[rows] @ towards) + (shares[1] - shares[0]) * (space_map.shares[rows] @ towards)
        named = zip(rows, *values, push, strict=True)
        return [
            {
                "feature": f"bought: {space_map.terms[i]}",
                "words": f"bought: {space_map.terms[i].lower()}",
                "before": float(was) if before.features else None,
                "now": float(is_),
                "push": float(p),
            }
            for i, was, is_, p in named
        ]

    def _scores(self, look: CustomerView) -> np.ndarray:
        return self._map.z_scores(np.array([self._values(look.features)], dtype=float))[0]


def _only(names: tuple[str, ...]) -> Callable[[Mapping[str, float]], list[float]]:
    return lambda features: [features[name] for name in names]


def _amount(log: float) -> float:
    return round(float(np.expm1(log)), 2)


def format_reasons(why: list[dict[str, Any]]) -> str:
    """Reasons in one line: "days since they last came: 3 → 61; orders lately: 5 → 0"."""
    parts = []
    for one in why:
        form = fmt.formatter_for(describe(one["feature"]).unit)
        before = "" if one["before"] is None else f"{form(one['before'])} → "
        parts.append(f"{one['words']}: {before}{form(one['now'])}".replace(fmt.SPACE, " "))
    return "; ".join(parts)
