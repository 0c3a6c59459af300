"""Find opportunities: what to do, for which segments, what it may bring, and how sure that is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.stats import norm, spearmanr

from segkit.customers.features import Customers
from segkit.customers.needs import Needs, need_amounts
from segkit.format import FLOOR
from segkit.personas.returns import Return, customer_states, once_segments, top_levels, value_of_return
from segkit.personas.uptake import (
    CROSS_NEED,
    GROW_BASKET,
    MORE_OFTEN,
    OUTCOMES,
    Cohort,
    estimate_uptakes,
    light_use,
    make_cohort,
    open_to,
    outcome_of,
    shrink,
    thresholds,
)
from segkit.segments.fit import TrainingWindow, TrainingWindows, build_training_windows, first_active_day
from segkit.segments.model import SegmentModel, assign_segments
from segkit.stats import Z95

NONE = "none"
MAX_UPTAKE = 0.1  # of the customers who could: one in ten, or as many as did by themselves where these are fewer
MIN_CHANCE = 0.6  # that an effect is real; below, a segment is left out of the action
EVEN_ODDS = 0.5  # chance that contact moves customers who stay away: the data does not show it
MIN_GAP = 0.1  # of customers; between a segment and similar ones who buy a need
MIN_OF_BEST = 0.05  # of the best row's rank, below which a row is not worth reading
MOST_ROWS = 12
Key = tuple[str, str]  # type and need; the need is "" where none is meant


@dataclass(frozen=True)
class Situation:
    """Hold what opportunities are found in.

    Parameters
    ----------
    customers
        Today's customers with their days.
    training
        Customers one and two horizons ago.
    model
        The segments.
    segments
        The table ``segments``.
    segment
        Segment of each customer, in their order.
    needs, offers
        The needs of the run (None without), and what of them may be offered (of ``offerable_needs``).
    uses
        Needs come from what customers use, not from what they buy: more use is to be won, as its price is often fixed.
    """

    customers: Customers
    training: TrainingWindows
    model: SegmentModel
    segments: pd.DataFrame
    segment: pd.Series
    needs: Needs | None = None
    offers: pd.DataFrame | None = None
    uses: bool = False

    @cached_property
    def level(self) -> np.ndarray:
        """Level of value of each customer."""
        return self.segment.map(self.segments.set_index("segment")["macro_segment"]).to_numpy()

    @cached_property
    def unit(self) -> str:
        """What is to be won: spend, or orders or active days where there is no money."""
        if self.uses:
            return OUTCOMES[-1]
        return outcome_of(self.training.last.outcomes.totals) if self.training.last else OUTCOMES[0]

    @cached_property
    def cohort(self) -> Cohort | None:
        """Customers two horizons ago; None where history is too short."""
        return make_cohort(self.customers, self.training.before, model=self.model, horizons=2, unit=self.unit)

    @cached_property
    def earlier_cohort(self) -> Cohort | None:
        """Customers three horizons ago, for the back-test; None where history is too short."""
        if self.missing_days(horizons=3) > 0:
            return None
        period = self.customers.period.one_horizon_back()
        windows = build_training_windows(self.customers.days, period=period, kinds=self.customers.kinds)
        return make_cohort(self.customers, windows.before, model=self.model, horizons=3, unit=self.unit)

    @cached_property
    def amounts(self) -> np.ndarray | None:
        """What each customer bought of each need, a horizon's worth (customers x needs); None without needs."""
        data, period = self.customers.data, self.customers.period
        if self.needs is None or data.things[0] is None:
            return None
        return need_amounts(self.needs, data.things) * period.horizon_days / period.lookback_days

    @cached_property
    def limits(self) -> dict[str, np.ndarray]:
        """Amounts below which a need is hardly bought, by level of value: those of the cohort, or else of today."""
        if self.amounts is None:
            return {}
        if self.cohort is None or self.cohort.customers.things[0] is None:
            return light_use(self.amounts, self.level)
        return light_use(self.cohort.amounts(self.needs), self.cohort.level)

    @cached_property
    def limit(self) -> np.ndarray | None:
        """The limits of each customer (customers x needs)."""
        return None if self.amounts is None else thresholds(self.limits, self.level)

    @cached_property
    def estimates(self) -> pd.DataFrame | None:
        """Effects of what the cohort took up, before shrinkage; None where history is too short."""
        return None if self.cohort is None else estimate_uptakes(self.cohort, self.needs, limits=self.limits)

    @cached_property
    def estimates_twice(self) -> list[pd.DataFrame]:
        """Shrunk effects as of one horizon earlier, and those observed since; empty where history is too short."""
        if self.earlier_cohort is None or self.estimates is None:
            return []
        return [shrink(estimate_uptakes(self.earlier_cohort, self.needs, limits=self.limits)), self.estimates]

    @cached_property
    def open_now(self) -> dict[Key, np.ndarray]:
        """Customers who could take something up, by type and need."""
        return open_to(self.customers.data, self.amounts, limit=self.limit, needs=self.needs)

    @cached_property
    def states(self) -> dict[str, np.ndarray]:
        """Customers who may stay away, by type of action."""
        return self.states_at(self.customers.data.features, self.segment.to_numpy(), self.level)

    @property
    def with_story(self) -> list[str]:
        """Segments that are large enough, and not unstable."""
        table = self.segments
        return table.loc[(table["customers"] >= FLOOR) & (table["verdict"] != "unstable"), "segment"].tolist()

    def states_at(self, features: pd.DataFrame, segment: np.ndarray, level: np.ndarray) -> dict[str, np.ndarray]:
        """Return who was in which state at a date."""
        once = once_segments(self.customers.data.features, self.segment)
        return customer_states(features, segment=segment, level=level, once=once, top=top_levels(self.segments))

    def may_offer(self, need: str) -> bool:
        """Return whether a need may be offered."""
        return self.offers is not None and self.offers["reason"].get(need, "unknown") == ""

    def missing_days(self, *, horizons: int) -> int:
        """Return the days of history that are missing for a lookback and some horizons."""
        first, period = first_active_day(self.customers.days), self.customers.period
        known = 0 if first is None else (period.as_of - first).days
        sliver = 0.05 * period.lookback_days  # as in `has_history`
        wanted = period.lookback_days + horizons * period.horizon_days
        return max(wanted - known, 0) if wanted - known > sliver else 0


