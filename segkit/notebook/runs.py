"""A run as an analyst uses it: its overview, its segments, two side by side, and lists of customers that leave it."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from segkit import format as fmt
from segkit.assist.changes import describe_run_changes
from segkit.assist.questions import Questions, ask
from segkit.customers.features import load_customers
from segkit.customers.needs import load_needs
from segkit.data import runs
from segkit.data.alone import refuse_customers_only
from segkit.data.paths import find_path
from segkit.errors import InputError
from segkit.notebook.results import Result, caption_of, stack, table_result, text_result
from segkit.personas.evidence import claimed_needs
from segkit.personas.naming import level_names, member_stages, name_segments
from segkit.personas.traits import segment_signals
from segkit.reports import html
from segkit.reports import overview as overview_report
from segkit.reports.actions import render_actions
from segkit.reports.map import NEEDS_PREFIX, map_html, map_profile
from segkit.reports.matrix import matrix_html
from segkit.reports.personas import persona_cards_html
from segkit.reports.programme import describe_pooled, describe_programme
from segkit.reports.segments import plot_differences, plot_feature, plot_segment_shares
from segkit.reports.wording import Wording
from segkit.segments import recut as recuts
from segkit.segments.fit import net_spend, revenue_shares
from segkit.segments.lineage import inherit_names
from segkit.texts import name_phrase, phrase
from segkit.vocabulary import describe

MAP_ALT = "Map of customers in the colour of their need and the shape of their level, with the name of each segment"
MAP_CAPTION = (
    "The colour is the need and the shape the level of value. Near customers are alike; long distances mean little."
)
NO_OPPORTUNITY = "No opportunity stands out: test an idea of your own with a pilot."
MOST_DIFFERENCES = 5  # habits, needs and attributes of a segment that are shown
WHO_BLOCKS = ("demographic", "geographic", "survey")  # blocks of features that say who customers are
FORECAST = {  # column of the table segments -> what it is, its unit
    "customers": ("customers", "customers"),
    "customer_share": ("share of customers", "share"),
    "revenue_share": ("share of revenue", "share"),
    "spend_now": ("spend of a customer in the last horizon", "money"),
    "spend_next": ("spend of a customer in the next horizon", "money"),
    "active_share_next": ("active in the next horizon", "share"),
    "stability": ("stability (0-1)", "score"),
}


class Run(runs.Run):
    """A run folder with its segments: see ``segkit.load_run``."""

    @property
    def segments(self) -> "Segments":
        """The segments of this run."""
        return load_segments(self)

    @property
    def overview(self) -> "Overview":
        """The answer of the run in one minute."""
        return overview(self)

    @property
    def ask(self) -> Questions:
        """Questions about this run, such as ``run.ask.forecast()`` or ``run.ask.check_text("...")``."""
        return ask(self.path)

    def compare(self, *segments: str) -> Result:
        """Compare segments side by side; see ``segkit.compare``."""
        return compare(self, *segments)

    def save(self, *results: Result) -> None:
        """Write the tables, the model and the headline numbers of results into this run."""
        for result in results:
            result.save(self)

    def _repr_html_(self) -> str:
        made = self.parameters()
        stored = pd.DataFrame(sorted(self.record().get("tables", {}).items()), columns=["table", "made by"])
        grouped = stored.groupby("made by")["table"].agg(", ".join).reset_index() if len(stored) else stored
        caption = f"Run {self.path.name}: {made.get('source_name', '')}, as of {made.get('as_of', '')}"
        return str(html.table_html(grouped, caption=caption))


def load_run(run_dir: str | Path) -> Run:
    """Open a run folder to read from.

    Parameters
    ----------
    run_dir
        The folder. A relative path starts at the current folder if something is there, else at the repository.

    Raises
    ------
    RunError
        The folder is not there, or is not a run.

    Examples
    --------
    >>> run = segkit.load_run(segkit.example_run())
    >>> run.segments
    <Segments: 4 rows>
    >>> run.compare("S01", "S02").table.columns.tolist()
    ['about', 'what', 'S01', 'S02', 'all']
    """
    return Run(runs.load_run(find_path(run_dir)).path)


@dataclass(frozen=True, repr=False, eq=False)
class Segments(Result):
    """The segments of a run.

    Parameters
    ----------
    run
        The run that holds them.
    """

    run: Run | None = None

    @property
    def ids(self) -> list[str]:
        """The ids of the segments, largest revenue first."""
        return html.by_revenue(self.table)["segment"].tolist()

    @property
    def names(self) -> dict[str, str]:
        """Names by id, largest revenue first."""
        return html.by_revenue(self.table).set_index("segment")["name"].to_dict()

    def __getitem__(self, segment: str) -> "Segment":
        if segment not in self.names:
            raise InputError(f"segments: there is no {segment}. There are {', '.join(sorted(self.names))}.")
        return Segment(self, segment)

    @property
    def assigned(self) -> pd.DataFrame:
        """Each customer's segment, confidence and place on the map, by customer_id."""
        return self.run.table("assignments").set_index("customer_id")

    @property
    def features(self) -> pd.DataFrame:
        """Each customer's features, by customer_id."""
        return _features(self.run)

    def plot(self, *features: str) -> Figure:
        """Draw a feature in each segment; without one, shares of revenue and of customers."""
        if not features:
            return plot_segment_shares(self.table)
        (feature,), features = features, self.features
        if feature not in features:
            raise InputError(f"features: there is no {feature!r}. There are {', '.join(features.columns)}.")
        return plot_feature(
            features[feature], self.assigned["segment"], label=describe(feature).label, segments=self.table
        )

    def map(self) -> Result:
        """Show the map of customers in the colour and shape of their segment."""
        placed = self.run.table("assignments")
        alt = "Map of customers in the colour and shape of their segment, with the name of each segment"
        return Result(placed, html=lambda: map_html(placed, self.table, alt=alt))

    def circle(self) -> Any:
        """Show a map to circle customers on, and read what they have in common; it needs the extra ``widgets``."""
        from segkit.notebook.session import explore

        return explore(self.run)

    def compare(self, *segments: str) -> Result:
        """Compare segments side by side; see ``segkit.compare``."""
        return compare(self.run, *segments)

    def recut(self, segments: int, **limits: Any) -> "Recut":
        """Try another number of segments; see ``segkit.recut``."""
        return recut(self.run, segments, **limits)


