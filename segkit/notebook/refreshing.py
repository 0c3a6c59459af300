"""A run that follows another: customers assigned to the segments of the previous run, and both runs compared."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from segkit import templates
from segkit.customers.features import load_customers
from segkit.data import runs
from segkit.notebook.profiling import Customers
from segkit.notebook.results import Result, caption_of, figure_result, stack, table_result, text_result
from segkit.notebook.segmenting import FoundSegments, found_segments, show_search
from segkit.refresh import monitor
from segkit.refresh.revenue import TABLE, revenue_change, shown_parts
from segkit.reports import html
from segkit.reports import overview as overview_report
from segkit.reports import refresh as report
from segkit.reports import segments as segments_report
from segkit.reports.revenue import describe_revenue, format_revenue
from segkit.reports.theme import segment_styles
from segkit.reports.wording import Wording, day_text
from segkit.segments import lineage


@dataclass(frozen=True, repr=False, eq=False)
class RunComparison(Result):
    """A run compared with the previous one; see ``segkit.compare_runs``.

    Parameters
    ----------
    refresh
        The comparison as computed.
    names
        Names of segments by id, including those that no longer exist.
    styles
        Colour and marker of segments by id, including those that no longer exist.
    as_of
        Date of the run.
    words
        How the pages of the run write amounts and dates.
    revenue_parts
        Why revenue moved, without parts that are too small to show.
    names_now
        Names of the segments of this run by id.
    """

    refresh: monitor.Refresh | None = None
    names: Mapping[str, str] | None = None
    styles: Mapping[str, tuple[str, str]] | None = None
    as_of: str = ""
    words: Wording | None = None
    revenue_parts: pd.DataFrame | None = None
    names_now: Mapping[str, str] | None = None

    @property
    def is_first(self) -> bool:
        """Whether there is no previous run."""
        return self.names is None

    @property
    def next_steps(self) -> Result:
        """What to do now, the most important first."""
        made = self.refresh

        def show() -> Result:
            items = report.list_next_steps(made.standing, made.added, names=self.names, acted=made.acted)
            return Result(made.added, html=lambda: templates.html("_macros", "bullets", items=items, numbered=True))

        return self._after_first(made.added, show)

    @property
    def moves(self) -> Result:
        """Customers who moved between segments, and why."""
        made = self.refresh
        dates = (day_text(made.standing.since), day_text(self.as_of))

        def draw() -> Figure:
            looks = {"names": self.names, "styles": self.styles}
            return report.plot_flow(made.flow, **looks, dates=dates, refitted=made.refitted)

        def show() -> Result:
            chart = figure_result(made.flow, draw, name="moves")
            sentences = text_result(bullets=report.describe_moves(made.moves, names=self.names))
            return Result(made.flow, html=lambda: stack(chart, sentences), draw=draw)

        return self._after_first(made.flow, show)

    @property
    def changes(self) -> Result:
        """What changed for the customers who moved: their level, and what they come for."""
        table = self.refresh.changes
        shown = report.format_customer_changes(table)
        note = caption_of("customer_changes")["empty"]
        if shown.empty:
            return self._after_first(table, lambda: text_result(table, note=note))
        return self._after_first(table, lambda: table_result(table, name="customer_changes", shown=shown))

    @property
    def revenue(self) -> Result:
        """Why revenue moved between the last two horizons, in parts that add up; there at a first run too."""
        table, words, names = self.revenue_parts, self.words, self.names_now
        sentences = text_result(bullets=describe_revenue(table, names=names, words=words))
        if table.empty:
            return Result(table, html=sentences.html)
        shown = format_revenue(table, names=names, period=words.period)
        caption = templates.text("revenue", "table_caption", kpi=table["kpi"].iloc[0], currency=words.currency)
        return Result(table, html=lambda: stack(sentences, html.table_html(shown, caption=caption)))

    @property
    def tests(self) -> Result:
        """The tests of the decision on this run."""
        table = self.refresh.standing.tests
        return self._after_first(
            table, lambda: table_result(table, name="decision_tests", shown=report.format_tests(table), columns={})
        )

    @property
    def segments(self) -> Result:
        """The decision on each segment of the previous run."""
        table = self.refresh.added

        def show() -> Result:
            shown = report.format_segment_decisions(table, names=self.names)
            note = text_result(note=report.describe_kept(table))
            rows = table_result(table, name="segment decisions", shown=shown, columns={})
            return Result(table, html=lambda: stack(rows, note) if len(shown) else note.html())

        return self._after_first(table, show)

    @property
    def drift(self) -> Result:
        """The features that drifted most, and the share of each segment."""
        table = self.refresh.standing.drift

        def show() -> Result:
            features = figure_result(table, lambda: report.plot_drift(table), name="drift")
            looks = {"names": self.names, "styles": self.styles}
            shares = figure_result(table, lambda: report.plot_shares(table, **looks), name="share drift")
            return Result(table, html=lambda: stack(features, shares), draw=features.draw)

        return self._after_first(table, show)

    @property
    def accuracy(self) -> Result:
        """The forecasts of the previous run vs. what customers did."""
        table = self.refresh.standing.forecast_accuracy
        if table.empty:
            return self._after_first(table, lambda: text_result(table, note=caption_of("forecast_accuracy")["empty"]))
        main, looks = report.main_accuracy(table), {"names": self.names, "styles": self.styles}
        chart = figure_result(main, lambda: report.plot_accuracy(main, **looks), name="forecast against actual")
        sentences = text_result(bullets=report.describe_accuracy(table, names=self.names, words=self.words))
        shown = report.format_accuracy(table, names=self.names, words=self.words)
        rows = html.table_html(shown, caption=report.accuracy_caption(table))
        return Result(table, html=lambda: stack(sentences, chart, rows), draw=chart.draw)

    @property
    def personas(self) -> Result:
        """What changed in each persona."""
        table = self.tables["persona_changes"]

        def show() -> Result:
            shown = report.format_changes(table, words=self.words)
            return table_result(table, name="persona_changes", shown=shown, columns={})

        return self._after_first(table, show)

    @property
    def log(self) -> Result:
        """The decisions of all runs of this source."""
        table = self.refresh.decisions
        return table_result(table, name="decisions", shown=report.format_decision_log(table), columns={})

    def _after_first(self, table: pd.DataFrame, show: Callable[[], Result]) -> Result:
        return text_result(table) if self.is_first else show()


def compare_runs(run: runs.Run, *, previous: runs.Run | str | Path = "", seed: int | None = None) -> RunComparison:
    """Compare a run with the previous one: moves, drift, forecast accuracy, and whether the segments are still valid.

    Parameters
    ----------
    run
        A run with segments; nothing is written to it.
    previous
        A finished run of the same source with an earlier ``as_of``, or its folder; empty is none.
    seed
        Of the permutations; None is the seed of the run.

    Raises
    ------
    RunError
        The previous run has another source, is not earlier, or has no model.

    Examples
    --------
    >>> run = segkit.load_run(segkit.example_run())
    >>> first = segkit.compare_runs(run)
    >>> first.is_first, first.metrics
    (True, {'refresh.decision': None})
    """
    path = previous.path if isinstance(previous, runs.Run) else previous
    before = monitor.load_previous_run(str(path or ""), of=run)
    source = runs.open_run_source(run)
    customers = load_customers(run, kinds=source.kinds)
    features = run.table("features").set_index("customer_id")
    seed = run.parameters()["seed"] if seed is None else seed
    found = monitor.find_standing(customers, features, previous=before, seed=seed)
    options = {"assignments": run.table("assignments"), "currency": source.currency}
    made = monitor.compare_runs(run, before, customers.days, found, **options)
    answer = _answer(made, is_first=before is None)
    segments, placed = run.table("segments"), run.table("assignments").set_index("customer_id")["segment"]
    moved = revenue_change(customers.days, period=run.period, segment=placed)
    return RunComparison(
        made.added,
        metrics=made.figures,
        html=answer.html,
        draw=lambda: report.plot_drift(found.drift),
        tables={
            "drift": found.drift,
            "checks": found.checks,
            "forecast_accuracy": found.forecast_accuracy,
            "decision_tests": found.tests,
            "flow": made.flow,
            "customer_changes": made.changes,
            "persona_changes": monitor.persona_changes(run, before, currency=source.currency),
            "decisions": made.decisions,
            TABLE: moved,
        },
        refresh=made,
        names=None if before is None else monitor.segment_names(run, before),
        styles=None if before is None else segment_styles(segments, gone=before.table("segments")),
        as_of=run.period.as_of.isoformat(),
        words=Wording.of(run, source=source),
        revenue_parts=shown_parts(moved, segments=segments),
        names_now=segments.set_index("segment")["name"].to_dict(),
    )


def _answer(made: monitor.Refresh, *, is_first: bool) -> Result:
    if is_first:
        return text_result(headline=report.FIRST_RUN)
    shown = (made.standing, made.moves, made.standing.drift)
    return text_result(headline=report.refresh_headline(*shown), tiles=report.refresh_tiles(*shown))


def assign(customers: Customers, previous: str, *, overrides: str = "") -> FoundSegments:
    """Assign the customers of today to the segments of an earlier run; nothing is fitted again.

    Parameters
    ----------
    customers
        Of ``load_customers``.
    previous
        Folder of the run whose segments are kept.
    overrides
        YAML file of decisions (rename, merge, pin); empty for ``overrides.yaml`` in the folder above the run.

    Raises
    ------
    RunError
        The previous run is of another source, or lacks a table that is needed.

    Examples
    --------
    >>> run = segkit.load_run(segkit.example_run())
    >>> assigned = segkit.assign(segkit.load_customers(run), str(run.path)).assigned
    >>> (assigned["segment"] == run.table("assignments").set_index("customer_id")["segment"]).mean()
    np.float64(1.0)
    """
    run, now, as_of = customers.run, customers.state.data, customers.period.as_of.isoformat()
    before = lineage.load_kept_run(previous, of=run)
    decided = lineage.read_overrides(overrides or run.path.parent / "overrides.yaml")
    kept = lineage.assign_with_previous_model(before, now, overrides=decided, as_of=as_of)
    made = found_segments(
        customers,
        kept.assigned,
        lineage=kept,
        decided=decided,
        tables={name: before.table(name) for name in ("frontier", "ablation") if before.has(name)},
        assignments=kept.assigned.assign(core=kept.core).join(kept.coords),
        model=lineage.reassigned_model_arrays(kept, before),
        found=show_search(before.table("frontier"), customers=customers, previous=before),
    )
    table = lineage.add_previous_proof(made.table, before)
    metrics = {**made.metrics, **lineage.previous_proof_metrics(before, fitted_as_of=kept.fitted_as_of)}
    sentences = segments_report.describe_kept_segments(kept.moves, found=kept.fitted_as_of)
    sentences += overview_report.describe_evidence(run.summary() | metrics)
    return replace(
        made,
        table=table,
        metrics=metrics,
        html=lambda: html.segment_table_html(
            table, caption="Segments, largest revenue first. Choose a heading to sort."
        ),
        tables={**made.tables, "segments": table},
        answer=text_result(headline=overview_report.overview_headline(table), bullets=sentences),
    )
