"""Campaigns as a notebook shows them: starting values, pilots, read-outs, campaigns that were not randomised."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from segkit.customers.days import Days, load_days
from segkit.data import runs, sources
from segkit.data.holdout import Holdout
from segkit.data.paths import find_path
from segkit.data.spec import Source
from segkit.experiments import design, observational, readout, targets
from segkit.experiments.estimate import main_kpi
from segkit.experiments.pilot import Pilot, default_pilot_folder, find_pilot, load_pilot, to_rounded_json
from segkit.experiments.pilot import design_pilot as draw_pilot
from segkit.experiments.pilot_arms import read_out_arms
from segkit.experiments.pooled import pool_readouts
from segkit.experiments.programme import measure_programme, programme_metrics
from segkit.notebook.results import Result, caption_of, figure_result, stack, table_result, text_result
from segkit.reports import experiments as report
from segkit.reports import html, pilots
from segkit.reports.programme import describe_pooled, describe_programme, format_programme
from segkit.reports.wording import Wording


@dataclass(frozen=True, repr=False, eq=False)
class Measurement(Result):
    """The KPIs of each segment today, and what it takes to show a change; see ``segkit.measure``.

    Parameters
    ----------
    kpi
        The KPI that a pilot would change: spend, orders or active.
    names
        Names of segments by id.
    balance
        How alike customers who were sent a campaign and others were, before and after matching.
    words
        How the pages of the run write amounts and dates.
    """

    kpi: str = ""
    names: Mapping[str, str] | None = None
    balance: pd.DataFrame | None = None
    words: Wording | None = None

    @property
    def pilots(self) -> Result:
        """The smallest change that a pilot of each segment can show."""
        table = self.tables["pilots"]
        chart = figure_result(table, lambda: report.plot_candidates(table), name="candidate pilots")
        rows = table_result(table, name="pilots", shown=report.format_candidates(table, words=self.words), columns={})
        note = text_result(note=report.pilot_note(self.kpi, measured=self.table["kpi"]))
        return Result(table, html=lambda: stack(chart, rows, note), draw=chart.draw)

    @property
    def programme(self) -> Result:
        """What the whole programme brought, against the customers held out of it."""
        table = self.tables["programme"]
        answer, _, note = describe_programme(table, words=self.words)
        tests = describe_pooled(self.tables["pooled"])
        empty = "" if tests else caption_of("programme")["empty"]
        headline = text_result(table, note=answer or empty, bullets=tests)
        if table["lift"].isna().all():
            return headline
        shown = format_programme(table, words=self.words)
        rows = table_result(table, name="programme", shown=shown, columns={})
        return Result(table, html=lambda: stack(headline, rows, text_result(note=note)))

    @property
    def starting_values(self) -> Result:
        """The KPIs of each segment over the last horizon, before any campaign."""
        table = self.table
        shown = report.format_baseline_by_segment(table, names=self.names, words=self.words)
        sentences = text_result(bullets=report.describe_responses(table))
        caption = report.starting_caption(words=self.words)
        return Result(table, html=lambda: stack(html.table_html(shown, caption=caption), sentences))

    @property
    def campaigns(self) -> Result:
        """Campaigns that were not randomised: an association, not an effect."""
        table = self.tables["association"]
        if table.empty:
            return text_result(table, note=caption_of("association")["empty"])
        alike = table[table["alike"].astype(bool)]
        note = text_result(note=report.describe_associations(table, words=self.words))
        chart = figure_result(alike, lambda: report.plot_associations(alike, words=self.words), name="campaigns")
        shown = report.format_associations(table, words=self.words)
        rows = table_result(table, name="association", shown=shown, columns={})
        balance = table_result(self.balance, name="balance", shown=report.format_balance(self.balance), columns={})
        parts = [note, *([chart] if len(alike) else []), rows, balance]
        return Result(table, html=lambda: stack(*parts), draw=chart.draw if len(alike) else None)


def measure(run: runs.Run, *, kpi: str = "", experiment: Result | None = None) -> Measurement:
    """Measure the KPIs of each segment, and plan what a pilot in each can show.

    Parameters
    ----------
    run
        A run with segments; nothing is written to it.
    kpi
        What a pilot would change: spend, orders or active; empty is spend, or active in a source without money.
    experiment
        Of ``segkit.read_out``; None is no pilot.

    Examples
    --------
    >>> run = segkit.load_run(segkit.example_run())
    >>> measured = segkit.measure(run)
    >>> measured.kpi, measured.pilots.table["segment"].tolist()
    ('spend', ['S01', 'S02', 'S03', 'S04', 'all'])
    """
    source, days, period = runs.open_run_source(run), load_days(run), run.period
    names, words = run.table("segments").set_index("segment")["name"], Wording.of(run, source=source)
    segment = run.table("assignments").set_index("customer_id")["segment"].sort_index()
    starting = observational.baseline(days, segment=segment, period=period, kinds=source.kinds)
    kpi = kpi or main_kpi(days)
    reachable = targets.reachable(targets.reached_levels(days, segment=segment, period=period), kpi=kpi)
    pilots = design.candidate_pilots(days, kpi=kpi, segment=segment, reachable=reachable, period=period)
    pilots = pilots.assign(name=pilots["segment"].map(names).fillna("all customers"))
    events = sources.read_events(source, con=sources.connect())
    sent = observational.sent_campaigns(events, kinds=source.kinds, period=period)
    linked, balance = observational.measure_associations(days, sent=sent, kpi=kpi, index=segment.index, period=period)
    programme = _programme(run, source, days=days, kpi=kpi)
    tested = readout.empty_experiment([]) if experiment is None else experiment.table
    answer = text_result(
        headline=report.measure_headline(pilots, tested, horizon_days=period.horizon_days),
        tiles=report.measure_tiles(starting, words=words),
    )
    return Measurement(
        starting,
        metrics=observational.measure_metrics(starting, pilots, experiment=tested) | programme_metrics(programme),
        html=answer.html,
        draw=lambda: report.plot_candidates(pilots),
        tables={
            "starting_values": starting,
            "pilots": pilots,
            "association": linked,
            "programme": programme,
            "pooled": pool_readouts(run),
        },
        kpi=kpi,
        names=names,
        balance=balance,
        words=words,
    )


def _programme(run: runs.Run, source: Source, *, days: Days, kpi: str) -> pd.DataFrame:
    """Measure the programme against the holdout of the source, by the ids of the source."""
    holdout = Holdout.of(source)
    own = None
    if holdout is not None and run.parameters().get("pseudonyms"):
        own = runs.source_ids(run, runs.open_run_source(run, source_ids=True))
    return measure_programme(days, holdout=holdout, source_ids=own, kpi=kpi, period=run.period)


@dataclass(frozen=True, repr=False, eq=False)
class PilotDesign(Result):
    """The design of a pilot; see ``segkit.design_pilot``.

    Parameters
    ----------
    pilot
        Its facts, its customers with their arm, and the order in which to contact them.
    run
        The run it was drawn from.
    """

    pilot: Pilot | None = None
    run: runs.Run | None = None

    def write(self, *, folder: str | Path = "") -> Path:
        """Write the files of the pilot; nothing is sent.

        Parameters
        ----------
        folder
            Empty is ``pilots/`` next to the run.

        Returns
        -------
        Path
            The folder of the pilot.
        """
        default = default_pilot_folder(self.run, facts=self.pilot.facts)
        return pilots.write_planned_pilot(self.pilot, folder or default)


def design_pilot(run: runs.Run, *segments: str, kpi: str = "spend", **options: Any) -> PilotDesign:
    """Design a pilot: draw at random who is contacted, and state which change it can show.

    Parameters
    ----------
    run
        A finished run; nothing is written to it.
    *segments
        Ids of segments; more of them need larger effects, as all are tested at once.
    kpi
        spend, orders or active.
    **options
        ``arms``, ``opportunity``, ``join``, ``weeks``, ``start``, ``share_control``, ``seed``, ``exclude``, ``budget``,
        ``contact_cost``, ``margin`` and ``lift_from``, as in `segkit.experiments.pilot.design_pilot`.

    Raises
    ------
    InputError
        A segment, KPI, date or file cannot be used, or there are too few customers.

    Examples
    --------
    >>> run = segkit.load_run(segkit.example_run())
    >>> segkit.design_pilot(run, "S02", kpi="active", share_control=0.5).table["segment"].tolist()
    ['S02']
    """
    designed = draw_pilot(run, segments=segments, kpi=kpi, **options)
    answer = text_result(bullets=pilots.describe_pilot(designed.facts))
    return PilotDesign(pd.DataFrame(designed.facts["power"]), html=answer.html, pilot=designed, run=run)


def read_out(folder: str | Path, *, outcomes: str = "", data_dir: str = "", **prices: float | None) -> Result:
    """Read a pilot out: what contact added in each segment.

    Parameters
    ----------
    folder
        Of a pilot, or of the run it was drawn from; empty is no pilot.
    outcomes
        A source or a table with the outcomes; empty is the stored read-out, or the design if there is none yet.
    data_dir
        Folder of the source's files.
    **prices
        ``contact_cost`` and ``margin``; by default those of the design.

    Raises
    ------
    InputError
        The outcomes or the files of the pilot cannot be used.
    RunError
        The folder contains no pilot.

    Examples
    --------
    >>> run = segkit.load_run(segkit.example_run())
    >>> design = segkit.design_pilot(run, "S02", kpi="active", share_control=0.5)
    >>> folder = design.write(folder=run.path.with_name("pilot"))
    >>> segkit.read_out(folder).table["verdict"].tolist()
    ['not read yet']
    >>> outcomes = run.path.with_name("outcomes.csv")  # made up: only who was contacted comes back
    >>> (design.pilot.units["arm"] == "treatment").astype(int).rename("active").to_csv(outcomes)
    >>> segkit.read_out(folder, outcomes=str(outcomes)).table[["lift", "verdict"]].to_dict("records")
    [{'lift': 1.0, 'verdict': 'go on'}]
    """
    path = find_path(folder) if folder else None
    if path is not None and outcomes:
        drawn = load_pilot(find_pilot(path))
        values, about = readout.read_outcomes(outcomes, facts=drawn.facts, index=drawn.units.index, data_dir=data_dir)
        if len(drawn.arms) > 1:
            content = pilots.arms_content(read_out_arms(drawn, values, **prices), about=about)
        else:
            content = readout.readout_json(readout.read_out(drawn, values, **prices), about=about)
        table = readout.experiment_from_readout(to_rounded_json(content))
    else:
        table = readout.load_experiment(path)
    tables = {"experiment": table}
    if table.empty:
        return text_result(table, note=report.no_pilot_note(), tables=tables)
    steps = text_result(bullets=pilots.next_steps(table))
    if (table["verdict"] == "not read yet").all():
        return Result(table, html=steps.html, tables=tables)
    chart = figure_result(table, lambda: pilots.plot_lifts(table), name="lifts")
    rows = table_result(table, name="experiment", shown=pilots.format_experiment(table), columns={})
    return Result(table, html=lambda: stack(chart, rows, steps), draw=chart.draw, tables=tables)