def load_segments(run: runs.Run) -> Segments:
    """Read the segments of a run."""
    table = run.table("segments")
    signals = overview_report.optional_table(run, "signals")
    return Segments(table, run=Run(run.path), html=lambda: html.segment_table_html(table, signals=signals))


@dataclass(frozen=True, repr=False, eq=False)
class Segment:
    """One segment of a run; like every result it has ``table``, ``metrics`` and ``plot()``."""

    segments: Segments
    id: str

    @property
    def table(self) -> pd.DataFrame:
        """Its profile as rows."""
        return self.profile().table

    @property
    def metrics(self) -> dict[str, float]:
        """Its size, its share of revenue, its forecast and its stability."""
        return self.segments.table.set_index("segment").loc[self.id, list(FORECAST)].to_dict()

    @property
    def name(self) -> str:
        """Its name."""
        return self.segments.names[self.id]

    @property
    def customers(self) -> pd.DataFrame:
        """Its customers by customer_id, the surest first: confidence, core, place on the map, and their features."""
        own = self.segments.assigned.query("segment == @self.id").sort_values("confidence", ascending=False)
        return own.join(_features(self.segments.run), how="left")

    def profile(self) -> Result:
        """Compare it with all customers: size and forecast, habits, needs, and who they are."""
        return compare(self.segments.run, self.id)

    def card(self) -> Result:
        """Show its persona."""
        run = self.segments.run
        own = {name: run.table(name).query("segment == @self.id") for name in ("personas", "facts", "copy")}
        shown = {name: table for name, table in own.items() if name != "personas"}
        shown["segments"] = run.table("segments")
        return Result(own["personas"], html=lambda: persona_cards_html(own["personas"], **shown))

    def plot(self, *features: str) -> Figure:
        """Draw a feature in this segment, among all of them; without one, what sets it apart most."""
        if features:
            return self.segments.plot(*features)
        return plot_differences(self.segments.run.table("signals").query("segment == @self.id"))

    def _repr_html_(self) -> str:
        return self.profile()._repr_html_()

    def __repr__(self) -> str:
        return f"<Segment {self.id}: {self.name}>"