@dataclass(frozen=True)
class Part:
    """One segment's part in an opportunity: its customers, the effect per adopter, its spread, and the adopters."""

    segment: str
    customers: int
    effect: float
    sd: float
    adopters: float
    chance: float
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Opportunity:
    """What to do for one or more segments.

    Parameters
    ----------
    type, need
        Type of the action, and the need it offers, or "".
    parts
        One for each segment.
    """

    type: str
    need: str
    parts: tuple[Part, ...]

    @property
    def segments(self) -> list[str]:
        """Return the ids of the segments."""
        return sorted(part.segment for part in self.parts)

    @property
    def customers(self) -> int:
        """Return who it is for."""
        return sum(part.customers for part in self.parts)

    @property
    def adopters(self) -> float:
        """Return how many may take it up."""
        return sum(part.adopters for part in self.parts)

    def total(self, name: str) -> float:
        """Sum a fact of the parts."""
        return sum(part.facts.get(name, 0.0) for part in self.parts)

    @cached_property
    def prize(self) -> tuple[float, float, float]:
        """Return what may be won with its 95 % interval; errors of segments may be the same, so they add up."""
        middle = sum(part.effect * part.adopters for part in self.parts)
        half = Z95 * sum(part.sd * part.adopters for part in self.parts)
        low = middle - half
        return middle, max(low, 0.0) if self.chance == EVEN_ODDS else low, middle + half

    @cached_property
    def chance(self) -> float:
        """Return the probability that the effect is above zero; even odds where the data does not show it."""
        if any(part.chance == EVEN_ODDS for part in self.parts) or not self.is_estimated:
            return EVEN_ODDS if self.is_estimated else np.nan
        sd = sum(part.sd * part.adopters for part in self.parts)
        return float(norm.cdf(sum(part.effect * part.adopters for part in self.parts) / sd))

    @property
    def is_estimated(self) -> bool:
        """Return whether history sufficed to estimate an effect."""
        return all(np.isfinite(part.effect) for part in self.parts)

    @property
    def rank(self) -> tuple[float, float]:
        """Return what it is ranked by: prize times chance, then those without one by the size of the gap."""
        if self.is_estimated:
            return self.prize[0] * self.chance, 0.0
        return -1.0, self.total("gap")


