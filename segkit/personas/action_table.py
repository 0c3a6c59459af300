"""Write opportunities as rows of the table ``actions``: titles, evidence, tests and commands in plain sentences."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from segkit.experiments.pooled import OPEN, ORDER
from segkit.format import between, money, signed_percent
from segkit.personas.actions import (
    NONE,
    Opportunity,
    Part,
    Situation,
    backtest,
    find_opportunities,
    peer_share,
    rank_backtest,
)
from segkit.personas.lexicon import spoken_needs
from segkit.personas.naming import label
from segkit.personas.pilots import READABLE, Pilots
from segkit.personas.uptake import CROSS_NEED, GROW_BASKET
from segkit.templates import sentence
from segkit.vocabulary import CANCEL

OFTEN_DAYS = 10  # between visits, up to which customers come "weekly"
MIN_THING_SHARE = 0.05  # of what the customers buy, from which on a thing is named
OWN_LEAD, OWN_LEAST, OWN_SHARE = 1.5, 0.05, 0.15  # of spend: what customers come for is a need that leads, or is large
ONE_IN_TEN = 0.0995  # of customers, from which on an amount is called that
MOSTLY = 0.9  # of customers who stay, from which on their activity hardly varies
MIN_DAYS_OF_MONTH = 15  # a span that begins later in a month is named from the next one
KPI_OF_UNIT = {"spend": "spend", "orders": "orders", "active_days": "active"}
COLUMNS = [
    *("action", "segment", "joined", "type", "need", "thing", "offer", "title", "customers", "evidence"),
    *("prize", "prize_low", "prize_high", "prize_unit", "prize_reason", "chance", "adopters"),
    *("effect", "effect_low", "effect_high", "backtest", "channel", "moment", "detectable", "weeks", "test", "command"),
]
PARTS = ["action", "segment", "customers", "prize", "prize_low", "prize_high", "prize_unit", "limit", "peers"]


@dataclass(frozen=True)
class Actions:
    """Hold the opportunities of a run.

    Parameters
    ----------
    table
        One row per opportunity, in order of rank.
    parts
        One row per opportunity and segment: its customers, and its part of the prize.
    customers
        One row per customer that any of them concerns: ``customer_id``, ``actions`` (ids with spaces between them).
    contact
        Channel and moment by segment, in words, at which its customers are reached more than others.
    metrics
        Headline numbers.
    """

    table: pd.DataFrame
    parts: pd.DataFrame
    customers: pd.DataFrame
    contact: dict[str, dict[str, str | None]]
    metrics: dict[str, object]

    def best(self, segment: str) -> pd.Series | None:
        """Return the first opportunity that a segment is part of; None for a segment without a story."""
        mine = self.table[[segment in joined.split() for joined in self.table["joined"]]]
        return None if mine.empty else mine.iloc[0]


def find_actions(
    situation: Situation,
    *,
    things: pd.DataFrame | None = None,
    labels: Mapping[str, str] | None = None,
    tested: pd.DataFrame | None = None,
    currency: str = "",
) -> Actions:
    """Find the opportunities of a run and write them down, the one with the largest prize times its chance first.

    Types of which earlier tests showed that they work come before all others, those that showed the opposite last.

    Parameters
    ----------
    situation
        Customers, segments and needs at the date of the run.
    things
        The table ``need_things``; with the column ``never_offer`` such things are not named.
    labels
        Thing -> label of the source.
    tested
        The table ``pooled``: what earlier tests of each type brought; None without any.
    currency
        Code of the currency of the source, or "".
    """
    days, period = situation.customers.days, situation.customers.period
    kpi = KPI_OF_UNIT[situation.unit]
    writer = _Writer(
        situation,
        Pilots.of(days, kpi=kpi, index=situation.customers.index, period=period),
        things=things,
        labels=labels or {},
        currency=currency,
        tested={} if tested is None else tested[tested["kpi"] == kpi].set_index("type").to_dict("index"),
    )
    found = sorted(find_opportunities(situation), key=writer.place)
    covered = {name for one in found for name in one.segments}
    without = [name for name in situation.with_story if name not in covered]
    rows = [writer.row(one) for one in found] + ([writer.no_action(without)] if without else [])
    ids = [f"A{number:02d}" for number in range(1, len(rows) + 1)]
    table = pd.DataFrame(rows, index=range(len(rows)), columns=COLUMNS[1:])
    table.insert(0, "action", ids)
    commands = zip(table["command"], ids, strict=True)
    table["command"] = [one.format(action=action) if isinstance(one, str) else None for one, action in commands]
    parts = [{"action": action, **writer.part(o, p)} for action, o in zip(ids, found, strict=False) for p in o.parts]
    metrics = {
        "actions.count": len(found),
        "actions.prize": float(table["prize"].sum()) if table["prize"].notna().any() else np.nan,
        "actions.least": situation.least_prize if situation.unit == "spend" else np.nan,
        "actions.backtest_rank": rank_backtest(situation),
    }
    concerned = {action: writer.inside(one) for action, one in zip(ids, found, strict=False)}
    customers = _customers_of(concerned, index=situation.customers.index)
    contact = {name: {**at, "moment": moment_text(at["moment"])} for name, at in situation.contact.items()}
    return Actions(table, pd.DataFrame(parts, columns=PARTS), customers=customers, contact=contact, metrics=metrics)


def _customers_of(concerned: Mapping[str, np.ndarray], *, index: pd.Index) -> pd.DataFrame:
    """List the customers that opportunities concern, with the ids of these."""
    chosen = pd.DataFrame(concerned, index=index)
    chosen = chosen[chosen.any(axis=1)]
    kinds, number = np.unique(chosen.to_numpy(dtype=bool), axis=0, return_inverse=True)
    texts = np.array([" ".join(chosen.columns[row]) for row in kinds], dtype=object)
    table = pd.DataFrame({"customer_id": chosen.index.astype(str), "actions": texts[number.ravel()]})
    return table.sort_values("customer_id", ignore_index=True)


def condition_text(row: Mapping[str, Any]) -> str:
    """Return in words how many must take up an opportunity, a row of ``actions``, for its prize: 48 more buy again."""
    return sentence("actions", "condition", **{name: row[name] for name in ("type", "customers", "adopters")})


def per_stretch(days: int) -> str:
    """Return a horizon in words, after an amount: a quarter."""
    return sentence("actions", "per_stretch", days=days)


def spoken_offer(offer: str) -> str:
    """Return a need as a sentence speaks of it: "payment reminders" rather than "Getting paid on time"."""
    return spoken_needs().get(offer.lower(), {"name": offer})["name"]


def order_text(actions: pd.DataFrame) -> str:
    """Return in words by what opportunities are ordered; "" where there is no order to explain."""
    known = actions.loc[actions["type"] != NONE, "prize"].notna()
    return "" if len(known) < 2 else sentence("actions", "order", known=known.any(), unknown=not known.all())


def moment_text(moment: str | None) -> str | None:
    """Return in words when customers come: on Saturdays, in the evening."""
    return sentence("actions", f"moments.{moment}") if moment else None


@dataclass(frozen=True)
class _Writer:
    """Write the cells of a row."""

    situation: Situation
    pilots: Pilots
    things: pd.DataFrame | None
    labels: Mapping[str, str]
    currency: str
    tested: Mapping[str, Mapping[str, Any]]

    def place(self, one: Opportunity) -> int:
        """Return the place of an opportunity by what earlier tests of its type showed."""
        return ORDER[self.tested[one.type]["verdict"]] if one.type in self.tested else ORDER[OPEN]

    def text(self, name: str, **facts: Any) -> str:
        """Render a sentence of the actions; ``uses`` is known to all."""
        return sentence("actions", name, uses=self.situation.uses, **facts)

    def amount(self, value: float) -> str:
        """Write an amount of what is to be won with two figures."""
        rounded = float(f"{value:.1e}") if np.isfinite(value) else value
        return self.text("amount", value=rounded, unit=self.situation.unit, currency=self.currency)

    def row(self, one: Opportunity) -> dict[str, Any]:
        """Return the row of an opportunity."""
        members, inside = self.members(one.segments), self.inside(one)
        need = one.need or (self.new_need(one) if one.type == GROW_BASKET else self.own_need(inside))
        features = self.situation.customers.data.features
        effect = self.effect(one)
        return {
            **self.audience(one.segments),
            "type": one.type,
            "need": need,
            "thing": self.thing(need, inside),
            "offer": self.offer(need),
            "title": self.title(one.type, self.spoken(need), features.loc[members]),
            "customers": one.customers,
            "evidence": " ".join([self.evidence(one, inside, effect), *self.earlier_tests(one.type)]),
            **self.prize(one),
            "prize_reason": None if one.is_estimated else self.no_prize(),
            "chance": round(float(one.chance), 6),
            "adopters": round(float(one.adopters), 6),
            **effect,
            "backtest": self.backtest(one) if one.is_estimated else None,
            "channel": self.shared("channel", one.segments),
            "moment": moment_text(self.shared("moment", one.segments)),
            **self.test(one.segments, inside, expected=one.prize[0]),
        }

    def no_action(self, segments: list[str]) -> dict[str, Any]:
        """Return the row of the segments for which nothing stands out."""
        members = self.members(segments)
        goal = self.text(f"goal.{self.situation.unit}")
        return {
            **self.audience(segments),
            "type": NONE,
            "title": self.text("titles.none"),
            "customers": int(members.sum()),
            "evidence": self.text("evidence.none", goal=goal),
            "prize_reason": self.no_prize() if self.situation.cohort is None else None,
            **self.test(segments, members, expected=np.nan),
        }

    def audience(self, segments: list[str]) -> dict[str, str]:
        """Return the segments it is for, and the largest of them."""
        sizes = self.situation.segments.set_index("segment")["customers"]
        largest = max(segments, key=lambda name: (sizes[name], name))
        return {"segment": largest, "joined": " ".join(segments)}

    def members(self, segments: list[str]) -> np.ndarray:
        """Return who belongs to some segments."""
        return self.situation.segment.isin(segments).to_numpy()

    def shared(self, what: str, segments: list[str]) -> str | None:
        """Return the channel or moment of some segments, if it is the same in each of them."""
        found = {self.situation.contact[name][what] for name in segments}
        return found.pop() if len(found) == 1 else None

    def inside(self, one: Opportunity) -> np.ndarray:
        """Return the customers that an opportunity is for."""
        members = self.members(one.segments)
        who = self.situation.states.get(one.type)
        return members & (self.situation.open_now[one.type, one.need] if who is None else who)

    def own_need(self, inside: np.ndarray) -> str | None:
        """Return the need that stands out in what some customers spend, of those that may be offered."""
        amounts = self.situation.amounts
        if amounts is None or not inside.any() or inside.all():
            return None
        own, others = (amounts[who].sum(axis=0) / max(amounts[who].sum(), 1e-12) for who in (inside, ~inside))
        lead = own / np.maximum(others, 1e-12)
        clear = (lead >= OWN_LEAD) & (own >= OWN_LEAST)
        order = np.lexsort((-own, ~clear))  # those that lead first, then the largest
        best = next((i for i in order if self.situation.may_offer(self.situation.needs.ids[i])), None)
        stands_out = best is not None and (clear[best] or (own[best] >= OWN_SHARE and lead[best] > 1))
        return self.situation.needs.ids[best] if stands_out else None

    def new_need(self, one: Opportunity) -> str | None:
        """Return the need that is likeliest to be worth most to these segments, of those they hardly buy."""
        if self.situation.estimates is None:
            return None
        table = self.situation.effects
        table = table[table["segment"].isin(one.segments) & (table["type"] == CROSS_NEED)]
        table = table[table["need"].map(self.situation.may_offer).astype(bool)]
        worth = (table["effect"] * table["open"]).groupby(table["need"]).sum()
        return str(worth.idxmax()) if len(worth) and worth.max() > 0 else None

    def offer(self, need: str | None) -> str | None:
        """Return the label of a need as it is offered."""
        if not need or self.situation.offers is None:
            return None
        found = self.situation.offers.loc[need]
        return self.text("like_things", things=found["name"]) if found["by_things"] else str(found["name"])

    def spoken(self, need: str | None) -> str | None:
        """Return a need as a sentence speaks of it."""
        offer = self.offer(need)
        return spoken_offer(offer) if offer else None

    def thing(self, need: str | None, inside: np.ndarray) -> str | None:
        """Return the largest thing of a need, if it makes up enough of what the customers buy to be named."""
        weights, names = self.situation.customers.data.things
        if not need or self.things is None or weights is None or not inside.any():
            return None
        own = self.things[(self.things["need"] == need) & ~self.things.get("never_offer", False)]
        sold = set(names)
        known = [thing for thing in own["thing"] if thing in sold]
        total = np.asarray(weights[inside].sum(axis=0)).ravel()
        share = dict(zip(names, total / max(total.sum(), 1e-12), strict=True))
        best = max(known, key=lambda thing: (share[thing], thing), default=None)
        return label(best, labels=self.labels) if best is not None and share[best] >= MIN_THING_SHARE else None

    def title(self, type_: str, offer: str | None, features: pd.DataFrame) -> str:
        """Return the action as one imperative sentence."""
        gap = features["gap_days"].median() if "gap_days" in features else np.inf
        fixed = self.situation.uses or CANCEL in self.situation.customers.kinds  # a contract has no next order
        manner = "uses" if fixed else "often" if gap <= OFTEN_DAYS else "seldom"
        return self.text(f"titles.{type_}.{manner}", offer=offer)

    def effect(self, one: Opportunity) -> dict[str, float]:
        """Return the effect per adopter, averaged over the segments."""
        adopters = max(one.adopters, 1e-12)
        low, high = one.prize[1] / adopters, one.prize[2] / adopters
        values = dict(zip(("effect", "effect_low", "effect_high"), (one.prize[0] / adopters, low, high), strict=True))
        return {name: round(float(value), 6) for name, value in values.items()}

    def prize(self, one: Opportunity) -> dict[str, Any]:
        """Return the prize with its range, as margin where that is known of all segments."""
        margin = self.situation.segments.set_index("segment")["margin"].reindex(one.segments).astype(float)
        known = self.situation.unit == "spend" and margin.notna().all()
        factor = 1.0
        if known:
            weight = [p.effect * p.adopters for p in sorted(one.parts, key=lambda p: p.segment)]
            factor = float(np.average(margin, weights=weight)) if np.isfinite(weight).all() and sum(weight) > 0 else 1.0
        cells = dict(zip(("prize", "prize_low", "prize_high"), one.prize, strict=True))
        unit = None if not one.is_estimated else "margin" if known else self.situation.unit
        return {name: round(float(value) * factor, 6) for name, value in cells.items()} | {"prize_unit": unit}

    def part(self, one: Opportunity, own: Part) -> dict[str, Any]:
        """Return what an opportunity is for one of its segments: customers, prize, and what of its need is little."""
        row = {"segment": own.segment, "customers": own.customers}
        row |= self.prize(Opportunity(one.type, one.need, (own,)))
        if one.type != CROSS_NEED:
            return row
        limit, peers = self.limit(one.need, own.segment), peer_share(self.situation, one.need, segments=[own.segment])
        return row | {"limit": limit, "peers": peers}

    def limit(self, need: str, segment: str) -> float:
        """Return the amount of a need, a horizon's worth, below which customers at a segment's level buy little."""
        situation = self.situation
        levels = situation.segments.set_index("segment")["macro_segment"]
        return float(situation.limits[levels[segment]][situation.needs.ids.index(need)])

    def little(self, one: Opportunity) -> str:
        """Return that they buy little of a need, and how many others of their level buy more."""
        facts = {"offer": self.spoken(one.need), "peers": peer_share(self.situation, one.need, segments=one.segments)}
        facts["least"] = None
        if self.situation.in_money:
            limits = [self.limit(one.need, name) for name in one.segments]
            ends = {"least": min(limits), "most": max(limits)}
            facts |= {name: money(value, currency=self.currency) for name, value in ends.items()}
            facts["per_stretch"] = per_stretch(self.situation.customers.period.horizon_days)
        return self.text("evidence.little", **facts)

    def no_prize(self) -> str:
        """Explain why there is no prize."""
        missing = self.situation.missing_days(horizons=2)
        unclear = self.text("reasons.unclear", unit=self.situation.unit)
        return self.text("reasons.history", days=missing) if missing else unclear

    def evidence(self, one: Opportunity, inside: np.ndarray, effect: Mapping[str, float]) -> str:
        """Return what speaks for it, in a few sentences."""
        facts: dict[str, Any] = {"customers": one.customers}
        if one.type == CROSS_NEED:
            facts["little"] = self.little(one)
        if not one.is_estimated:
            return self.text("evidence.gap", **facts)
        amounts = {name.removeprefix("effect_"): self.amount(value) for name, value in effect.items()}
        facts |= amounts | {"then": one.total("then"), "span": self.span}
        facts["some"] = self.text("some", count=one.total("taken"), of=one.total("then"))
        facts |= {"returned": one.total("returned") / one.customers}
        facts |= {"days": self.situation.customers.period.recent_days, **self.stretch}
        facts["outcome"] = self.text(f"outcome.{self.situation.unit}")
        close = "even_odds" if one.total("returned") else "caution"
        evidence = re.sub(r" \(([^()]+) (to|bis) \1\)", "", self.text(f"evidence.{one.type}", **facts))  # no range
        return f"{evidence} {self.text(close)} {self.assumption(one)}"

    def assumption(self, one: Opportunity) -> str:
        """Return where the number of customers comes from who may take it up."""
        away = one.total("returned")
        facts = {"type": one.type, "customers": one.customers, "adopters": one.adopters}
        fewer = one.adopters < ONE_IN_TEN * (one.customers - away)
        return self.text("assumption", condition=condition_text(facts), returns=away > 0, fewer=fewer)

    def earlier_tests(self, type_: str) -> list[str]:
        """Return what earlier tests of a type of action brought; nothing where there was none."""
        if type_ not in self.tested:
            return []
        row, kpi = self.tested[type_], self.text(f"kpi.{self.pilots.kpi}")
        effects = between(row["effect_low"], row["effect_high"], form=signed_percent)
        return [self.text("tested", row=row, kpi=kpi, effects=effects)]

    @cached_property
    def stretch(self) -> dict[str, str]:
        """The length of the horizon in words."""
        days = self.situation.customers.period.horizon_days
        return {name: self.text(name, days=days) for name in ("stretch", "a_stretch")}

    @cached_property
    def span(self) -> str:
        """The months in which like customers took something up."""
        last = self.situation.customers.period.last_horizon_start
        start = last - timedelta(days=self.situation.customers.period.horizon_days)
        first = start if start.day < MIN_DAYS_OF_MONTH else start + timedelta(days=MIN_DAYS_OF_MONTH)
        end = last - timedelta(days=MIN_DAYS_OF_MONTH)
        names = self.text("months").split()
        return self.text("span", first=names[first.month - 1], last=names[end.month - 1])

    def backtest(self, one: Opportunity) -> str:
        """Return how the estimate of one horizon earlier compares with what was observed since."""
        found = backtest(self.situation, one)
        if np.isfinite(found.before):
            amounts = {"before": self.amount(found.before), "now": self.amount(found.observed)}
            short = found.horizon_days < self.situation.customers.period.horizon_days
            name = "backtest.short" if short else "backtest.done"
            return self.text(name, days=found.horizon_days, **amounts, **self.stretch)
        if found.missing_days:
            return self.text("backtest.history", days=found.missing_days)
        return self.text("backtest.few")

    def test(self, segments: list[str], inside: np.ndarray, *, expected: float) -> dict[str, Any]:
        """Return the pilot of the customers inside that would show a change, in a sentence and as a command."""
        situation = self.situation
        size, kpi = self.pilots.size(situation.customers.index[inside]), self.text(f"kpi.{self.pilots.kpi}")
        own = self.situation.segments.set_index("segment").loc[segments]
        if size is None:
            stay = np.average(own["active_share_next"].fillna(0.0), weights=own["customers"])
            always = self.pilots.kpi == "active" and stay >= MOSTLY
            return {"test": self.text("test.always" if always else "test.unknown")}
        horizons = situation.customers.period.horizon_days / (7 * size.weeks)
        base = size.mean * size.customers * horizons if situation.unit == "spend" else np.nan
        part = expected / base if np.isfinite(base) and base > 0 else np.nan
        facts = {"size": size.customers, "weeks": size.weeks, "detectable": size.detectable, "kpi": kpi}
        facts |= {"limit": READABLE, "segments": len(segments), "expected": part, "small": bool(part < size.detectable)}
        facts["concerned"] = bool(inside.sum() < self.members(segments).sum())
        command = f"segkit pilot RUN --opportunity {{action}} --kpi {self.pilots.kpi} --weeks {size.weeks}"
        return {
            "detectable": round(size.detectable, 6),
            "weeks": size.weeks,
            "test": self.text("test.readable" if size.is_readable else "test.unreadable", **facts),
            "command": command if size.is_readable else None,
        }