def compare(run: runs.Run, *segments: str) -> Result:
    """Compare segments side by side: size and forecast, habits, needs, and who they are.

    Parameters
    ----------
    run
        A run that holds segments.
    *segments
        Their ids, one or more.

    Raises
    ------
    InputError
        There is no such segment.

    Examples
    --------
    >>> run = segkit.load_run(segkit.example_run())
    >>> side_by_side = segkit.compare(run, "S01", "S02")
    >>> sorted(set(side_by_side.table["about"]))
    ['forecast', 'habits', 'needs', 'who they are']
    """
    refuse_customers_only(run, what="compare")
    if not segments:
        raise InputError("compare: name the segments, such as compare(run, 'S01', 'S02').")
    own = [Run(run.path).segments[segment] for segment in segments]
    features, assigned = _features(run), own[0].segments.assigned["segment"]
    rows = _forecast_rows(own[0].segments.table, segments)
    parts = {
        "habits": [name for name in features if describe(name).block not in (*WHO_BLOCKS, "needs", "missing")],
        "needs": [name for name in features if name.startswith(NEEDS_PREFIX)],
        "who they are": [name for name in features if describe(name).block in WHO_BLOCKS],
    }
    for about, names in parts.items():
        rows += _difference_rows(features[names], assigned, segments=segments, about=about)
    table = pd.DataFrame([row for row, _ in rows], columns=["about", "what", *segments, "all"])
    units = [unit for _, unit in rows]
    shown = table.astype(object)
    for name in (*segments, "all"):
        shown[name] = [_write(value, unit=unit) for value, unit in zip(table[name], units, strict=True)]
    columns = {"about": "About", "what": "What", **{one.id: f"{one.name} ({one.id})" for one in own}}
    return table_result(table, name="comparison of segments", shown=shown, columns={**columns, "all": "All customers"})


def _forecast_rows(table: pd.DataFrame, segments: tuple[str, ...]) -> list[tuple[list[Any], str]]:
    by_segment, rows = table.set_index("segment"), []
    for column, (words, unit) in FORECAST.items():
        if by_segment[column].isna().all():
            continue
        values = by_segment[column]
        mean = (values * by_segment["customers"]).sum() / by_segment["customers"].sum()
        whole = {"customers": values.sum(), "customer_share": 1.0, "revenue_share": 1.0}.get(column, mean)
        rows.append((["forecast", words, *(values[s] for s in segments), whole], unit))
    return rows


def _difference_rows(
    features: pd.DataFrame, assigned: pd.Series, *, segments: tuple[str, ...], about: str
) -> list[tuple[list[Any], str]]:
    """Means of the features in which any of the segments differs most from all customers, in standard deviations."""
    spread = features.std().replace(0, float("nan"))
    means = pd.DataFrame({s: features[assigned.reindex(features.index) == s].mean() for s in segments})
    away = means.sub(features.mean(), axis=0).div(spread, axis=0).abs().max(axis=1).dropna()
    chosen = away.sort_values(ascending=False, kind="stable").index[:MOST_DIFFERENCES]
    return [
        ([about, describe(name).label, *means.loc[name], features[name].mean()], describe(name).unit) for name in chosen
    ]


def _write(value: float, *, unit: str) -> str:
    return fmt.score(value) if unit == "score" else fmt.formatter_for(unit)(value)


def _features(run: runs.Run) -> pd.DataFrame:
    return run.table("features").set_index("customer_id")


@dataclass(frozen=True, repr=False, eq=False)
class Recut(Result):
    """Another number of segments, of the same customers; nothing is written.

    Parameters
    ----------
    assigned
        Segment by customer_id, and ``before``, that of the run.
    frontier
        The numbers of segments that were possible.
    """

    assigned: pd.DataFrame | None = None
    frontier: pd.DataFrame | None = None


