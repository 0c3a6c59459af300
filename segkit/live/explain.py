"""Assign live customers to segments, many at once, and explain each change in plain words."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from math import log
from typing import Any, NamedTuple

import numpy as np

from segkit import format as fmt
from segkit.live.history import expand
from segkit.live.kernel import Entries, Features, Ragged, add_up
from segkit.segments.model import Assigner, SegmentModel
from segkit.vocabulary import describe

STEP = log(2.0)  # an expectation that halves or doubles crosses a threshold
LEVELS = {-1: "halved", 0: "as before", 1: "doubled"}
MAX_REASONS = 3  # named in a change
PRIOR_DAYS = 2.0  # active days at which the confidence in a new customer is halved


# segment, level of each expectation, expectations at the run
LiveAssignment = tuple[str | None, list[int], list[float] | None]
# kind, facts, and the direction in the coordinates that is to be explained (None: silence)
Change = tuple[str, dict[str, Any], np.ndarray | None]


@dataclass(frozen=True)
class CustomerView:
    """One customer at one moment.

    Parameters
    ----------
    features
        As in the batch; empty if the customer has no event of their own in the lookback.
    coordinates
        Position in the space, followed by the expected outcomes less their centre; None without features.
    segment, macro_segment, need
        None without features; the need also where no single one leads.
    expected
        log(1 + amount) of each outcome in the next horizon.
    """

    features: Mapping[str, float]
    coordinates: np.ndarray | None = None
    segment: str | None = None
    macro_segment: str | None = None
    need: str | None = None
    expected: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Views:
    """Many customers at a moment each; the columns have a row for each, and zeros for those without features.

    Parameters
    ----------
    has
        Whether there are features.
    values, z_scores
        Features in the order of the space, as they are and as the space reads them.
    active_days
        Days with events of their own.
    amounts
        What they bought by number of a term.
    coordinates
        Position in the space, followed by the expected outcomes less their centre.
    number
        Number of the centre; -1 for none.
    expected
        log(1 + amount) of each outcome in the next horizon.
    """

    has: np.ndarray
    values: np.ndarray
    z_scores: np.ndarray
    active_days: np.ndarray
    amounts: Ragged
    coordinates: np.ndarray
    number: np.ndarray
    expected: np.ndarray


class Found(NamedTuple):
    """Changes of a customer: the row of the customer now, the row before, and the changes."""

    row: int
    before: int
    changes: list[Change]


class LiveAssigner:
    """Assign live customers with the model of a run, and explain what changed.

    Parameters
    ----------
    model
        The segments and the space they lie in.
    formulas
        Names of the features that are computed.
    categories
        Number of each category by name, in the order of the numbers; it may grow.
    kinds
        Each kind of event -> 'customer' or 'company': what the company sent is never a reason.
    """

    def __init__(
        self,
        model: SegmentModel,
        *,
        formulas: Sequence[str],
        categories: Mapping[str, int],
        lookback_days: int,
        unit: int,
        kinds: Mapping[str, str],
    ) -> None:
        space = model.space
        self.axes, self.outcomes = space.rotation.shape[1], tuple(space.outcome_names)
        self.assigner = Assigner(model, with_outcomes=True)
        self._map, self._model = self.assigner.map, model
        self._lookback_days, self._unit, self._formulas = lookback_days, unit, tuple(formulas)
        self._columns = [self._formulas.index(name) for name in space.features]
        self._active = self._formulas.index("active_days")
        sent = {f"n_{kind}" for kind, done_by in kinds.items() if done_by == "company"}
        self._is_reason = np.array([not sent & set(describe(name).requires) for name in space.features])
        self._middle = space.centre[: len(self.outcomes)]
        self._centres = {name: model.centres[i] for i, name in reversed(list(enumerate(model.segments)))}
        self._categories, self._terms = categories, [np.zeros(0, dtype=np.int64)] * 2
        names = [*self._map.features, *(f"bought: {term}" for term in self._map.terms)]
        self._names, self._rank = names, np.argsort(np.argsort(np.array(names, dtype=object), kind="stable"))

    def codes(self, segments: Iterable[str | None]) -> np.ndarray:
        """Return the code of each segment; -1 for none."""
        return np.array([self.assigner.code.get(segment, -1) for segment in segments], dtype=np.int64)

    def views(self, features: Features, *, previous_codes: np.ndarray | None = None) -> Views:
        """Assign many customers; the result of each does not depend on the others.

        `previous_codes`: code of each customer's segment in the run, kept near a border; -1 for none. Without codes
        nobody is assigned, for reasons.
        """
        has, space_map, axes = features.has, self._map, self.axes
        values = np.ascontiguousarray(features.values[:, self._columns])
        amounts = self._amounts(features.bought)
        scores, at = np.zeros_like(values), np.zeros((len(has), space_map.behaviour.shape[1]))
        number, expected = np.full(len(has), -1), np.zeros((len(has), len(self.outcomes)))
        if has.any():
            scores[has] = space_map.z_scores(values[has])
        if has.any() and previous_codes is not None:
            # einsum, as BLAS would round differently by how many customers there are
            whole = np.einsum("ij,jk->ik", scores, space_map.behaviour) + space_map.constant + self._mix(amounts)
            at[has] = whole[has]
            number[has] = self.assigner.assign(at[has, :axes], previous_codes=previous_codes[has])
            expected[has] = (at[has, axes:] + self._middle).round(9)
        return Views(has, values, scores, features.values[:, self._active], amounts, at, number, expected)

    def view(self, views: Views, row: int, *, features: Features) -> CustomerView:
        """Return one customer."""
        if not views.has[row]:
            return CustomerView({})
        number = int(views.number[row])
        return CustomerView(
            dict(zip(self._formulas, features.values[row].tolist(), strict=True)),
            views.coordinates[row],
            self._model.segments[number],
            self._model.macro[number],
            self._model.need[number] or None,
            views.expected[row].tolist(),
        )

    def _amounts(self, bought: Ragged) -> Ragged:
        """Turn weights by category into weights by term."""
        counts, terms = self._terms_of_categories()
        place, rows = expand((np.cumsum(counts) - counts)[bought.key], counts[bought.key])
        entries = Entries(bought.of[place], rows, terms[rows], bought.value[place])
        return add_up(entries, customers=len(bought.starts) - 1)

    def _terms_of_categories(self) -> list[np.ndarray]:
        """Return how many terms each category has, and the terms one after the other."""
        known = len(self._terms[0])
        if known < len(self._categories):
            more = [self.assigner.terms_of(name) for name in islice(self._categories, known, None)]
            counts, terms = map(len, more), chain.from_iterable(more)
            new = (np.fromiter(column, dtype=np.int64) for column in (counts, terms))
            self._terms = [np.concatenate(each) for each in zip(self._terms, new, strict=True)]
        return self._terms

    def _mix(self, amounts: Ragged) -> np.ndarray:
        """Compute what purchases add to the coordinates, from log(1 + amount) and square-root shares."""
        counts = np.diff(amounts.starts)
        whole = np.zeros(len(counts))
        some = counts > 0
        if some.any():
            whole[some] = np.add.reduceat(amounts.value, amounts.starts[:-1][some])
        logs, shares = np.log1p(amounts.value / self._unit), np.sqrt(amounts.value / np.repeat(whole, counts))
        pushes = logs[:, None] * self._map.logs[amounts.key] + shares[:, None] * self._map.shares[amounts.key]
        found = np.zeros((len(counts), self._map.logs.shape[1]))
        if some.any():
            found[some] = np.add.reduceat(pushes, amounts.starts[:-1][some], axis=0)
        return found

    def confidence(self, views: Views, rows: Sequence[int], *, in_run: np.ndarray) -> np.ndarray:
        """Compute the share of subsamples that agree with the segment of some customers.

        `in_run`: whether the run has the customer; otherwise the confidence is lower: a third of it after one active
        day.
        """
        found = self.assigner.agreement(views.coordinates[rows, : self.axes], self.assigner.codes[views.number[rows]])
        days = views.active_days[rows]
        return np.where(in_run, found, (found * days / (days + PRIOR_DAYS)).round(6)) * views.has[rows]

    def levels(self, expected: list[float], base: list[float]) -> list[int]:
        """Compare each expectation with that of the run: halved -1, as before 0, doubled 1."""
        moved = [max(e, 0.0) - max(b, 0.0) for e, b in zip(expected, base, strict=True)]  # below zero is nothing
        return [(by >= STEP) - (-by >= STEP) for by in moved]

    def are_as_before(self, views: Views, *, codes: np.ndarray, base: np.ndarray) -> np.ndarray:
        """Flag customers, the first of `views`, whose segment and expectations are those of the run.

        `codes`, `base`: code of the segment in the run, and the expectations (customers x outcomes).
        """
        first = slice(len(codes))
        moved = np.abs(np.maximum(views.expected[first], 0.0) - np.maximum(base, 0.0))
        is_same = self.assigner.codes[views.number[first]] == codes
        return views.has[first] & is_same & (moved < STEP).all(axis=1)

    def changes(self, current: LiveAssignment, views: Views, *, row: int) -> tuple[list[Change], LiveAssignment]:
        """List what changed for a customer since they were last compared.

        Parameters
        ----------
        current
            The assignment when the customer was last compared.
        row
            The customer now.

        Returns
        -------
        tuple
            The changes of segment and expectations, none or several; the new assignment.
        """
        segment, levels, base = current
        number, found = int(views.number[row]), []
        new = None if number < 0 else self._model.segments[number]
        if segment != new:
            macro, need = (None, None) if new is None else (self._model.macro[number], self._model.need[number] or None)
            moved = {"from": segment, "to": new, "macro_segment": macro, "need": need}
            found.append(("segment", moved, None if new is None else self._towards_segment(segment, new)))
        if new is None:
            return found, (None, levels, base)
        expected = views.expected[row].tolist()
        base = expected if base is None else base
        after = self.levels(expected, base)
        for i, outcome in enumerate(self.outcomes):
            if levels[i] != after[i]:
                moved = {"outcome": outcome, "from": LEVELS[levels[i]], "to": LEVELS[after[i]]}
                moved |= {"expected_at_run": _amount(base[i]), "expected": _amount(expected[i])}
                towards = np.zeros(self.axes + len(self.outcomes))
                towards[self.axes + i] = 1.0 if after[i] > levels[i] else -1.0
                found.append(("prediction", moved, towards))
        return found, (new, after, base)

    def _towards_segment(self, segment: str | None, new: str) -> np.ndarray:
        """Return the direction from a segment to another, in which the squared distances to the centres differ.

        The difference is linear in the coordinates, and these are linear in z-scores and category mix. A new customer
        is compared with the average customer and the mean of all centres.
        """
        start = np.mean(list(self._centres.values()), axis=0) if segment is None else self._centres[segment]
        return np.append(self._centres[new] - start, np.zeros(len(self.outcomes)))

    def reasons(self, found: Sequence[Found], then: Views, views: Views) -> list[list[dict[str, Any]]]:
        """Rank what moved customers: the first three reasons of each change that has a direction, with their shares.

        `then`, `views`: what the rows before and now belong to.
        """
        asked = [(one.before, one.row, towards) for one in found for _, _, towards in one.changes]
        asked = [each for each in asked if each[2] is not None]
        if not asked:
            return []
        before, now, towards = map(np.array, zip(*asked, strict=True))
        moved = views.z_scores[now] - then.z_scores[before]
        push = moved * np.einsum("ij,kj->ik", towards, self._map.behaviour) * self._is_reason
        terms = self._term_pushes(then.amounts.take(before), views.amounts.take(now), towards, had=then.has[before])
        whose, name = np.nonzero(push > 0)
        whose, name = np.append(whose, terms.of), np.append(name, len(self._map.features) + terms.key)
        pushes = np.append(push[push > 0], terms.value)
        order = np.lexsort((self._rank[name], -pushes, whose))
        whose, name, pushes = whose[order], name[order], pushes[order]
        starts = whose.searchsorted(np.arange(len(asked) + 1))
        whole = np.bincount(whose, weights=pushes, minlength=len(asked))
        why: list[list[dict[str, Any]]] = []
        for i, (b, n) in enumerate(zip(before.tolist(), now.tolist(), strict=True)):
            rows = range(starts[i], min(starts[i + 1], starts[i] + MAX_REASONS))
            where = {"then": then, "before": b, "views": views, "now": n}
            why.append([self._reason(int(name[row]), push=float(pushes[row] / whole[i]), **where) for row in rows])
        return why

    def _term_pushes(self, then: Ragged, now: Ragged, towards: np.ndarray, *, had: np.ndarray) -> Ragged:
        """Return by question and term what its amounts push, where that is above zero."""
        pushed = []
        for amounts in (now, then):
            of, value = amounts.of, amounts.value / self._unit
            share = np.sqrt(value / np.bincount(of, weights=value, minlength=len(towards))[of])
            logs, shares = (
                np.einsum("ij,ij->i", loadings[amounts.key], towards[of])
                for loadings in (self._map.logs, self._map.shares)
            )
            pushed.append(Entries(of, of, amounts.key, np.log1p(value) * logs + share * shares))
        before = pushed[1]._replace(value=np.where(had[pushed[1].of], -pushed[1].value, 0.0))
        return add_up(pushed[0] + before, customers=len(towards))

    def _reason(self, name: int, *, push: float, then: Views, before: int, views: Views, now: int) -> dict[str, Any]:
        """Return one reason: the value of a feature or a term before (None without features) and now."""
        features = len(self._map.features)
        if name < features:
            words = describe(self._names[name]).label
            values = [float(then.values[before, name]), float(views.values[now, name])]
        else:
            term = name - features
            words = f"bought: {self._map.terms[term].lower()}"
            values = [_value(then.amounts, before, term) / self._unit, _value(views.amounts, now, term) / self._unit]
        was = values[0] if then.has[before] else None
        return {"feature": self._names[name], "words": words, "before": was, "now": values[1], "push": round(push, 3)}

    def because(self, why: list[dict[str, Any]], *, silent: bool) -> str:
        """Format reasons as one line, such as "active days: 12 → 3; orders: 5 → 0"."""
        return f"nothing of their own in {self._lookback_days} days" if silent else _format_reasons(why)


def _value(amounts: Ragged, row: int, key: int) -> float:
    """Look up one value; 0 where there is none."""
    first, end = amounts.starts[row], amounts.starts[row + 1]
    place = first + amounts.key[first:end].searchsorted(key)
    return float(amounts.value[place]) if place < end and amounts.key[place] == key else 0.0


def _amount(log: float) -> float:
    return round(float(np.expm1(max(log, 0.0))), 2)


def _format_reasons(why: list[dict[str, Any]]) -> str:
    """Format reasons as one line, such as "active days: 12 → 3; orders: 5 → 0"."""
    parts = []
    for one in why:
        form = fmt.formatter_for(describe(one["feature"]).unit)
        before = "" if one["before"] is None else f"{form(one['before'])} → "
        parts.append(f"{one['words']}: {before}{form(one['now'])}".replace(fmt.SPACE, " "))
    return "; ".join(parts)
