"""Assign one live customer to a segment and explain each change in plain words."""

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
MAX_REASONS = 3  # named in a change
PRIOR_DAYS = 2.0  # active days at which the confidence in a new customer is halved


# segment, level of each expectation, expectations at the run
LiveAssignment = tuple[str | None, list[int], list[float] | None]


@dataclass
class CustomerView:
    """One customer at one moment; coordinates, segment and expectations are filled in by `LiveAssigner.assign`.

    Parameters
    ----------
    features
        As in the batch; empty if the customer has no event of their own in the lookback.
    mix, undo
        Amounts by term; and of the terms that changed since, the amounts before.
    previous_code
        Code of the segment in the run, kept near a border; -1 for none.
    coordinates
        Position in the space, followed by the expected outcomes less their centre.
    segment
        None without features; so are the next two.
    macro_segment, need
        The group of the segment, and the id of its need; None where no single one leads.
    expected
        log(1 + amount) of each outcome in the next horizon.
    """

    features: Mapping[str, float]
    mix_part: np.ndarray
    mix: "CategoryMix"
    undo: Mapping[int, int] = field(default_factory=dict)
    previous_code: int = -1
    coordinates: np.ndarray | None = None
    segment: str | None = None
    macro_segment: str | None = None
    need: str | None = None
    expected: list[float] = field(default_factory=list)


