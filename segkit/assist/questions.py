"""Questions about a finished run, answered from its tables alone, so that every figure is the one on its pages.

No answer shows a group of fewer than 20 customers, nor can one be found by subtracting answers: only whole segments and
needs are counted, what a page hides is hidden here, and so is a count whose complement is small.

What only some answers need is imported by them, so that the first answer comes soon.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial, wraps
from pathlib import Path
from typing import Any

import pandas as pd

from segkit import templates
from segkit.assist.answers import Answer, Fact, figure, known, named
from segkit.assist.checking import check_figures
from segkit.data.alone import refuse_customers_only
from segkit.data.runs import Run, load_run, load_run_privacy
from segkit.errors import InputError, RunError, SegkitError
from segkit.format import (
    FLOOR,
    clean,
    count,
    hidden_segments,
    is_missing,
    masked_count,
    percent,
    score,
    suppressed_cells,
)
from segkit.reports.wording import Wording
from segkit.texts import ENGLISH, check_language, phrase, speaking
from segkit.vocabulary import EVERYONE

OF_SIZE = ("customers", "customer_share", "revenue", "revenue_share", "orders")  # hidden where the size is
SEGMENT_FACTS = (  # column of the table segments, unit, what it is
    ("customers", "customers", "customers"),
    ("customer_share", "share", "share of customers"),
    ("revenue", "money", "revenue in {lookback}"),
    ("revenue_share", "share", "share of revenue in {lookback}"),
    ("orders", "orders", "orders in {lookback}"),
    ("spend_now", "money", "spend per customer from {last}"),
    ("spend_next", "money", "expected spend per customer from {next}"),
    ("active_share_next", "share", "share expected to be active from {next}"),
    ("stability", "score", "stability (0-1)"),
)
SEGMENT_TEXTS = (("name", "name"), ("level", "level of value"), ("need_name", "main need"), ("verdict", "stability"),
                 ("action", "what to do"))  # fmt: skip
NEED_FACTS = (
    ("spend_share", "share", "share of spend"),
    ("buyers", "customers", "customers who buy it"),
    ("main", "share", "share of customers whose main need it is"),
    ("stability", "score", "stability (0-1)"),
)
SURE_FACTS = (  # headline number, unit, what it is
    ("segments.count", "whole", "segments"),
    ("stability.ari_mean", "score", "agreement of repeated analyses (0-1)"),
    ("forward.spend_r2", "score", "share of later differences in spend that segments explain"),
    ("forward.active_r2", "score", "share of later differences in activity that segments explain"),
    ("forward.need_r2", "score", "share of later differences in needs that segments explain"),
    ("segments.noise_share", "share", "share left outside any dense group"),
    ("forecast.spend.coverage", "share", "customers whose spend fell within its 95% range in the back-test"),
    ("forecast.active.auc", "score", "how well the forecast ranks who stays active (0.5-1)"),
)
REVENUE_DRIVERS = (
    ("from_customers", "change from the number of customers"),
    ("from_orders", "change from orders per customer"),
    ("from_value", "change from the value of an order"),
)
MOST_THINGS, MOST_TRAITS = 5, 6
PILOT_WEEKS = (4, 8, 13)


def _in_language(question: Callable[..., Answer]) -> Callable[..., Answer]:
    """Let a question be answered in the language of its object, or of its run."""

    @wraps(question)
    def answer(self: "Questions", *given: Any, **options: Any) -> Answer:
        with speaking(self.language or self.run.language, names=self.run.language):
            return question(self, *given, **options)

    return answer


@dataclass(frozen=True)
class Questions:
    """Read-only answers over one finished run; see `ask`.

    Parameters
    ----------
    run
        The run.
    language
        Of the answers; empty is that of the run. Names, cards and opportunities keep that of the run.

    Examples
    --------
    >>> asked = segkit.load_run(segkit.example_run()).ask
    >>> asked.list_segments().fact("segments.count").value
    4.0
    >>> len(asked.who_is_in("S01").ids), len(asked.who_is_in("S01", ids=True).ids) > 20
    (0, True)
    """

    run: Run
    language: str = ""

    @_in_language
    def list_segments(self) -> Answer:
        """List all segments: size, revenue, forecast, stability, and what to do."""
        table, summary = self._segments, self._summary
        first = self._sentence(
            "segments",
            count=len(table),
            customers=int(table["customers"].sum()),
            period=self._words.period,
            verdict=summary.get("segments.verdict") or "",
        )
        whole = {
            "count": len(table),
            "customers": table["customers"].sum(),
            "revenue": table["revenue"].sum(min_count=1),
        }
        facts = [
            self._figure("segments.count", phrase("segments"), whole, column="count", unit="whole"),
            self._figure(
                "segments.customers", phrase("customers with a segment"), whole, column="customers", unit="customers"
            ),
            self._figure(
                "segments.revenue",
                phrase("revenue in {lookback}").format(lookback=self._words.period.lookback_dates),
                whole,
                column="revenue",
            ),
        ]
        facts += [fact for segment in self._order for fact in self._segment_facts(segment)]
        return Answer("list_segments", (first,), known(facts))

    @_in_language
    def describe_segment(self, segment: str) -> Answer:
        """Describe one segment: its figures, its persona, and what to do."""
        row = self._row(segment)
        first = self._sentence(
            "segment", id=segment, **{name: clean(row.get(column)) for name, column in
            (("name", "name"), ("level", "level"), ("need", "need_name"), ("action", "action"))}
        )  # fmt: skip
        return Answer("describe_segment", (first, *self._persona(segment)), known(self._segment_facts(segment)))

    @_in_language
    def list_needs(self) -> Answer:
        """List all needs, the largest first."""
        table = self._needs
        facts = [fact for need in table["need"] for fact in self._need_facts(need)]
        return Answer("list_needs", (self._sentence("needs", count=len(table)),), known(facts))

    @_in_language
    def describe_need(self, need: str) -> Answer:
        """Describe one need: what belongs to it, how much of spend it is, and how many customers buy it."""
        facts, things = self._need_facts(need), []
        if self.run.has("need_things"):
            own = self._table("need_things")
            own = own[(own["need"] == need) & ~own["sensitive"].astype(bool)].nlargest(MOST_THINGS, "weight")
            things = [clean(thing) for thing in self._words.things(own["thing"].tolist())]
        name = clean(self._needs.set_index("need").loc[need, "name"])
        return Answer("describe_need", (self._sentence("need", name=name, id=need, things=things),), known(facts))

    @_in_language
    def compare(self, first: str, second: str) -> Answer:
        """Compare two segments side by side."""
        names = [f"{clean(self._row(one)['name'])} ({one})" for one in (first, second)]
        facts = [fact for one in (first, second) for fact in self._segment_facts(one)]
        traits = [line for one in (first, second) for line in self._traits(one)]
        return Answer("compare", (self._sentence("compared", first=names[0], second=names[1]), *traits), known(facts))

    @_in_language
    def who_is_in(self, segment: str, *, ids: bool = False) -> Answer:
        """Say how many customers are in a segment and how they differ from others.

        Parameters
        ----------
        segment
            Its id.
        ids
            Give the ids of its customers, too.
        """
        row = self._row(segment)
        lines = (self._sentence("within", name=clean(row["name"]), id=segment), *self._traits(segment))
        facts = [fact for fact in self._segment_facts(segment) if fact.name.rpartition(".")[2] in ("name", *OF_SIZE)]
        if not ids:
            return Answer("who_is_in", lines, known(facts))
        placed = self._table("assignments")
        own = tuple(placed.loc[placed["segment"] == segment, "customer_id"].sort_values())
        return Answer("who_is_in", lines, known(facts), ids=own)

    @_in_language
    def forecast(self, *, segment: str = "") -> Answer:
        """Give the forecast of the next period, for all customers or one segment."""
        from segkit.reports.overview import describe_accuracy

        if not self.run.has("predicted_segments"):
            raise InputError(f"{self.run.path.name}: this run holds no forecast. Run 05_predict on it.")
        table = self._table("predicted_segments").set_index("segment")
        chosen = segment or EVERYONE
        if chosen != EVERYONE:
            self._row(chosen)
        row, hidden, dates = table.loc[chosen].to_dict(), chosen in self._hidden, self._words.period
        prefix = "forecast" if chosen == EVERYONE else chosen
        labels = {
            "spend": ("money", phrase("expected spend from {next}")),
            "orders": ("orders", phrase("expected orders from {next}")),
            "active_share": ("share", phrase("expected active share from {next}")),
        }
        if chosen == EVERYONE:  # as in the tile of the overview, from the back-tested forecast
            summary = {key.replace(".", "_"): value for key, value in self._summary.items()}
            row |= {f"{c}{e}": summary[f"forecast_{c}{e}"] for c in labels for e in ("", "_low", "_high")
                    if not is_missing(summary.get(f"forecast_{c}{e}"))}  # fmt: skip
        facts = [
            self._figure(f"{prefix}.expected_{column}" if segment else f"forecast.{column}",
                         label.format(next=dates.next_dates), row, column=column, unit=unit,
                         table="predicted_segments" if segment else "summary",
                         hidden=hidden and column != "active_share")
            for column, (unit, label) in labels.items()
        ]  # fmt: skip
        kept = known(facts)
        if segment:
            kept += known(self._segment_facts(segment, only=("spend_now", "spend_next", "active_share_next")))
        name = phrase("All customers") if chosen == EVERYONE else f"{clean(self._row(chosen)['name'])} ({chosen})"
        sentences = [f"{name}: {fact.label.removeprefix(f'{chosen}, ')}: {fact.text}." for fact in kept]
        if chosen == EVERYONE:
            sentences.append(describe_accuracy(self._summary, period=dates))
        return Answer("forecast", tuple(sentences) or (self._sentence("no_forecast", name=name),), kept)

    @_in_language
    def opportunities(self, *, most: int = 3) -> Answer:
        """List what to do first, as on the overview, with what it may bring and the command that tests it."""
        from segkit.reports.overview import best_actions

        if not self.run.has("actions") or self._summary.get("segments.verdict") == "none":
            return Answer("opportunities", (self._sentence("no_opportunities"),))
        table, sentences, facts = best_actions(self._table("actions"), most=most), [], []
        if table.empty:
            return Answer("opportunities", (self._sentence("no_opportunities"),))
        dates = self._words.period.next_dates
        for row in table.to_dict("records"):
            own = list(dict.fromkeys([row["segment"], *str(row["joined"]).split()]))
            hidden = bool(set(own) & self._hidden) or row["customers"] < FLOOR
            names = [f"{clean(self._row(one)['name'])} ({one})" for one in own]
            in_money = row["prize_unit"] in ("spend", "margin")
            form = partial(self._rounded, form=self._words.money if in_money else count)
            prize, low, high = (None if is_missing(row[f"prize{end}"]) else form(row[f"prize{end}"])
                                for end in ("", "_low", "_high"))  # fmt: skip
            evidence = "" if hidden else clean_text(row["evidence"])
            who = phrase("some") if hidden else masked_count(row["customers"])
            amounts = {"prize": prize, "low": low, "high": high}
            named_by = {"id": row["action"], "title": clean(row["title"]), "names": names}
            sentences.append(self._sentence("opportunity", **named_by, **amounts, evidence=evidence, who=who))
            name, table_name = row["action"], "actions"
            facts += [
                named(f"{name}.title", phrase("what to do"), row["title"], table=table_name),
                figure(f"{name}.customers", phrase("customers it is for"), row, column="customers", unit="customers",
                       table=table_name, form=masked_count, hidden=hidden),
                figure(f"{name}.prize", phrase("what it may bring from {next}").format(next=dates), row, column="prize",
                       unit="money" if in_money else "orders", table=table_name, form=form),
                figure(f"{name}.chance", phrase("chance that the effect is real"), row, column="chance", unit="share",
                       table=table_name, form=percent),
                figure(f"{name}.detectable",
                       phrase("smallest change that a test of {weeks} weeks shows").format(weeks=row["weeks"]), row,
                       column="detectable", unit="share", table=table_name, form=percent),
                named(f"{name}.command", phrase("command of the test"), row["command"], table=table_name),
            ]  # fmt: skip
        return Answer("opportunities", tuple(sentences), known(facts))

    @_in_language
    def why_revenue_moved(self) -> Answer:
        """Say why revenue moved from the period before to the last one, in parts that add up."""
        from segkit.refresh.revenue import TABLE
        from segkit.reports.revenue import STATES, describe_revenue, earlier_dates

        change = self._revenue
        names = self._segments.set_index("segment")["name"].map(clean)
        sentences = describe_revenue(change, names=names, words=self._words)
        facts, period, earlier = [], self._words.period, earlier_dates(self._words.period)
        for row in change.to_dict("records"):
            row["change_share"] = row["change"] / row["before"] if row["before"] > 0 else None
            unit = "money" if row["kpi"] == "spend" else "orders"
            prefix = f"revenue.{row['item'].replace(' ', '_') or 'all'}"
            what = phrase({"": "revenue", **STATES}.get(row["item"], f"{names.get(row['item'], 'Other customers')}"))
            parts = {"before": phrase("from {dates}").format(dates=earlier), "change": phrase("change")}
            parts["after"] = phrase("from {dates}").format(dates=period.last_dates)
            drivers = {column: phrase(words) for column, words in REVENUE_DRIVERS}
            facts.append(
                self._figure(
                    f"{prefix}.change_share",
                    f"{what}, {phrase('change as a share')}",
                    row,
                    column="change_share",
                    unit="share",
                    table=TABLE,
                )
            )
            for column, words in (parts | drivers).items():
                facts.append(self._figure(f"{prefix}.{column}", f"{what}, {words}", row, column=column, unit=unit,
                                          table=TABLE))  # fmt: skip
        return Answer("why_revenue_moved", tuple(sentences), known(facts))

    @_in_language
    def what_changed(self) -> Answer:
        """Say what changed since the last run: segments, customers who moved, decisions, and whether data is broken."""
        from segkit.assist.changes import describe_run_changes

        facts = []
        for name, label in (("refresh.stayed", "customers of both runs who stayed in their segment"),
                            ("refresh.data_broken", "tests of the data that failed")):  # fmt: skip
            unit = "share" if name.endswith("stayed") else "whole"
            fact = self._metric(
                name, phrase(label), unit=unit
            )  # in whole per cent, as a page shows it: moves may be few
            facts.append(fact if fact.value is None else replace(fact, value=round(fact.value, 2)))
        return Answer("what_changed", tuple(describe_run_changes(self.run, words=self._words)), known(facts))

    @_in_language
    def how_sure(self) -> Answer:
        """Say how sure the results are: structure, stability, and what segments and forecast predicted out of time."""
        from segkit.reports.forecast import describe_tested
        from segkit.reports.overview import describe_accuracy, describe_evidence

        summary = self._summary
        first, reason = describe_accuracy(summary, period=self._words.period), summary.get("forward.reason")
        others = [line for line in describe_evidence(summary) if not (reason and reason in first and reason in line)]
        sentences = [first, *others, *describe_tested(summary, words=self._words)]
        facts = known(self._metric(name, phrase(label), unit=unit) for name, unit, label in SURE_FACTS)
        return Answer("how_sure", tuple(line for line in sentences if line), facts)

    @_in_language
    def what_would_a_pilot_show(self, *, segment: str = EVERYONE) -> Answer:
        """Say which change a test in a segment, or with all customers, would show by weeks, half of them as control."""
        if not self.run.has("pilots"):
            raise InputError(f"{self.run.path.name}: this run holds no pilots. Run 06_measure on it.")
        table = self._table("pilots").set_index("segment")
        name = phrase("all customers") if segment == EVERYONE else f"{clean(self._row(segment)['name'])} ({segment})"
        if segment not in table.index:
            return Answer("what_would_a_pilot_show", (self._sentence("pilot", name=name, shares=[]),))
        row = table.loc[segment].to_dict()
        prefix = "all" if segment == EVERYONE else segment
        shares = [(weeks, row[f"share_{weeks}"]) for weeks in PILOT_WEEKS if not is_missing(row.get(f"share_{weeks}"))]
        label = phrase("smallest change that {weeks} weeks show in {name}")
        facts = [
            self._figure(f"{prefix}.pilot_{weeks}_weeks", label.format(weeks=weeks, name=name), row,
                         column=f"share_{weeks}", unit="share", table="pilots")
            for weeks, _ in shares
        ]  # fmt: skip
        sentence = self._sentence("pilot", name=name, shares=shares)
        return Answer("what_would_a_pilot_show", (sentence,), known(facts))

    @_in_language
    def which_segment(self, customer: str) -> Answer:
        """Say in which segment a customer is, by their id in the source."""
        shown = load_run_privacy(self.run).displayed_id(str(customer))
        placed = self._table("assignments").set_index("customer_id")
        if shown in placed.index:
            row = placed.loc[shown]
            segment = row["segment"]
            surety = "" if is_missing(row["confidence"]) else percent(row["confidence"])
            own = self._row(segment)
            first = self._sentence("customer", name=clean(own["name"]), id=segment, surety=surety)
            facts = [named("customer.segment", phrase("segment"), segment, table="assignments")]
            facts.append(figure("customer.confidence", phrase("subsamples that agree"), row.to_dict(),
                                column="confidence", unit="share", table="assignments", form=percent))  # fmt: skip
            return Answer("which_segment", (first,), known(facts))
        if self.run.has("dormant") and shown in set(self._table("dormant")["customer_id"]):
            return Answer("which_segment", (self._sentence("silent", span=self._words.period.lookback_dates),))
        raise InputError("which_segment: this run knows no customer of that id. Give an id as in the source.")

    def check_text(self, text: str) -> Answer:
        """Check whether each figure of a draft text is a fact of this run, near one, or none.

        Parameters
        ----------
        text
            English, also of a run in another language. A figure in a sentence that names segments or needs is a fact
            only if it is of one of them, or of all customers.
        """
        if (self.language or self.run.language) != ENGLISH:
            return replace(self, language=ENGLISH).check_text(text)
        days, facts = self.period_days, self.facts
        checked = check_figures(text, facts=facts, answers=self._answers, names=self.names, days=days)
        lines = [self._sentence("checked", **asdict(one)) for one in checked] or [self._sentence("no_figures")]
        by_name = {fact.name: fact for fact in facts}
        used = tuple(dict.fromkeys(by_name[one.fact] for one in checked if one.fact in by_name))
        return Answer("check_text", tuple(lines), used, checked=tuple(checked))

    @cached_property
    def facts(self) -> tuple[Fact, ...]:
        """All facts that the answers about this run use, each once."""
        return tuple({fact.name: fact for answer in self._answers for fact in answer.facts}.values())

    @cached_property
    def _answers(self) -> tuple[Answer, ...]:
        """All answers about the run, its segments and its needs."""
        asked = [self.list_segments, self.why_revenue_moved, self.what_changed, self.how_sure]
        asked += [partial(self.opportunities, most=99)] if self.run.has("actions") else []
        asked += [partial(self.describe_segment, one) for one in self._segments["segment"]]
        asked += [partial(self.who_is_in, one) for one in self._segments["segment"]]
        asked += [self.list_needs] if self.run.has("needs") else []
        asked += [self.forecast] if self.run.has("predicted_segments") else []
        if self.run.has("predicted_segments"):
            asked += [partial(self.forecast, segment=one) for one in self._segments["segment"]]
        if self.run.has("pilots"):
            asked += [
                partial(self.what_would_a_pilot_show, segment=one) for one in (EVERYONE, *self._segments["segment"])
            ]
        return tuple(one() for one in asked)

    @cached_property
    def names(self) -> dict[str, str]:
        """Id -> name of the segments and needs of the run."""
        found = self._segments.set_index("segment")["name"].map(clean).to_dict()
        return found | (self._needs.set_index("need")["name"].map(clean).to_dict() if self.run.has("needs") else {})

    @property
    def period_days(self) -> tuple[Any, ...]:
        """The days on which the spans of the run begin and end."""
        period = self._words.period
        return period.lookback_start, period.last_horizon_start, period.as_of, period.horizon_end

    @cached_property
    def _segments(self) -> pd.DataFrame:
        return self._table("segments")

    @property
    def _order(self) -> list[str]:
        """The ids of the segments, largest revenue first."""
        columns = ["revenue_share", "customers", "segment"]  # as on every page
        table = self._segments.sort_values(columns, ascending=[False, False, True], na_position="last")
        return table["segment"].tolist()

    @cached_property
    def _read(self) -> dict[str, pd.DataFrame]:
        return {}

    def _table(self, name: str) -> pd.DataFrame:
        """Read a table of the run once; it is not changed."""
        if name not in self._read:
            self._read[name] = self.run.table(name)
        return self._read[name]

    @cached_property
    def _needs(self) -> pd.DataFrame:
        if not self.run.has("needs"):
            raise InputError(f"{self.run.path.name}: this run holds no needs, as its events have no categories.")
        return self._table("needs").sort_values("spend_share", ascending=False, ignore_index=True)

    @cached_property
    def _revenue(self) -> pd.DataFrame:
        from segkit.refresh.revenue import load_revenue_change, shown_parts

        return shown_parts(load_revenue_change(self.run), segments=self._segments)

    @cached_property
    def _hidden(self) -> set[str]:
        return hidden_segments(self._segments)

    @cached_property
    def _summary(self) -> dict[str, Any]:
        return self.run.summary()

    @cached_property
    def _words(self) -> Wording:
        try:
            return Wording.of(self.run)
        except SegkitError:  # the source has moved; amounts then have no currency
            return Wording(self.run.period)

    @staticmethod
    def _sentence(macro: str, **facts: Any) -> str:
        return templates.text("questions", macro, **facts)

    @staticmethod
    def _rounded(value: Any, *, form: Any) -> str:
        return form(value if is_missing(value) else float(f"{value:.1e}"))

    def _figure(
        self,
        name: str,
        label: str,
        row: Mapping[str, Any],
        *,
        column: str,
        unit: str = "money",
        table: str = "segments",
        hidden: bool = False,
    ) -> Fact:
        form = {"score": score, "orders": count, "whole": count}.get(unit) or self._words.form(unit)
        return figure(name, label, row, column=column, unit=unit, table=table, form=form, hidden=hidden)

    def _metric(self, name: str, label: str, *, unit: str) -> Fact:
        row = {f"value{end}": self._summary.get(f"{name}{end.replace('_', '.')}") for end in ("", "_low", "_high")}
        return self._figure(name, label, row, column="value", unit=unit, table="summary")

    def _row(self, segment: str) -> dict[str, Any]:
        """Return a segment of the run; says what became of one that has ended."""
        own = self._segments[self._segments["segment"] == segment]
        if len(own):
            return own.iloc[0].to_dict()
        ended = self._table("ledger").query("segment == @segment") if self.run.has("ledger") else pd.DataFrame()
        there = ", ".join(self._segments["segment"])
        if len(ended):
            last = ended.sort_values("as_of").iloc[-1]
            raise InputError(
                f"segment {segment}: it ended ({last['event']}, as of {last['as_of']}). There are {there}."
            )
        raise InputError(f"segment {clean(segment)}: there is none. There are {there}.")

    def _segment_facts(self, segment: str, *, only: tuple[str, ...] = ()) -> list[Fact]:
        row, period, hidden = self._row(segment), self._words.period, segment in self._hidden
        dates = {"next": period.next_dates, "last": period.last_dates, "lookback": period.lookback_dates}
        texts = [] if only else SEGMENT_TEXTS
        facts = [named(f"{segment}.{column}", f"{segment}, {phrase(label)}", _text_of(row, column), table="segments")
                 for column, label in texts]  # fmt: skip
        return facts + [
            self._figure(f"{segment}.{column}", f"{segment}, {phrase(label).format_map(dates)}", row, column=column,
                         unit=unit, hidden=hidden and column in OF_SIZE)
            for column, unit, label in SEGMENT_FACTS if not only or column in only
        ]  # fmt: skip

    def _need_facts(self, need: str) -> list[Fact]:
        table = self._needs.set_index("need")
        if need not in table.index:
            raise InputError(f"need {clean(need)}: there is none. There are {', '.join(sorted(table.index))}.")
        row, whole = table.loc[need].to_dict(), int(self._segments["customers"].sum())
        counts = {"buyers": row["buyers"], "main": (row.get("main") or 0) * whole}
        hidden = {name for name, size in counts.items() if suppressed_cells([size, max(whole - size, 0)]).any()}
        facts = [named(f"{need}.name", f"{need}, {phrase('name')}", row["name"], table="needs")]
        return facts + [
            self._figure(f"{need}.{column}", f"{need}, {phrase(label)}", row, column=column, unit=unit, table="needs",
                         hidden=column in hidden)
            for column, unit, label in NEED_FACTS
        ]  # fmt: skip

    def _persona(self, segment: str) -> list[str]:
        """Return the sentences of the card, each of which was checked against the facts of the run."""
        if not self.run.has("personas") or segment in self._hidden:
            return []
        own = self._table("personas").query("segment == @segment")
        parts = ("size", "come_for", "how_they_shop", "who", "next", "gap", "rule", "caution")
        return [clean_text(row[part]) for row in own.to_dict("records") for part in parts if row.get(part)]

    def _traits(self, segment: str) -> list[str]:
        """Return how a segment differs most, as on its page; a segment that is too small has none."""
        if not self.run.has("signals") or segment in self._hidden:
            return []
        own = self._table("signals").query("segment == @segment and unit != 'flag'")
        own = own.reindex(own["effect"].abs().sort_values(ascending=False, kind="stable").index)
        rows = own.drop_duplicates("words").head(MOST_TRAITS).to_dict("records")
        forms = [self._words.form(row["unit"]) for row in rows]
        return [
            self._sentence("trait", words=clean(row["words"]), value=form(row["value"]), others=form(row["others"]))
            for row, form in zip(rows, forms, strict=True)
        ]


def _text_of(row: Mapping[str, Any], column: str) -> Any:
    """Return a text of a segment; its verdict, which has no language, in the one that is spoken."""
    return phrase(str(row.get(column))) if column == "verdict" else row.get(column)


def clean_text(text: Any) -> str:
    """Return a sentence of a run on one line, without control characters; it may be longer than a name."""
    return " ".join(clean(word) for word in str(text or "").split())


def ask(run_dir: str | Path, *, language: str = "") -> Questions:
    """Open a finished run to ask about.

    `language`: of the answers; empty is that of the run.

    Raises
    ------
    InputError
        There are no texts in the language.
    RunError
        The folder is not a run, is being built, has failed, is of another format, or has no segments or no events.
    """
    if language:
        check_language(language)
    run = load_run(run_dir)
    outcome = run.record().get("outcome")
    if outcome != "done":
        states = {"building": "is being built", "failed": "has failed", "scratch": "is a scratch run of the lab"}
        raise RunError(f"{run.path}: this run {states.get(outcome, 'is not finished')}. Give a finished run.")
    refuse_customers_only(run, what="a digest of what changed")
    if not run.has("segments"):
        raise RunError(f"{run.path}: this run has no segments. Make a run of 01_profile to 03_segments.")
    return Questions(run, language=language)
