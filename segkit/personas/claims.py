"""Check the sentences of cards by a second path: their figures again from raw events, and each claim on those.

The first path goes from events over days and features to facts. This one reads the events of the source again, sums
them by customer in SQL, and shares no code with the first. Figures that raw events do not hold (a forecast, a rule's
precision) are compared with the table of the run that they come from.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from segkit.format import FLOOR, joined, lower_first
from segkit.period import Period, dates_text, span_text
from segkit.personas.cards import CARD_PARTS, CAUTIONS, NAMES, Sentence, evaluate, rounded, rule_form, sentences
from segkit.personas.evidence import (
    EXAMPLE_OF,
    IN_SENTENCES,
    ROW_FACTS,
    SEGMENT_FACTS,
    margin_of_all,
    trait_words,
)
from segkit.personas.facts import FORMS_COLUMN, PLACEHOLDER, Fact, FactError, facts_from_table
from segkit.personas.naming import label
from segkit.personas.totals import CustomerTotals
from segkit.texts import load_texts

TOLERANCE = 1e-6  # relative; sums of the two paths differ by rounding of floats only
CLAIM_COLUMNS = ["segment", "part", "sentence", "claim", "holds"]
MEDIANS = ("gap_days", "recency_days")
PER_ORDER = {"order_value": "order_spend", "lines_per_order": "lines"}  # fact -> the sum that all orders share
AMOUNT_DIGITS = 6  # of an amount that is compared with a limit


@dataclass(frozen=True)
class RawFigures:
    """What the second path knows: sums by customer from raw events, and the tables that others are compared with.

    Parameters
    ----------
    totals
        Of `totals.customer_totals`.
    segment
        Segment id by customer_id.
    segments
        The segment table.
    needs, things
        The tables ``needs`` and ``need_things``; None where no needs were learnt.
    people
        The customer table as the source has it; None without one.
    tables
        Tables with a row for each segment by name: unmet_needs, topics, actions, rules.
    labels
        Category -> label.
    """

    totals: CustomerTotals
    segment: pd.Series
    segments: pd.DataFrame
    period: Period
    needs: pd.DataFrame | None = None
    things: pd.DataFrame | None = None
    people: pd.DataFrame | None = None
    tables: Mapping[str, pd.DataFrame] | None = None
    labels: Mapping[str, str] | None = None


def check_claims(personas: pd.DataFrame, facts: pd.DataFrame, raw: RawFigures, *, uses: bool = False) -> pd.DataFrame:
    """Check every sentence of every card on figures that were computed again.

    Parameters
    ----------
    personas
        Cards with their forms, as returned by `cards.write_personas`.
    facts
        The table of facts that the cards were written from.
    raw
        What the second path knows.
    uses
        As the cards were written.

    Returns
    -------
    DataFrame
        ``segment, part, sentence`` (with placeholders), ``claim`` (empty: its figures are all it claims), ``holds``.

    Raises
    ------
    FactError
        A sentence is not one of those that cards are written from, a figure differs, or a claim does not hold.
    """
    stored: dict[str, dict[str, Fact]] = {}
    for fact in facts_from_table(facts):
        stored.setdefault(fact.segment, {})[fact.name] = fact
    known = _Known(raw)
    rows = []
    for row in personas.to_dict("records"):
        own, forms = row["segment"], json.loads(row[FORMS_COLUMN])
        values = known.of(own, stored.get(own, {}))
        rule = rule_form((raw.tables or {}).get("rules"), segment=own, uses=uses)
        for part in (*NAMES, *CARD_PARTS, "caution"):
            for sentence in _split(own, part, forms.get(part, ""), rule=rule):
                _compare(own, sentence, stored.get(own, {}), values)
                scope = rounded(values) | {"uses": uses, "rule_good": bool(rule)}
                if sentence.claim and not evaluate(sentence.claim, scope):
                    raise FactError(_refusal(own, sentence, stored.get(own, {}), values))
                rows.append((own, part, sentence.text, sentence.claim, True))
    return pd.DataFrame(rows, columns=CLAIM_COLUMNS)


def _split(segment: str, part: str, form: str, *, rule: str) -> list[Sentence]:
    """Take a part of a card apart into the sentences that it may hold."""
    if part in NAMES:
        allowed = [Sentence(part, f"{{{part}}}")]
    elif part == "caution":
        allowed = [Sentence(part, load_texts("cards")[name]) for name in CAUTIONS]
    else:
        allowed = [each for place in sentences(part) for each in place]
        allowed = [Sentence(part, each.text.replace("{rule}", rule), each.when, each.claim) for each in allowed]
    found, rest = [], form
    while rest:
        fits = [each for each in allowed if each.text and rest.startswith(each.text)]
        if not fits:
            raise FactError(f"{segment}: '{rest}' in '{part}' is no sentence of cards.yaml. Run again.")
        found.append(max(fits, key=lambda each: len(each.text)))
        rest = rest[len(found[-1].text) :].lstrip()
    return found


def _compare(segment: str, sentence: Sentence, stored: Mapping[str, Fact], values: Mapping[str, Any]) -> None:
    """Stop where a figure or a name of a sentence is not what the second path finds."""
    for name in dict.fromkeys(PLACEHOLDER.findall(sentence.text)):
        fact = stored.get(name)
        if fact is None or name not in values:
            raise FactError(f"{segment}: '{name}' of '{sentence.text}' cannot be computed again. Run again.")
        value, shown = values[name], fact.value if fact.text is None else fact.text
        if shown == value or (isinstance(value, float) and fact.text is None and _close(float(shown), value)):
            continue
        again = Fact(name, segment, value, fact.unit, fact.how) if fact.text is None else value
        again = again.formatted() if isinstance(again, Fact) else again
        raise FactError(
            f"{segment}: '{sentence.text}' shows {name} as {fact.formatted()}, and raw events give {again}. "
            "Run again; if it stays, the source has changed since its days were read: --previous none reads all."
        )


def _close(shown: float, value: float) -> bool:
    return bool(np.isclose(shown, value, rtol=TOLERANCE, atol=1e-5 * min(1.0, abs(value)) + 1e-9))


def _refusal(segment: str, sentence: Sentence, stored: Mapping[str, Fact], values: Mapping[str, Any]) -> str:
    names = sorted(name for name in values if name in sentence.claim)
    held = {name: f"{values[name]:.4g}" if isinstance(values[name], float) else values[name] for name in names}
    shown = {name: stored[name].formatted() for name in names if name in stored}
    return (
        f"{segment}: '{sentence.text}' does not hold: {sentence.claim}, where {held}; the card has {shown}. Run again."
    )


class _Known:
    """Facts of segments as the second path finds them."""

    def __init__(self, raw: RawFigures) -> None:
        self.raw = raw
        figures = raw.totals.customers
        self.members = raw.segment.reindex(figures.index).to_numpy()
        self.table = raw.segments.set_index("segment")
        self.sums = figures.groupby(self.members).sum()
        net = self.sums.get("spend", pd.Series(dtype=float))
        self.shares = net.clip(lower=0) / net.clip(lower=0).sum() if net.sum() > 0 else pd.Series(dtype=float)
        self.whole = self.sums.sum()

    def of(self, own: str, stored: Mapping[str, Fact]) -> dict[str, Any]:
        """Return the facts of a segment by name; ``stored`` says which things and traits the card names."""
        inside = self.members == own
        values = (
            self._rows(own) | self._size(own, inside) | self._habits(own, inside, stored) | self._needs(own, inside)
        )
        values |= self._things(own, inside, stored) | self._who(inside, stored) | self._action(own, inside)
        return {name: value for name, value in values.items() if value is not None and value == value}

    def _size(self, own: str, inside: np.ndarray) -> dict[str, Any]:
        row, period, figures = self.table.loc[own], self.raw.period, self.raw.totals.customers
        values: dict[str, Any] = {name: row[name] for name in SEGMENT_FACTS if name in row.index}
        values |= {name: row.get(name) for name in NAMES} | {"floor": float(FLOOR)}
        values["margin_all"] = margin_of_all(self.raw.segments)
        values |= {"customers": float(inside.sum()), "customer_share": float(inside.mean())}
        if "spend" in figures:
            part = float(self.shares.get(own, np.nan))
            values |= {"revenue_share": part, "revenue_times": part / values["customer_share"]}
            values["spend_now"] = float(figures.loc[inside, "spend_last_horizon"].mean())
            values["spend_usual"] = values["spend_now"] * row.get("spend_change", np.nan)
        values["span"] = span_text(period.lookback_days)
        values["next_span"] = dates_text(period.as_of, period.horizon_end, years=False)
        values["last_span"] = dates_text(period.last_horizon_start, period.as_of, years=False)
        return values

    def _habits(self, own: str, inside: np.ndarray, stored: Mapping[str, Fact]) -> dict[str, Any]:
        figures, values = self.raw.totals.customers, {}
        sums = self.sums.loc[own] if inside.any() else 0.0 * self.whole
        for end, rows, total in (("", inside, sums), ("_others", ~inside, self.whole - sums)):
            count = int(rows.sum())
            values |= {f"{name}{end}": float(total[name]) / count if count else np.nan for name in figures}
            values |= {f"{name}{end}": float(figures.loc[rows, name].median()) for name in MEDIANS if name in figures}
            orders = float(total["orders"])
            values |= {f"{n}{end}": float(total[s]) / orders for n, s in PER_ORDER.items() if s in total and orders > 0}
        channels = self.raw.totals.channels
        for name in channels if channels is not None and "channel" in stored else ():
            if name.replace("_", " ") == stored["channel"].text:
                values["channel"] = stored["channel"].text
                values["channel_share"] = float(channels.loc[inside, name].mean())
                values["channel_share_others"] = float(channels.loc[~inside, name].mean())
        return values

    def _needs(self, own: str, inside: np.ndarray) -> dict[str, Any]:
        """Return the shares of the need that leads and of the largest."""
        shares = self.raw.totals.needs
        if shares is None or not (shares.bought & inside).any() or not (shares.bought & ~inside).any():
            return {}
        names = self.raw.needs.set_index("need")["name"]
        means, others = (shares.means(rows).reindex(names.index) for rows in (inside, ~inside))
        largest, led = means.round(9).idxmax(), self.table.loc[own, "need"]
        values = {"largest_need": lower_first(names[largest]), "largest_share": float(means[largest])}
        values["largest_share_others"] = float(others[largest])
        if led in shares.names:
            bought = shares.of(led, rows=inside)
            values |= {"need": lower_first(names[led]), "need_share": float(means[led])}
            values |= {"need_share_others": float(others[led]), "need_buyers": float((bought > 0).mean())}
            values["need_lead"] = float((bought > others[led]).mean())
        gap = self._row("unmet_needs", own)
        if gap.get("term") in set(names):
            of_need = shares.of(names.index[names == gap["term"]][0], rows=inside)
            values["gap_buyers"] = float((of_need >= gap["level"]).sum() / inside.sum())
        return values

    def _things(self, own: str, inside: np.ndarray, stored: Mapping[str, Fact]) -> dict[str, Any]:
        """Return the examples that a card names, where they belong to its need and members spend more on them."""
        values, texts = {}, []
        led, raw = self.table.loc[own, "need"], self.raw
        if raw.things is None or raw.totals.things is None:
            return values
        of_need = set(raw.things.loc[raw.things["need"] == led, "thing"])
        means, means_of_others = (raw.totals.things.means(rows) for rows in (inside, ~inside))
        for number in range(1, 10):
            fact = stored.get(f"thing_{number}")
            if fact is None:
                break
            thing = fact.how.removeprefix(EXAMPLE_OF)
            if thing not in of_need:
                return values
            mean, others = float(means[thing]), float(means_of_others[thing])
            if mean <= others:
                return values
            texts.append(label(thing, labels=raw.labels))
            values |= {fact.name: texts[-1], f"{fact.name}_share": mean, f"{fact.name}_share_others": others}
        return values | ({"thing_list": joined(texts)} if len(texts) > 1 else {})

    def _who(self, inside: np.ndarray, stored: Mapping[str, Fact]) -> dict[str, Any]:
        """Return the traits that a card names, from the customer table of the source."""
        people, values = self.raw.people, {}
        if people is None or "known_share" not in stored:
            return values
        people = people.reindex(self.raw.totals.customers.index)
        values["known_share"] = float(people.notna().any(axis=1)[inside].mean())
        for number in (1, 2):
            fact = stored.get(f"who_{number}")
            column, _, value = (fact.how.partition(": ")[2] if fact else "").partition(" = ")
            if column not in people:
                continue
            known = people[column].notna()
            held = (people[column].astype(str) == value) if value else people[column]
            values[fact.name] = trait_words(fact.how.partition(": ")[2], labels=self.raw.labels)
            values[f"{fact.name}_share"] = float(held[inside & known].mean())
            values[f"{fact.name}_others"] = float(held[~inside & known].mean())
        return values

    def _action(self, own: str, inside: np.ndarray) -> dict[str, Any]:
        """Return how many members buy little of the need that is offered, and the share of others who buy more."""
        row, shares, period = self._row("actions", own), self.raw.totals.needs, self.raw.period
        if shares is None or row.get("type") != "cross_need" or row.get("need") not in shares.names:
            return {}
        amounts = shares.amounts(row["need"]) * period.horizon_days / period.lookback_days
        little = np.round(amounts, AMOUNT_DIGITS) < row["limit"]
        levels, needs = (self.table[column].reindex(self.members).to_numpy() for column in ("macro_segment", "need"))
        others = ~inside & (levels == self.table.loc[own, "macro_segment"]) & (needs != row["need"])
        share = {"action_peers": float((~little[others]).mean())} if others.sum() >= FLOOR else {}
        return {"action_own": float((little & inside).sum()), **share}

    def _rows(self, own: str) -> dict[str, Any]:
        """Return what tables of the run hold, where raw events do not."""
        values = {}
        for name, columns in ROW_FACTS.items():
            row = self._row(name, own)
            values |= {fact: row.get(column) for column, (fact, _unit, _how) in columns.items() if column in row}
        values |= {name: lower_first(values[name]) for name in IN_SENTENCES if isinstance(values.get(name), str)}
        rules = (self.raw.tables or {}).get("rules")
        for row in rules[rules["segment"] == own].to_dict("records") if rules is not None else []:
            name = f"rule_{row['condition']}"
            values |= {name: row["words"], f"{name}_low": row["at_least"], f"{name}_high": row["below"]}
            values |= {f"rule_{rate}": row[rate] for rate in ("precision", "recall")}
        return values

    def _row(self, name: str, own: str) -> dict[str, Any]:
        table = (self.raw.tables or {}).get(name)
        rows = [] if table is None else table[table["segment"] == own].head(1).to_dict("records")
        return rows[0] if rows else {}