def recut(run: runs.Run, segments: int, *, smallest_share: float = 0.01) -> Recut:
    """Cut the customers of a run into another number of segments, at once and without fitting anything again.

    Parameters
    ----------
    run
        A run that holds 02_embed and 03_segments.
    segments
        How many.
    smallest_share
        Of customers in the smallest segment.

    Returns
    -------
    Recut
        Name, size, share of revenue and spend of each segment; one that continues a segment of the run keeps its id
        and name.

    Raises
    ------
    BudgetError
        So many segments cannot be had; says which limit binds.

    Examples
    --------
    >>> run = segkit.load_run(segkit.example_run())
    >>> segkit.recut(run, 3).table["customers"].sum()
    np.int64(251)
    """
    refuse_customers_only(run, what="recut")
    found = recuts.recut(run, segments_min=segments, segments_max=segments, smallest_share=smallest_share)
    meta = run.load_model()[1]
    customers = load_customers(run, kinds=meta["kinds"])
    now = customers.data
    segment = found.assignments["segment"].reindex(now.features.index)
    table, levels = found.segments, level_names(found.segments, stages=member_stages(now.features, segment))
    learnt = load_needs(run)
    names = {} if learnt is None else dict(zip(learnt.ids, learnt.names, strict=True))
    needs = claimed_needs(table.set_index("segment")["need"], now, segment, needs=learnt).map(names)
    habits = segment_signals(now.features, segment)
    people = name_phrase("buyers" if "purchase" in meta["needs"] else "users")
    named = name_segments(levels, needs, habits=habits, people=people)
    names = inherit_names(named["name"].to_dict(), run.table("segments").set_index("segment")["name"].to_dict())
    table = found.segments.assign(name=found.segments["segment"].map(names))
    columns = {"segment": "Segment", "name": "Name", "customers": "Customers", "customer_share": "Share of customers"}
    if "spend" in now.features:
        spent = net_spend(customers).groupby(segment).sum().reindex(table["segment"]).reset_index(drop=True)
        table = table.assign(revenue_share=revenue_shares(spent), spend_mean=spent / table["customers"])
        columns |= {"revenue_share": "Share of revenue", "spend_mean": "Spend of a customer in the lookback"}
        table = table.sort_values("revenue_share", ascending=False, ignore_index=True)
    formats = {"customer_share": "share"} | ({"revenue_share": "share"} if "spend" in now.features else {})
    shown = table_result(table, name="recut", columns=columns, formats=formats)
    return Recut(table, html=shown.html, assigned=found.assignments, frontier=found.frontier)


@dataclass(frozen=True, repr=False, eq=False)
class Overview(Result):
    """A run in one minute: itself the answer; ``table`` holds its segments.

    Parameters
    ----------
    tiles
        Its largest numbers, and how good the segments are.
    matrix, map
        The segments by value and need, and the map of customers.
    opportunities
        What to do first, and what it may bring.
    segments
        The segments as a table.
    programme
        What contact brought against the customers who are held out of it all.
    changes, evidence, pages
        What changed since the last run, how sure the results are, and where to read on.
    """

    tiles: Result | None = None
    matrix: Result | None = None
    opportunities: Result | None = None
    map: Result | None = None
    segments: Result | None = None
    programme: Result | None = None
    changes: Result | None = None
    evidence: Result | None = None
    pages: Result | None = None


def overview(run: runs.Run) -> Overview:
    """Put the overview of a run together from its tables.

    Parameters
    ----------
    run
        A run that holds 01_profile to 03_segments; what further notebooks wrote is shown too.
    """
    segments, summary, period = run.table("segments"), run.summary(), run.period
    opened = runs.open_run_source(run)
    shown = {
        "currency": opened.currency,
        "cards": "04_personas.html" if run.has("personas") else "",
    }
    below = {"signals": overview_report.optional_table(run, "signals"), "period": period}
    silent = len(run.table("dormant")) if run.has("dormant") else 0
    tiles = overview_report.overview_tiles(
        segments,
        kpis=run.table("kpis"),
        summary=summary,
        period=period,
        currency=shown["currency"],
        silent=silent,
        returns="return" in opened.kinds,
    )
    trust = overview_report.describe_accuracy(summary, period=period) + overview_report.describe_unrest(run)
    pages = overview_report.list_pages(run.record()["tables"].values())
    return Overview(
        segments,
        html=text_result(headline=overview_report.overview_headline(segments, summary=summary)).html,
        tiles=text_result(segments, tiles=tiles, note=trust),
        matrix=Result(segments, html=lambda: matrix_html(segments, **shown)),
        opportunities=_show_opportunities(run, segments, **shown),
        map=_show_map(run, **shown),
        segments=Result(segments, html=lambda: html.segment_table_html(segments, **shown, **below)),
        programme=_show_programme(run, words=Wording.of(run, source=opened)),
        changes=text_result(bullets=describe_run_changes(run, revenue=True)),
        evidence=text_result(bullets=overview_report.describe_evidence(summary)),
        pages=Result(segments, html=lambda: overview_report.render_links(pages)),
    )


