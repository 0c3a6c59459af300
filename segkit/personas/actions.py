"""Find opportunities: what to do, for which segments, what it may bring, and how sure that is."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.special import ndtr

from segkit.customers.features import Customers
from segkit.customers.needs import Needs
from segkit.format import FLOOR
from segkit.period import Period
from segkit.personas.cards import WITHOUT_STORY
from segkit.personas.offerable import best_channel, best_moment
from segkit.personas.returns import Return, customer_states, once_segments, top_levels, value_of_return
from segkit.personas.uptake import (
    CROSS_NEED,
    GROW_BASKET,
    MORE_OFTEN,
    OUTCOMES,
    Cohort,
    estimate_uptakes,
    horizon_amounts,
    light_use,
    make_cohort,
    open_to,
    outcome_of,
    shrink,
    thresholds,
)
from segkit.segments.fit import TrainingWindow, TrainingWindows, build_training_window, first_active_day
from segkit.segments.model import SegmentModel, assign_segments
from segkit.stats import Z95

NONE = "none"
MAX_UPTAKE = 0.1  # of the customers who could: one in ten, or as many as did by themselves where these are fewer
MIN_CHANCE = 0.6  # that an effect is real; below, a segment is left out of the action
EVEN_ODDS = 0.5  # chance that contact moves customers who stay away: the data does not show it
SHORTEST_BACKTEST = 0.6  # of the windows of a run, to which those of its back-test may be shortened
MIN_GAP = 0.1  # of customers; between a segment and similar ones who buy a need
LEAST_PRIZE = 0.005  # of what all customers brought in the last horizon; what may bring less is no opportunity
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
    in_money
        What was bought of a need is an amount of money, not a number of events.
    """

    customers: Customers
    training: TrainingWindows
    model: SegmentModel
    segments: pd.DataFrame
    segment: pd.Series
    needs: Needs | None = None
    offers: pd.DataFrame | None = None
    uses: bool = False
    in_money: bool = False

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
    def least_prize(self) -> float:
        """Return the smallest prize that is worth a plan: a part of what all customers brought in the last horizon."""
        if self.training.last is None:
            return 0.0
        if self.unit == "spend" and self.segments["spend_now"].notna().all():  # the sum that the overview shows
            return LEAST_PRIZE * float((self.segments["spend_now"] * self.segments["customers"]).sum())
        return LEAST_PRIZE * float(self.training.last.outcomes.totals[self.unit].sum())

    @cached_property
    def cohort(self) -> Cohort | None:
        """Customers two horizons ago; None where history is too short."""
        return make_cohort(self.customers, self.training.before, model=self.model, horizons=2, unit=self.unit)

    @cached_property
    def amounts(self) -> np.ndarray | None:
        """What each customer bought of each need, a horizon's worth (customers x needs); None without needs."""
        data, period = self.customers.data, self.customers.period
        if self.needs is None or data.things[0] is None:
            return None
        return horizon_amounts(self.needs, data.things, rate=period.horizon_days / period.lookback_days)

    @cached_property
    def limits(self) -> dict[str, np.ndarray]:
        """Amounts below which little of a need is bought, by level of value: those of the cohort, or else of today."""
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
    def effects(self) -> pd.DataFrame:
        """Effects after shrinkage, by as much of them as repeats from one cohort to the next."""
        return shrink(self.estimates, repeated=self.estimates_twice)

    @cached_property
    def known_days(self) -> int:
        """Days of history before the date."""
        first = first_active_day(self.customers.days)
        return 0 if first is None else (self.customers.period.as_of - first).days

    @cached_property
    def backtest_period(self) -> Period | None:
        """Lookback and horizon of the back-test, shorter than those of the run where its history demands it."""
        period = self.customers.period
        scale = min(self.known_days / (period.lookback_days + 3 * period.horizon_days), 1.0)
        if scale < SHORTEST_BACKTEST:
            return None
        days = {name: int(scale * getattr(period, name)) for name in ("lookback_days", "horizon_days")}
        return replace(period, **days)

    @cached_property
    def estimates_twice(self) -> list[pd.DataFrame]:
        """Effects as of one horizon earlier, and those observed since, before shrinkage; empty without history."""
        period = self.backtest_period
        if period is None:
            return []
        whole = period == self.customers.period
        cohorts = [self._cohort_of(period, horizons=3), self.cohort if whole else self._cohort_of(period, horizons=2)]
        if None in cohorts:
            return []
        first = cohorts[0]
        has_needs = self.needs is not None and first.customers.things[0] is not None
        limits = light_use(first.amounts(self.needs), first.level) if has_needs else {}
        return [estimate_uptakes(cohort, self.needs if has_needs else None, limits=limits) for cohort in cohorts]

    def _cohort_of(self, period: Period, *, horizons: int) -> Cohort | None:
        """Build the cohort some horizons ago, with the lookback and horizon of a period."""
        now, at = replace(self.customers, period=period), period
        for _ in range(horizons):
            at = at.one_horizon_back()
        window = build_training_window(now.days, period=at, kinds=now.kinds)
        return make_cohort(now, window, model=self.model, horizons=horizons, unit=self.unit)

    @cached_property
    def members(self) -> dict[str, np.ndarray]:
        """Who belongs to each segment."""
        return {name: self.segment.eq(name).to_numpy() for name in self.segments["segment"]}

    @cached_property
    def contact(self) -> dict[str, dict[str, str | None]]:
        """Channel and moment by segment, at which its customers are reached more than others."""
        features = self.customers.data.features
        return {
            name: {"channel": best_channel(features, own), "moment": best_moment(features, own)}
            for name, own in self.members.items()
        }

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
        return table.loc[(table["customers"] >= FLOOR) & ~table["verdict"].isin(WITHOUT_STORY), "segment"].tolist()

    @cached_property
    def returns(self) -> list[dict[Key, Return]]:
        """What a return was worth two horizons ago, and one, by type and level of value."""
        return [returns_at(self, window) for window in (self.training.before, self.training.last)]

    def states_at(self, features: pd.DataFrame, segment: np.ndarray, level: np.ndarray) -> dict[str, np.ndarray]:
        """Return who was in which state at a date."""
        once = once_segments(self.customers.data.features, self.segment)
        return customer_states(features, segment=segment, level=level, once=once, top=top_levels(self.segments))

    def may_offer(self, need: str) -> bool:
        """Return whether a need may be offered."""
        return self.offers is not None and self.offers["reason"].get(need, "unknown") == ""

    def missing_days(self, *, horizons: int) -> int:
        """Return the days of history that are missing for a lookback and some horizons."""
        period = self.customers.period
        sliver = 0.05 * period.lookback_days  # as in `has_history`
        wanted = period.lookback_days + horizons * period.horizon_days
        return max(wanted - self.known_days, 0) if wanted - self.known_days > sliver else 0


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
        return float(ndtr(sum(part.effect * part.adopters for part in self.parts) / sd))

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

    Those that may bring too little, or nothing, are left out. Those whose back-test found no effect come last.

    Segments with the same type of action and the same need share an opportunity: together they can be tested. Without a
    need, those at the same level of value do: what makes a weekly shopper come more often does not move a rare one. A
    segment is asked to take up one thing only, that of the highest rank.
    """
    levels = situation.segments.set_index("segment")["macro_segment"]
    open_parts: dict[tuple[str, str, str], list[Part]] = {}
    for (type_, need), part in _uptake_parts(situation):
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
    found.sort(key=lambda one: backtest(situation, one).observed <= 0)  # those that did not come true come last
    found = [one for one in found if one.prize[1] > 0 and one.prize[0] >= situation.least_prize][:MOST_ROWS]
    covered = {name for one in found for name in one.segments}
    return [*found, *_gap_opportunities(situation, [name for name in situation.with_story if name not in covered])]


def _uptake_parts(situation: Situation) -> list[tuple[Key, Part]]:
    """Find what like customers took up and then spent more, and who could take it up today."""
    if situation.estimates is None:
        return []
    found, estimates = [], situation.effects
    for row in estimates[estimates["segment"].isin(situation.with_story)].to_dict("records"):
        key = row["type"], row["need"]
        if row["type"] == CROSS_NEED and not situation.may_offer(row["need"]):
            continue
        open_now = situation.open_now.get(key, np.zeros(len(situation.segment), dtype=bool))
        customers = int((open_now & situation.members[row["segment"]]).sum())
        if customers < FLOOR or row["chance"] < MIN_CHANCE:
            continue
        adopters = customers * min(MAX_UPTAKE, row["taken"] / row["open"])
        sd = (row["effect_high"] - row["effect"]) / Z95
        facts = {"then": row["open"], "taken": row["taken"]}
        found.append((key, Part(row["segment"], customers, row["effect"], sd, adopters, row["chance"], facts)))
    return found


def _return_parts(situation: Situation) -> list[tuple[Key, Part]]:
    """Find customers who may stay away, and what one of them is worth who does not."""
    found, values = [], situation.returns[1]
    for type_, inside in situation.states.items():
        for name in situation.with_story:
            own = situation.members[name]
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


def _gap_opportunities(situation: Situation, segments: list[str]) -> list[Opportunity]:
    """Find for each segment the need that most of its customers buy little of, unlike others of their level.

    Nothing shows what that is worth, so these have no prize and come after those that have one.
    """
    by_need: dict[str, list[Part]] = {}
    poor = _followed_by_less(situation)
    for name in segments:
        gaps, own = {}, situation.members[name]
        for (type_, need), inside in situation.open_now.items():
            customers = int((inside & own).sum())
            if type_ != CROSS_NEED or customers < FLOOR or not situation.may_offer(need) or (name, need) in poor:
                continue
            peers = peer_share(situation, need, segments=[name])
            if peers is not None:
                gaps[need] = peers - 1 + inside[own].mean(), customers
        need = max(gaps, key=lambda n: (round(gaps[n][0], 9), n), default=None)
        if need is not None and gaps[need][0] >= MIN_GAP:
            gap, customers = gaps[need]
            facts = {"gap": gap * customers}
            by_need.setdefault(need, []).append(Part(name, customers, np.nan, np.nan, np.nan, np.nan, facts))
    found = [Opportunity(CROSS_NEED, need, tuple(parts)) for need, parts in sorted(by_need.items())]
    return sorted(found, key=lambda one: one.rank, reverse=True)


def _followed_by_less(situation: Situation) -> set[tuple[str, str]]:
    """List the segments and needs for which an uptake was rather followed by less."""
    if situation.estimates is None:
        return set()
    table = situation.effects
    return set(table.loc[table["effect"] < 0, ["segment", "need"]].itertuples(index=False, name=None))


def peer_share(situation: Situation, need: str, *, segments: list[str]) -> float | None:
    """Return the share of other customers of the same levels of value who buy more than little of a need.

    Segments that come for the need are no measure: all of theirs do.
    """
    table = situation.segments
    apart = {*segments, *table.loc[table["need"] == need, "segment"]}
    own = situation.segment.isin(segments).to_numpy()
    similar = pd.Series(situation.level).isin(set(situation.level[own])) & ~situation.segment.isin(apart).to_numpy()
    light = situation.open_now[CROSS_NEED, need]
    return float(1 - light[similar].mean()) if similar.sum() >= FLOOR else None


@dataclass(frozen=True)
class BackTest:
    """Compare the effect per adopter as estimated one horizon earlier with what was observed since.

    ``horizon_days`` is the length of its windows; ``before`` and ``observed`` are null where it was not possible, and
    ``missing_days`` of history say why.
    """

    before: float
    observed: float
    horizon_days: int
    missing_days: int


def backtest(situation: Situation, opportunity: Opportunity) -> BackTest:
    """Estimate an opportunity as one horizon earlier, and compare."""
    own, days = opportunity.parts, situation.customers.period.horizon_days
    if opportunity.type in (CROSS_NEED, GROW_BASKET, MORE_OFTEN):
        horizons, tables = 3, situation.estimates_twice
        days = situation.backtest_period.horizon_days if tables else days
        tables = [shrink(tables[0]), tables[1]] if tables else []
        keyed = [t[(t["type"] == opportunity.type) & (t["need"] == opportunity.need)] for t in tables]
        found = [table.set_index("segment")["effect"].reindex([p.segment for p in own]) for table in keyed]
    else:
        horizons, levels = 2, situation.segments.set_index("segment")["macro_segment"]
        keys = [(opportunity.type, levels[p.segment]) for p in own]
        found = [[at[key].value if key in at else np.nan for key in keys] for at in situation.returns]
    missing = situation.missing_days(horizons=horizons)
    weight = np.array([part.adopters for part in own])
    both = np.isfinite(np.array(found, dtype=float)).all(axis=0) if found else np.zeros(len(own), dtype=bool)
    if not both.any() or not weight[both].sum() > 0:
        return BackTest(np.nan, np.nan, days, missing)
    before, observed = (float(np.average(np.array(one)[both], weights=weight[both])) for one in found)
    return BackTest(before, observed, days, missing)


def rank_backtest(situation: Situation) -> float:
    """Correlate the ranks of all effects as estimated one horizon earlier with those observed since; null without."""
    tables = situation.estimates_twice
    if not tables:
        return np.nan
    keys = ["type", "need", "segment"]
    both = shrink(tables[0]).merge(tables[1], on=keys, suffixes=("_before", "_since"))
    if len(both) < 3:
        return np.nan
    before, since = (both[f"effect_{at}"] / both[f"typical_{at}"] for at in ("before", "since"))
    return float(before.rank().corr(since.rank()))  # Spearman
