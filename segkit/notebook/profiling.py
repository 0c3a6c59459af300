"""The first chapter of a run: its customers, what they need, and whether the data can carry a segmentation."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import ibis.expr.types as ir
import pandas as pd

from segkit.customers import features as features_module
from segkit.customers import needs as needs_module
from segkit.customers import profile as profile_module
from segkit.customers.days import one_name_a_row
from segkit.customers.described import describe_customers, update_customers
from segkit.customers.features import dormant_customers
from segkit.customers.finest import are_items_best
from segkit.customers.profile import attribute_features, customer_attributes, datasheet
from segkit.customers.purchases import names_of_things
from segkit.customers.steps import steps
from segkit.data import check as check_module
from segkit.data import runs, sources
from segkit.data.paths import find_path
from segkit.data.runs import open_run_source
from segkit.data.spec import Source
from segkit.format import count
from segkit.notebook.results import Result, caption_of, figure_result, stack, table_result, text_result
from segkit.period import Period
from segkit.personas.keywords import is_code
from segkit.personas.need_file import FILE_NAME, give_names, read_need_names
from segkit.personas.need_names import name_needs
from segkit.personas.never_offer import Flags, describe_never_offer, flag_all_things
from segkit.reports import html
from segkit.reports import map as map_report
from segkit.reports import profile as report
from segkit.reports.wording import Wording
from segkit.segments.fit import TrainingWindows, build_training_windows, read_training_windows
from segkit.segments.lineage import load_kept_run, read_overrides
from segkit.tables import titles
from segkit.texts import language_of_names

USE_TITLES = {"spend_share": "Share of use", "buyers": "Customers who use it"}  # of needs that purchases do not show


@dataclass(frozen=True, repr=False, eq=False)
class Customers(Result):
    """The customers of a run at its date: ``table`` holds the features of everyone active in the lookback.

    Parameters
    ----------
    run
        The run they are of.
    source
        What its source says of itself.
    state
        Days, period, kinds of event, features and amounts by category.
    since
        Date of the earlier run whose days are continued; else "".
    reread_reason
        Why all of history was read again nevertheless; else "".
    read
        Rows of the source that cannot be used, its events before the date, and its customers, where it was read.

    Examples
    --------
    >>> run = segkit.load_run(segkit.example_run())
    >>> customers = segkit.load_customers(run)
    >>> isinstance(customers, segkit.Customers), customers.table.index.name, customers.metrics["customers"]
    (True, 'customer_id', 251)
    """

    run: runs.Run | None = None
    source: Source | None = None
    state: features_module.Customers | None = None
    since: str = ""
    reread_reason: str = ""
    read: tuple[pd.DataFrame, ir.Table, ir.Table | None] | None = None

    @property
    def period(self) -> Period:
        """The day they are described at, the lookback before it and the horizon after it."""
        return self.state.period

    @property
    def seed(self) -> int:
        """The seed of every random choice of the run."""
        return self.run.parameters()["seed"]

    @property
    def buyers(self) -> str:
        """What customers are called by what shows their needs: buyers, or users."""
        return "buyers" if "purchase" in self.source.needs.kinds else "users"

    @property
    def words(self) -> Wording:
        """How the pages of the run write amounts, dates and things."""
        return Wording.of(self.run, source=self.source)

    @cached_property
    def training(self) -> TrainingWindows:
        """What was known one and two horizons ago, and what customers did since."""
        if self.run.has("training_features"):
            return read_training_windows(self.run)
        return build_training_windows(self.state.days, period=self.period, kinds=self.state.kinds)

    @cached_property
    def people(self) -> pd.DataFrame | None:
        """What the customer table says of them, by customer_id; None where the run holds nothing of it."""
        return self.run.table("people") if self.run.has("people") else None


def load_customers(run: runs.Run, *, engine: str | None = None, previous: str = "") -> Customers:
    """Describe the customers of a run at its date.

    Parameters
    ----------
    run
        With an engine a run to write its days into, else one that holds them.
    engine
        Where days and features are computed from the source: "duckdb", "local[2]", "spark://host:port", or an Ibis URL.
        None takes the days that the run holds.
    previous
        Folder of an earlier run whose segments are kept: its days are continued with the events since; empty for none.

    Raises
    ------
    SourceError
        The source cannot be read, or too many of its rows cannot be used.
    RunError
        The run holds no days; says which notebook makes them.

    Examples
    --------
    >>> run = segkit.load_run(segkit.example_run())
    >>> customers = segkit.load_customers(run)
    >>> customers.table[["orders", "spend"]].shape
    (251, 2)
    """
    since, reason, read = "", "", None
    if engine is None:
        made = run.parameters()
        opened = sources.open_source(made["source"], data_dir=made.get("data_dir") or None)
        state = features_module.load_customers(run, kinds=opened.kinds)
    else:
        opened = open_run_source(run)
        read = _, events, _ = _read(run, opened)
        before = load_kept_run(previous, of=run) if previous else None
        items = _are_items_learnt_from(opened, events, run=run, kept=before)
        options = {"run": run, "kinds": opened.kinds, "engine": engine, "items": items}
        if before:
            since = before.period.as_of.isoformat()
            state, reason = update_customers(events, previous=before, **options)
        else:
            state = describe_customers(events, **options)
    table = state.data.features
    figures = {"customers": len(table), "features": len(table.columns)}
    tiles = [
        (
            "Customers",
            count(len(table)),
            f"active in the {state.period.lookback_days} days before {state.period.as_of}",
        ),
        ("Features", count(len(table.columns)), "of each customer"),
    ]
    parts = {"run": run, "source": opened, "state": state, "since": since, "reread_reason": reason, "read": read}
    return Customers(table, figures, html=lambda: html.tiles_html(tiles), **parts)


def _are_items_learnt_from(opened: Source, events: ir.Table, *, run: runs.Run, kept: runs.Run | None) -> bool:
    """Decide whether needs are learnt from items: as the source states, as in the run before, or as the data shows."""
    if "item" not in events.columns or opened.needs.things == "category":
        return False
    if kept is not None:
        return kept.has("day_items")
    if opened.needs.things == "item" or "category" not in events.columns:
        return True
    previous = run.parameters().get("previous")
    before = runs.load_run(previous) if previous else None
    if before is not None and before.has("needs"):
        return before.has("day_items")
    return are_items_best(events, kinds=opened.kinds, before=run.period.as_of, seed=run.parameters()["seed"])


@dataclass(frozen=True, repr=False, eq=False)
class FoundNeeds(Result):
    """Needs: groups of things that the same customers buy.

    Parameters
    ----------
    shares
        Share of each need in what a customer buys, by customer_id.
    needs
        The groups as learnt; None where the source carries no categories, or nothing stands out.
    map
        The things on a plane, in the colour of their need.
    """

    shares: pd.DataFrame | None = None
    needs: needs_module.Needs | None = None
    map: Result | None = None

    def save(self, run: runs.Run) -> None:
        """Write the groups into a run."""
        if self.needs is not None:
            arrays, meta = needs_module.needs_to_arrays(self.needs)
            run.save_model(arrays, meta=meta, part="needs")
        super().save(run)


def find_needs(customers: Customers, *, previous: str = "", overrides: str = "") -> FoundNeeds:
    """Group the things that the same customers buy, with UMAP and HDBSCAN in subsamples of them, and name the groups.

    Parameters
    ----------
    customers
        Of ``load_customers``.
    previous
        Folder of an earlier run: its needs are kept where the run keeps its segments; otherwise they are learnt again,
        and a need that continues one has its id and name.
    overrides
        YAML file of decisions, of which ``never_offer`` counts here; empty for ``overrides.yaml`` in the folder above
        the run.

    Examples
    --------
    >>> run = segkit.load_run(segkit.example_run())
    >>> needs = segkit.find_needs(segkit.load_customers(run))
    >>> needs.table.columns.tolist()[:2], len(needs.shares)
    (['need', 'name'], 251)
    """
    before = runs.load_run(previous) if previous else None
    labels = _labels_of_things(customers)
    found, named = _kept_or_learnt(customers, before, labels=labels)
    given = {**customers.source.needs.names, **read_need_names(customers.run.path.parent / FILE_NAME)}
    gone = [f"{need} ({name})" for need, name in given.items() if found is None or need not in found.ids]
    if found is not None:
        named = give_names(named, given)
        found = replace(found, names=tuple(named.loc[need, "name"] for need in found.ids))
    shares = needs_module.need_shares(found, customers.state.data)
    decided = read_overrides(overrides or customers.run.path.parent / "overrides.yaml").never_offer
    flags = flag_all_things(
        names_of_things(customers.state.days, before=customers.period.as_of),
        asked=[*customers.source.needs.never_offer, *decided],
        labels=labels,
        needs=_need_of_things(found),
    )
    notes = [f"Names are given for needs that this run does not have: {', '.join(gone)}."] if gone else []
    words = replace(customers.words, labels=labels)
    return _show_needs(
        found,
        named=named,
        shares=shares,
        flags=flags,
        notes=notes + flags.sentences(),
        words=words,
        shop=customers.buyers == "buyers",
    )


def _kept_or_learnt(
    customers: Customers, before: runs.Run | None, *, labels: dict[str, str]
) -> tuple[needs_module.Needs | None, pd.DataFrame]:
    """Return the needs of the earlier run where it is kept, else those learnt now; and their names by need."""
    old = needs_module.load_needs(before) if before else None
    if customers.run.kept:
        return old, before.table("needs").set_index("need") if old else pd.DataFrame()
    bought = needs_module.purchases_of_days(customers.state.days, before=customers.period.as_of)
    found = needs_module.learn_needs(bought, previous=old, seed=customers.seed)
    if found is None:
        return None, pd.DataFrame()
    return found, name_learnt_needs(found, previous=before, labels=labels)


def _labels_of_things(customers: Customers) -> dict[str, str]:
    """Return the labels of the source; an item that is a code gets the category that it is sold in most often."""
    days, labels = customers.state.days, dict(customers.source.labels)
    if days.items is None or days.categories is None:
        return labels
    events = sources.read_events(customers.source, con=sources.connect())
    known = events.filter((events.day < customers.period.as_of) & events.item.notnull() & events.category.notnull())
    known = one_name_a_row(known, "category")
    pairs = known.group_by("item", "category").aggregate(lines=known.count()).to_pandas()
    pairs = pairs.sort_values(["lines", "category"], ascending=[False, True]).drop_duplicates("item")
    return {
        row.item: labels.get(row.category, row.category) for row in pairs.itertuples() if is_code(row.item)
    } | labels


def _need_of_things(found: needs_module.Needs | None) -> dict[str, tuple[str, str]]:
    """Return id and name of the need of each thing that has one."""
    if found is None:
        return {}
    pairs = list(zip(found.ids, found.names, strict=True))
    return {thing: pairs[need] for thing, need in zip(found.things, found.need_of, strict=True)}


def _show_needs(
    found: needs_module.Needs | None,
    *,
    named: pd.DataFrame,
    shares: pd.DataFrame,
    flags: Flags,
    notes: list[str],
    words: Wording,
    shop: bool,
) -> FoundNeeds:
    """Put needs together with their tables, their map, and remarks on them."""
    tables = {"things": flags.table} if len(flags.table) else {}
    remarks = text_result(bullets=notes)
    if found is None:
        none = "No needs stand out: too few things are bought by enough customers, or all customers buy alike."
        alone = text_result(bullets=notes, note=none)
        return FoundNeeds(pd.DataFrame(), html=alone.html, tables=tables, shares=shares)
    table = needs_module.need_table(found, shares).join(named[["named_by", "job", "sensitive"]], on="need")
    flagged = flags.table.set_index("thing")[["sensitive", "never_offer"]]
    things = needs_module.thing_table(found).join(flagged, on="thing")
    shown = report.format_needs(table, things, words=words)
    columns = {**titles("needs"), **({} if shop else USE_TITLES)}
    made = table_result(table, name="needs", shown=shown, columns=columns)
    return FoundNeeds(
        table,
        html=lambda: stack(made, remarks if notes else ""),
        tables={"needs": table, "need_things": things, **tables},
        shares=shares,
        needs=found,
        map=figure_result(things, lambda: map_report.plot_thing_map(things, table), name="map of things"),
    )


def name_learnt_needs(found: needs_module.Needs, *, previous: runs.Run | None, labels: dict[str, str]) -> pd.DataFrame:
    """Return `name, named_by, job, sensitive` by need; a need that continues an earlier one keeps its name."""
    things = needs_module.thing_table(found)
    spend = things["weight"] * things["need"].map(dict(zip(found.ids, found.spend, strict=True)))
    named = name_needs(things.assign(spend=spend), labels=labels, language=language_of_names()).set_index("need")
    if previous is not None and previous.has("needs"):
        old = previous.table("needs").set_index("need")
        kept = [need for need in named.index if need in old.index and old.loc[need, "name"] not in set(named["name"])]
        named.loc[kept, ["name", "named_by", "job", "sensitive"]] = old.loc[kept]
    return named


@dataclass(frozen=True, repr=False, eq=False)
class Profile(Result):
    """What the data holds and whether it can carry a segmentation: itself the answer, and a part for each question."""

    tiles: Result | None = None
    activity: Result | None = None
    retention: Result | None = None
    lifecycle: Result | None = None
    steps: Result | None = None
    kpis: Result | None = None
    coverage: Result | None = None
    datasheet: Result | None = None


def profile(customers: Customers, *, needs: FoundNeeds | None = None) -> Profile:
    """Profile the data before the date of a run, and judge whether it can carry a segmentation.

    Parameters
    ----------
    customers
        Of ``load_customers``.
    needs
        Of ``find_needs``: their shares are kept with the features.

    Raises
    ------
    InputError
        There is too little history.

    Examples
    --------
    >>> run = segkit.load_run(segkit.example_run())
    >>> found = segkit.profile(segkit.load_customers(run))
    >>> found.activity.table.columns.tolist()
    ['month', 'event', 'events', 'customers']
    """
    period, opened = customers.period, customers.source
    rejected, events, people = customers.read or _read(customers.run, opened)
    table = profile_module.profile(customers.state.days, events=events, rejected=rejected, period=period)
    profile_module.require_sufficient_history(table)
    verdict = profile_module.assess_data(table)
    described = _customer_tables(customers, needs=needs, rejected=rejected, people=people)
    sheet = described["datasheet"]
    parts = _profile_parts(customers, table, kpis=described["kpis"])
    answer = text_result(
        headline=report.profile_headline(verdict.answer),
        bullets=[*verdict.reasons, *report.describe_reading(customers.since, customers.reread_reason)],
    )
    return Profile(
        table,
        profile_module.profile_metrics(table, verdict=verdict, features=described["features"]),
        html=answer.html,
        draw=parts["activity"].draw,
        tables={
            **described,
            "profile": table,
            **{name: parts[name].table for name in ("activity", "retention", "lifecycle")},
            **({"steps": parts["steps"].table} if len(parts["steps"].table) else {}),
        },
        datasheet=table_result(sheet, name="datasheet", shown=sheet.assign(item=sheet["about"] + ": " + sheet["item"])),
        **parts,
    )


def _customer_tables(
    customers: Customers, *, needs: FoundNeeds | None, rejected: pd.DataFrame, people: ir.Table | None
) -> dict[str, pd.DataFrame]:
    state, opened, period = customers.state, customers.source, customers.period
    known = attribute_features(people, roles=opened.roles, index=state.index)
    hashed = "pseudonyms" in customers.run.parameters()
    tables = {
        "features": state.data.features.join([*([] if needs is None else [needs.shares]), known]),
        "dormant": dormant_customers(state.days, period=period),
        "datasheet": datasheet(opened, state.days, rejected=rejected, period=period, pseudonyms=hashed),
        "kpis": profile_module.kpis(state.days, period=period, kinds=state.kinds),
    }
    return tables if people is None else {**tables, "people": customer_attributes(people, roles=opened.roles)}


def _profile_parts(customers: Customers, table: pd.DataFrame, *, kpis: pd.DataFrame) -> dict[str, Result]:
    state, period, words = customers.state, customers.period, customers.words
    taken = steps(state.days, kinds=state.kinds, start=period.lookback_start, end=period.as_of)
    activity = profile_module.activity(state.days, as_of=period.as_of, kinds=state.kinds)
    retention = profile_module.retention(state.days, as_of=period.as_of)
    lifecycle = profile_module.lifecycle(state.data.features)
    shown, columns = report.format_kpis(kpis, words=words, returns="return" in state.kinds), titles("kpis")
    return {
        "tiles": text_result(kpis, tiles=report.profile_tiles(table, kpis, words=words)),
        "activity": figure_result(activity, lambda: report.plot_timeline(activity), name="activity"),
        "retention": figure_result(retention, lambda: report.plot_retention(retention), name="retention"),
        "lifecycle": table_result(lifecycle, name="lifecycle", shown=report.format_lifecycle(lifecycle)),
        "steps": _steps(taken),
        "kpis": Result(kpis, html=lambda: html.table_html(shown, columns=columns, caption=words.period.last_dates)),
        "coverage": table_result(table, name="profile", shown=report.format_profile(table, words=words)),
    }


def _steps(taken: pd.DataFrame) -> Result:
    """Show where days end before the last step: a sentence, a figure, a table."""
    table = table_result(taken, name="steps", shown=report.format_steps(taken) if len(taken) else None)
    answer = report.describe_steps(taken)
    if not answer:
        return table
    figure = html.figure_html(report.plot_steps(taken), alt=caption_of("steps")["alt"])
    return replace(table, html=lambda: stack(text_result(headline=answer), figure, table))


def _read(run: runs.Run, opened: Source) -> tuple[pd.DataFrame, ir.Table, ir.Table | None]:
    """Read the source of a run: rows that cannot be used, events before its date, and customers."""
    con = sources.connect()
    rejected = sources.count_rejected_rows(opened, con=con)
    sources.check_rejected_share(rejected, source=opened)
    events = sources.read_events(opened, con=con)
    events = events.filter(events.day < run.period.as_of)  # nothing at or after as_of gets in
    return rejected, events, sources.read_customers(opened, con=con)


def check(source: str, **options: Any) -> Result:
    """Check what segkit understands of a source, and whether it can carry a segmentation.

    Parameters
    ----------
    source
        "complete_journey", a YAML file, or a table (csv, tsv, parquet, xlsx), for which a draft YAML is written into
        the same folder first. A relative path starts at the current folder if it is there, else at the repository.
    **options
        ``data_dir``, ``as_of``, ``lookback_days`` and ``horizon_days``, as in a run.

    Raises
    ------
    SourceError
        The source cannot be read at all.

    Examples
    --------
    >>> run = segkit.load_run(segkit.example_run())
    >>> segkit.check(run.parameters()["source"]).table["line"].iloc[-1]
    'Can it carry a segmentation? yes'
    """
    found = find_path(source)
    path = str(found) if found.is_file() else source
    report = check_module.check_source(path, remarks=describe_never_offer, **options)
    table = pd.DataFrame({"line": list(report.lines)})
    metrics = {"check.status": report.status}
    return Result(table, metrics, html=lambda: html.table_html(table, columns={"line": "Check"}))