def find_opportunities(situation: Situation) -> list[Opportunity]:
    """Find the opportunities of a run, ranked by the prize times the chance that it is real.

    Segments with the same type of action and the same need share an opportunity: together they can be tested. Without a
    need, those at the same level of value do: what makes a weekly shopper come more often does not move a rare one. A
    segment is asked to take up one thing only, that of the highest rank.
    """
    levels = situation.segments.set_index("segment")["macro_segment"]
    parts = [*_uptake_parts(situation), *(_gap_parts(situation) if situation.cohort is None else [])]
    open_parts: dict[tuple[str, str, str], list[Part]] = {}
    for (type_, need), part in parts:
        level = levels[part.segment] if not need else ""
        open_parts.setdefault((type_, need, level), []).append(part)
    found, returns = [], {}
    while open_parts:
        made = {key: Opportunity(*key[:2], tuple(own)) for key, own in sorted(open_parts.items())}
        best = max(made, key=lambda key: made[key].rank)
        found.append(made[best])
        left = {key: [p for p in own if p.segment not in made[best].segments] for key, own in open_parts.items()}
        open_parts = {key: own for key, own in left.items() if own}
    for (type_, need), part in _return_parts(situation):
        returns.setdefault((type_, need), []).append(part)
    found += [Opportunity(*key, tuple(own)) for key, own in returns.items()]
    found = sorted(found, key=lambda one: (one.rank, one.type, one.need), reverse=True)
    least = MIN_OF_BEST * max((one.rank[0] for one in found), default=0.0)
    return [one for one in found if not one.is_estimated or one.rank[0] >= least][:MOST_ROWS]


def _uptake_parts(situation: Situation) -> list[tuple[Key, Part]]:
    """Find what like customers took up and then spent more, and who could take it up today."""
    if situation.estimates is None:
        return []
    found, estimates = [], shrink(situation.estimates)
    for row in estimates[estimates["segment"].isin(situation.with_story)].to_dict("records"):
        key = row["type"], row["need"]
        if row["type"] == CROSS_NEED and not situation.may_offer(row["need"]):
            continue
        open_now = situation.open_now.get(key, np.zeros(len(situation.segment), dtype=bool))
        customers = int((open_now & (situation.segment == row["segment"]).to_numpy()).sum())
        if customers < FLOOR or row["chance"] < MIN_CHANCE:
            continue
        adopters = customers * min(MAX_UPTAKE, row["taken"] / row["open"])
        sd = (row["effect_high"] - row["effect"]) / Z95
        facts = {"then": row["open"], "taken": row["taken"]}
        found.append((key, Part(row["segment"], customers, row["effect"], sd, adopters, row["chance"], facts)))
    return found


def _return_parts(situation: Situation) -> list[tuple[Key, Part]]:
    """Find customers who may stay away, and what one of them is worth who does not."""
    found, values = [], returns_at(situation, situation.training.last)
    for type_, inside in situation.states.items():
        for name in situation.with_story:
            own = (situation.segment == name).to_numpy()
            customers = int((inside & own).sum())
            at = values.get((type_, situation.level[own][0])) if customers >= FLOOR else None
            if at is not None:
                adopters = customers * (1 - at.share) * min(MAX_UPTAKE, at.share)
                facts = {"returned": at.share * customers}
                part = Part(name, customers, at.value, (at.high - at.value) / Z95, adopters, EVEN_ODDS, facts)
                found.append(((type_, ""), part))
    return found