class CategoryMix:
    """What one customer bought by term and its contribution to the coordinates, updated change by change."""

    def __init__(self, space_map: LinearMap, terms_of: Callable[[str], tuple[int, ...]], *, unit: int) -> None:
        self._space_map, self._terms_of, self._unit = space_map, terms_of, unit
        self._weight: dict[str, int] = {}  # by category, as last followed
        self.amounts: dict[int, int] = {}  # by term, in whole units
        self._logs, self._roots = np.zeros(space_map.logs.shape[1]), np.zeros(space_map.logs.shape[1])
        self._whole = 0

    def follow(self, bought: WeightTally) -> dict[int, int]:
        """Apply the changes of a tally; return the amounts of the changed terms before."""
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
        """Compute the contribution to the coordinates, from log(1 + amount) and square-root shares."""
        return self._logs + self._roots / sqrt(self._whole) if self._whole > 0 else self._logs.copy()

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
    """Assign live customers with the model of a run, and explain what changed."""

    def __init__(self, model: SegmentModel, *, lookback_days: int, unit: int) -> None:
        space = model.space
        self.axes, self.outcomes = space.rotation.shape[1], tuple(space.outcome_names)
        self._assigner = Assigner(model, with_outcomes=True)
        self._map, self._model = self._assigner.map, model
        self._lookback_days, self._unit = lookback_days, unit
        self._values = itemgetter(*space.features) if len(space.features) > 1 else _only(space.features)
        self._middle = space.centre[: len(self.outcomes)]
        self._centres = {name: model.centres[i] for i, name in reversed(list(enumerate(model.segments)))}

    def new_category_mix(self) -> CategoryMix:
        """Create the category mix of a customer without purchases."""
        return CategoryMix(self._map, self._assigner.terms_of, unit=self._unit)

    def observe(self, customer: Customer, mix: CategoryMix, *, previous: str | None = None) -> CustomerView:
        """Collect the features of a customer, without a segment yet.

        `mix`: the customer's category mix, up to date with their purchases.
        """
        return CustomerView(customer.features(), mix.part(), mix, previous_code=self._assigner.code.get(previous, -1))

    def assign_one(self, customer: Customer, mix: CategoryMix, *, previous: str | None = None) -> CustomerView:
        """Collect the features of a customer and assign a segment."""
        view = self.observe(customer, mix, previous=previous)
        self.assign([view])
        return view

    def assign(self, views: list[CustomerView]) -> None:
        """Assign many customers at once; the result of each does not depend on the others."""
        with_features = [view for view in views if view.features]
        if not with_features:
            return
        space_map, axes = self._map, self.axes
        values = np.array([self._values(view.features) for view in with_features], dtype=float)
        # einsum, as BLAS would round differently by how many customers there are
        at = np.einsum("ij,jk->ik", space_map.z_scores(values), space_map.behaviour) + space_map.constant
        at += np.array([view.mix_part for view in with_features])
        number = self._assigner.assign(
            at[:, :axes], previous_codes=np.array([view.previous_code for view in with_features])
        ).tolist()
        expected = (at[:, axes:] + self._middle).round(9).tolist()
        for view, point, i, expectations in zip(with_features, at, number, expected, strict=True):
            view.coordinates, view.expected = point, expectations
            view.segment, view.macro_segment = self._model.segments[i], self._model.macro[i]
            view.need = self._model.need[i] or None

    def confidence(self, view: CustomerView, *, in_run: bool = True) -> float:
        """Compute the share of subsamples that agree with the segment.

        `in_run`: whether the run has the customer; otherwise the confidence is lower: a third of it after one active
        day.
        """
        if view.coordinates is None:
            return 0.0
        codes = np.array([self._assigner.code[view.segment]])
        found = float(self._assigner.agreement(view.coordinates[None, : self.axes], codes)[0])
        days = view.features["active_days"]
        return found if in_run else round(found * days / (days + PRIOR_DAYS), 6)

    def levels(self, expected: list[float], base: list[float]) -> list[int]:
        """Compare each expectation with that of the run: halved -1, as before 0, doubled 1."""
        moved = [max(e, 0.0) - max(b, 0.0) for e, b in zip(expected, base, strict=True)]  # below zero is nothing
        return [(by >= STEP) - (-by >= STEP) for by in moved]

    def has_changed(self, current: LiveAssignment, now: CustomerView) -> bool:
        """Return whether the segment or the level of an expectation differs."""
        segment, levels, base = current
        if segment != now.segment:
            return True
        return now.coordinates is not None and base is not None and self.levels(now.expected, base) != levels

    def describe_changes(
        self, current: LiveAssignment, before: CustomerView, now: CustomerView, *, in_run: bool
    ) -> tuple[list[dict[str, Any]], LiveAssignment]:
        """Describe the changes of a customer, with reasons.

        Parameters
        ----------
        current
            The assignment when the customer was last compared.
        before, now
            The views then (with that segment) and now.
        in_run
            Whether the run has the customer.

        Returns
        -------
        tuple
            The changes of segment and expectations, none or several; the new assignment.
        """
        segment, levels, base = current
        found, after = [], levels
        if segment != now.segment:
            why = self.explain_segment(before, now)
            text = _format_reasons(why) if now.segment else f"nothing of their own in {self._lookback_days} days"
            moved = {"from": segment, "to": now.segment, "macro_segment": now.macro_segment, "need": now.need}
            moved |= {"confidence": self.confidence(now, in_run=in_run)}
            found.append({"kind": "segment", **moved, "because": text, "why": why})
        if now.segment is not None:
            expected = now.expected
            base = expected if base is None else base
            after = self.levels(expected, base)
            for i, outcome in enumerate(self.outcomes):
                if levels[i] != after[i]:
                    why = self.explain_expectation(before, now, outcome=outcome, up=after[i] > levels[i])
                    moved = {"outcome": outcome, "from": LEVELS[levels[i]], "to": LEVELS[after[i]]}
                    moved |= {"expected_at_run": _amount(base[i]), "expected": _amount(expected[i])}
                    found.append({"kind": "prediction", **moved, "because": _format_reasons(why), "why": why})
        return found, (now.segment, after, base)

    def explain_segment(self, before: CustomerView, now: CustomerView) -> list[dict[str, Any]]:
        """Rank what moved a customer to a segment: terms of the difference of squared distances to the two centres.

        The difference is linear in the coordinates, and these are linear in z-scores and category mix. A new customer
        is compared with the average customer and the mean of all centres.
        """
        if now.segment is None:
            return []
        middle = np.mean(list(self._centres.values()), axis=0)
        start = middle if before.segment is None else self._centres[before.segment]
        return self._explain(before, now, np.append(self._centres[now.segment] - start, np.zeros(len(self.outcomes))))

    def explain_expectation(
        self, before: CustomerView, now: CustomerView, *, outcome: str, up: bool
    ) -> list[dict[str, Any]]:
        """Rank what moved an expectation."""
        towards = np.zeros(self.axes + len(self.outcomes))
        towards[self.axes + self.outcomes.index(outcome)] = 1.0 if up else -1.0
        return self._explain(before, now, towards)

    def _explain(self, before: CustomerView, now: CustomerView, towards: np.ndarray) -> list[dict[str, Any]]:
        reasons = [*self._feature_reasons(before, now, towards), *self._term_reasons(before, now, towards)]
        reasons = sorted((p for p in reasons if p["push"] > 0), key=lambda p: (-p["push"], p["feature"]))
        whole = sum(p["push"] for p in reasons)
        return [{**p, "push": round(p["push"] / whole, 3)} for p in reasons[:MAX_REASONS]]

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
        amounts = [{**view.mix.amounts, **view.undo} if view.features else {} for view in (before, now)]
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

    def _scores(self, view: CustomerView) -> np.ndarray:
        return self._map.z_scores(np.array([self._values(view.features)], dtype=float))[0]


def _amount(log: float) -> float:
    return round(float(np.expm1(max(log, 0.0))), 2)


def _only(names: tuple[str, ...]) -> Callable[[Mapping[str, float]], list[float]]:
    return lambda features: [features[name] for name in names]


def _format_reasons(why: list[dict[str, Any]]) -> str:
    """Format reasons as one line, such as "active days: 12 → 3; orders: 5 → 0"."""
    parts = []
    for one in why:
        form = fmt.formatter_for(describe(one["feature"]).unit)
        before = "" if one["before"] is None else f"{form(one['before'])} → "
        parts.append(f"{one['words']}: {before}{form(one['now'])}".replace(fmt.SPACE, " "))
    return "; ".join(parts)