def _show_opportunities(run: runs.Run, segments: pd.DataFrame, *, currency: str, cards: str) -> Result:
    summary = run.summary()
    if not run.has("actions") or summary.get("segments.verdict") == overview_report.NONE:
        return text_result(note=phrase(NO_OPPORTUNITY))
    actions, names = run.table("actions"), segments.set_index("segment")["name"]
    best = overview_report.best_actions(actions)
    note = overview_report.describe_no_opportunity(best, summary=summary, period=run.period, currency=currency)
    listed = render_actions(best, names=names, currency=currency, total=len(actions), page=cards)
    parts = [text_result(note=note)] * (note is not None) + [listed] * bool(len(best))
    return Result(best, html=lambda: stack(*parts))


def _show_map(run: runs.Run, *, cards: str, currency: str) -> Result:
    placed, segments = run.table("assignments"), run.table("segments")
    expected = overview_report.expected_spend(run)
    if expected is None:
        expected = placed.set_index("customer_id")["segment"].map(segments.set_index("segment")["spend_next"])
    profile = map_profile(placed, run.table("features"), expected=expected, dates=run.period.next_dates)
    shown = {"cards": cards, "currency": currency}
    return Result(
        placed,
        html=lambda: map_html(
            placed, segments, profile=profile, alt=phrase(MAP_ALT), caption=phrase(MAP_CAPTION), **shown
        ),
    )


def _show_programme(run: runs.Run, *, words: Wording) -> Result:
    table = overview_report.optional_table(run, "programme")
    tests = describe_pooled(overview_report.optional_table(run, "pooled"))
    if table is None or table.empty:
        return text_result(bullets=tests) if tests else text_result(note=caption_of("programme")["empty"])
    answer, parts, note = describe_programme(table, words=words)
    return text_result(table, bullets=[answer, *parts, *tests], note=note)


def export_segments(run: runs.Run, *, to: str, out: str | Path, **options: Any) -> Result:
    """Export the customers of a run with their segments; customers who may not be contacted are left out where needed.

    Parameters
    ----------
    run
        A finished run.
    to
        Name of a target, such as "csv", "parquet", "hubspot" or "klaviyo", or the YAML file of one.
    out
        A folder or a file; for a table the URL of a database.
    **options
        ``segments`` (ids; all by default), ``pilots`` (folders whose control groups are left out), ``country_code`` and
        the others of ``segkit export``; ``dry_run=True`` writes nothing.

    Returns
    -------
    Result
        What was written, or would be; ``table`` holds a line of it a row.

    Raises
    ------
    InputError
        The target cannot be filled from this source, or ``out`` cannot be written; nothing was changed.

    Examples
    --------
    >>> run = segkit.load_run(segkit.example_run())
    >>> done = segkit.export_segments(run, to="csv", out=run.path.with_name("list"), segments=("S01",))
    >>> done.metrics["export.left_out"]
    0
    """
    from segkit.export import export  # slow to import, and few runs are exported

    done = export.export_segments(run.path, to=to, out=str(out), **options)
    first, *lines = str(done).splitlines()
    figures = {"export.rows": len(done.rows), "export.left_out": sum(done.left_out.values())}
    return text_result(headline=first, bullets=[line.strip() for line in lines], metrics=figures)


def erase(customers: Collection[str], *, reports: str | Path = "reports") -> Result:
    """Erase customers from all runs, pilots and live states below a folder, and exclude them from later runs.

    Parameters
    ----------
    customers
        Their ids, as in the source.
    reports
        The folder of runs; a relative path starts as in ``load_run``.

    Returns
    -------
    Result
        What was done, without ids; ``table`` holds a line of it a row.

    Raises
    ------
    InputError
        A customer is not found anywhere; nothing was changed.

    Examples
    --------
    >>> segkit.erase(["nobody"], reports=segkit.example_run().parent)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    segkit.errors.InputError: nobody: not found in any run, ...
    """
    from segkit import erasure

    lines = erasure.erase(customers, reports=find_path(reports))
    return text_result(pd.DataFrame({"text": lines}), bullets=lines)