def returns_at(situation: Situation, window: TrainingWindow | None) -> dict[Key, Return]:
    """Estimate what a return is worth by type and level of value, from one training window.

    Where a level has too few such customers, it is that of all levels.
    """
    if window is None:
        return {}
    data, totals = window.customers_like(situation.customers.data), window.outcomes.totals
    outcome = totals[situation.unit].to_numpy(dtype=float)
    placed = assign_segments(situation.model, data)
    segment, level = placed["segment"].to_numpy(), placed["macro_segment"].to_numpy()
    found = {}
    for type_, inside in situation.states_at(data.features, segment, level).items():
        everyone = value_of_return(data.features, outcome, state=inside)
        for name in sorted(set(situation.level)):
            own = value_of_return(data.features, outcome, state=inside & (level == name)) or everyone
            if own is not None:
                found[type_, name] = own
    return found


def _gap_parts(situation: Situation) -> list[tuple[Key, Part]]:
    """Find for each segment the need that most of its customers hardly buy, while similar customers do."""
    found = []
    for name in situation.with_story:
        gaps = {}
        for (type_, need), inside in situation.open_now.items():
            own = (situation.segment == name).to_numpy()
            peers = peer_share(situation, inside, segments=[name])
            if type_ == CROSS_NEED and situation.may_offer(need) and peers is not None:
                gaps[need] = (peers - 1 + inside[own].mean(), int((inside & own).sum()))
        need = max(gaps, key=lambda n: (round(gaps[n][0], 9), n), default=None)
        if need is not None and gaps[need][0] >= MIN_GAP and gaps[need][1] >= FLOOR:
            gap, customers = gaps[need]
            found.append(((CROSS_NEED, need), Part(name, customers, *[np.nan] * 4, {"gap": gap * customers})))
    return found


def peer_share(situation: Situation, light: np.ndarray, *, segments: list[str]) -> float | None:
    """Return the share of similar customers who do buy a need: those of other segments at the same levels of value."""
    own = situation.segment.isin(segments).to_numpy()
    similar = np.isin(situation.level, situation.level[own]) & ~own
    return float(1 - light[similar].mean()) if similar.sum() >= FLOOR else None


@dataclass(frozen=True)
class BackTest:
    """Compare the effect per adopter as estimated one horizon earlier with what was observed since.

    ``before`` and ``observed`` are null where that was not possible; ``missing_days`` of history say why.
    """

    before: float
    observed: float
    missing_days: int


def backtest(situation: Situation, opportunity: Opportunity) -> BackTest:
    """Estimate an opportunity as one horizon earlier, and compare."""
    own = opportunity.parts
    if opportunity.type in (CROSS_NEED, GROW_BASKET, MORE_OFTEN):
        missing = situation.missing_days(horizons=3)
        tables = situation.estimates_twice
        keyed = [
            t[(t["type"] == opportunity.type) & (t["need"] == opportunity.need)].set_index("segment") for t in tables
        ]
        found = [[table["effect"].get(p.segment, np.nan) for p in own] for table in keyed] if tables else []
    else:
        missing = situation.missing_days(horizons=2)
        levels = situation.segments.set_index("segment")["macro_segment"]
        windows = [returns_at(situation, w) for w in (situation.training.before, situation.training.last)]
        keys = [(opportunity.type, levels[p.segment]) for p in own]
        found = [[w[key].value if key in w else np.nan for key in keys] for w in windows]
    weight = np.array([part.adopters for part in own])
    both = np.isfinite(np.array(found, dtype=float)).all(axis=0) if found else np.zeros(len(own), dtype=bool)
    if not both.any() or not weight[both].sum() > 0:
        return BackTest(np.nan, np.nan, missing)
    before, observed = (float(np.average(np.array(one)[both], weights=weight[both])) for one in found)
    return BackTest(before, observed, missing)


def rank_backtest(situation: Situation) -> float:
    """Correlate the ranks of all effects as estimated one horizon earlier with those observed since; null without."""
    tables = situation.estimates_twice
    if not tables:
        return np.nan
    keys = ["type", "need", "segment"]
    both = tables[0].merge(tables[1], on=keys, suffixes=("_before", "_since"))
    if len(both) < 3:
        return np.nan
    return float(
        spearmanr(both["effect_before"] / both["typical_before"], both["effect_since"] / both["typical_since"])[0]
    )
