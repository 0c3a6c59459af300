"""The second and third chapter of a run: what customers are likely to do next, their segments, and the proof."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import pandas as pd

from segkit.customers.anticipation import (
    Anticipation,
    anticipate,
    describe_axes,
    forecast_accuracy,
    forecast_accuracy_metrics,
    map_colours,
)
from segkit.customers.needs import load_needs
from segkit.data import runs
from segkit.notebook.profiling import Customers
from segkit.notebook.results import Result, figure_result, stack, table_result, text_result
from segkit.notebook.runs import Segments
from segkit.personas.evidence import claimed_needs
from segkit.personas.segment_table import make_segment_table
from segkit.personas.traits import segment_favourites, segment_signals
from segkit.reports import html
from segkit.reports import map as map_report
from segkit.reports import overview as overview_report
from segkit.reports import profile as profile_report
from segkit.reports import segments as segments_report
from segkit.reports.matrix import matrix_html
from segkit.reports.small_maps import plot_small_maps
from segkit.reports.theme import need_colour
from segkit.segments import fit as fit_module
from segkit.segments import lineage, validation
from segkit.segments.clustering import Budget, embed_customers
from segkit.segments.fit import (
    Fit,
    FitData,
    TrainingWindows,
    build_training_windows,
    fit_segments,
    fit_space,
    last_horizon_outcomes,
    write_training_windows,
)
from segkit.segments.lineage import Lineage, Overrides, Reassignment
from segkit.segments.model import assign_points, model_to_arrays

ASSIGNMENT_COLUMNS = ["segment", "macro_segment", "need", "confidence", "core", "x", "y"]


@dataclass(frozen=True, repr=False, eq=False)
class Embedding(Result):
    """What customers are likely to do next: itself the answer; ``table`` says how well each outcome was predicted.

    Parameters
    ----------
    predictability
        The same as a figure.
    axes
        The directions in which customers differ most in what they are likely to do, in words.
    map
        Customers on a plane, similar ones close together, coloured three ways.
    training
        What was known one and two horizons ago, and what customers did since.
    """

    predictability: Result | None = None
    axes: Result | None = None
    map: Result | None = None
    training: TrainingWindows | None = None

    def save(self, run: runs.Run) -> None:
        """Write its tables and headline numbers, and what later notebooks learn from, into a run."""
        write_training_windows(run, self.training)
        super().save(run)


def embed(customers: Customers, *, previous: str = "") -> Embedding:
    """Learn from the last horizon what customers are likely to do next, and place similar ones close on a map.

    Parameters
    ----------
    customers
        Of ``load_customers``.
    previous
        Folder of an earlier run whose space and map are kept, with what was tested then; empty to learn them.

    Examples
    --------
    >>> run = segkit.load_run(segkit.example_run())
    >>> segkit.embed(segkit.load_customers(run)).axes.table["axis"].iloc[0]
    'axis 1'
    """
    state, seed = customers.state, customers.seed
    training = build_training_windows(state.days, period=state.period, kinds=state.kinds)
    windows, notes = training.fit_data(state.data), []
    needs = load_needs(customers.run)
    names = {} if needs is None else dict(zip(needs.ids, needs.names, strict=True))
    if previous:
        before = lineage.load_kept_run(previous, of=customers.run)
        expected, placed, found = lineage.place_on_previous_map(before, state.data)
        accuracy, notes = before.table("predictability"), [profile_report.describe_kept_map(found)]
    else:
        expected = anticipate(fit_space(windows, needs=needs, seed=seed), windows.now)
        placed = embed_customers(expected.axes, seed=seed)
        accuracy = forecast_accuracy(windows.then, windows.outcomes, needs=needs, seed=seed)
    answer = text_result(headline=profile_report.predictability_headline(accuracy), bullets=notes)
    figure = figure_result(accuracy, lambda: profile_report.plot_predictability(accuracy), name="predictability")
    axes = describe_axes(expected, names=names)
    shown = profile_report.format_axes(axes)
    columns = {"name": "What customers differ in", "share": "Share of all differences"}
    return Embedding(
        accuracy,
        forecast_accuracy_metrics(accuracy),
        html=answer.html,
        draw=figure.draw,
        tables={"anticipation": anticipation_table(expected), "map": placed, "predictability": accuracy},
        predictability=figure if len(accuracy) else text_result(accuracy, note="There is nothing to test this on."),
        axes=table_result(axes, name="axes", shown=shown, columns=columns),
        map=_map_of_outcomes(placed, map_colours(expected, windows.now, names=names), names=names),
        training=training,
    )


def anticipation_table(expected: Anticipation) -> pd.DataFrame:
    """Put together what a run keeps of what each customer is expected to do."""
    return expected.axes.join(expected.outcomes.add_prefix("expected_log_"))


def _map_of_outcomes(placed: pd.DataFrame, values: pd.DataFrame, *, names: Mapping[str, str]) -> Result:
    colours = {name: need_colour(need) for need, name in names.items()}
    return figure_result(
        placed,
        lambda: plot_small_maps(placed.reset_index(), values, colours=colours),
        name="map of outcomes",
    )


@dataclass(frozen=True, repr=False, eq=False)
class Search(Result):
    """The numbers of segments that were tried: ``table`` holds one a row, the chosen one marked.

    Parameters
    ----------
    customers
        The customers whose segments were searched.
    fit
        The chosen segments; None where those of the run ``previous`` are kept.
    earlier
        Those of the same search one horizon ago, on which the proof is made; None where history is too short.
    previous
        The run whose ids and names are kept, or None.
    asked
        Fewest segments that were asked for.
    """

    customers: Customers | None = None
    fit: Fit | None = None
    earlier: Fit | None = None
    previous: runs.Run | None = None
    asked: int = 0

    @cached_property
    def windows(self) -> FitData:
        """Today's customers, with the last horizon to learn from, and what was bought before their date."""
        state = self.customers.state
        return self.customers.training.fit_data(state.data, days=state.days, period=state.period)


def search(
    customers: Customers, *, segments: tuple[int, int] = (12, 20), smallest_share: float = 0.01, previous: str = ""
) -> Search:
    """Search for segments: levels of value times columns of needs, in every number asked for.

    Parameters
    ----------
    customers
        Of ``load_customers``.
    segments
        Fewest and most segments.
    smallest_share
        Of customers in the smallest segment.
    previous
        Folder of the run whose ids and names are kept; empty for none.

    Raises
    ------
    BudgetError
        No number of segments keeps each one large enough; says which limit binds.
    RunError
        The previous run is of another source.

    Examples
    --------
    >>> run = segkit.load_run(segkit.example_run())
    >>> found = segkit.search(segkit.load_customers(run), segments=(3, 4))
    >>> found.table["chosen"].sum()
    np.int64(1)
    """
    before = lineage.previous_run(previous, of=customers.run)
    budget = Budget(min_segments=segments[0], max_segments=segments[1], smallest_share=smallest_share)
    made = {"budget": budget, "seed": customers.seed}
    earlier = validation.earlier_fit(customers.training, days=customers.state.days, period=customers.period, **made)
    budget = replace(budget, prefer=validation.preferred_shape(before, earlier))
    needs = load_needs(customers.run)
    windows = customers.training.fit_data(customers.state.data)
    fit = fit_segments(windows, budget=budget, needs=needs, seed=customers.seed)
    parts = {"customers": customers, "fit": fit, "earlier": earlier, "previous": before, "asked": segments[0]}
    return show_search(fit.frontier, **parts)


def show_search(frontier: pd.DataFrame, **parts: Any) -> Search:
    """Show the numbers of segments that were tried as a figure."""
    figure = figure_result(frontier, lambda: segments_report.plot_frontier(frontier), name="frontier")
    return Search(frontier, html=figure.html, draw=figure.draw, **parts)


@dataclass(frozen=True, repr=False, eq=False)
class FoundSegments(Segments):
    """Segments that were just found or assigned, not yet written.

    ``answer`` describes them in a sentence; ``ledger`` and ``moves`` show what changed since the previous run.

    Parameters
    ----------
    customers
        The customers in them.
    assignments
        Segment, macro segment, confidence, core and place on the map, by customer_id.
    model
        Arrays and metadata from which a customer is assigned.
    found
        The search they come from, of this run or of the one whose segments are kept.
    lineage
        Ids, names, ledger and moves since the previous run.
    """

    customers: Customers | None = None
    assignments: pd.DataFrame | None = None
    model: tuple[dict[str, Any], dict[str, Any]] | None = None
    found: Search | None = None
    lineage: Lineage | Reassignment | None = None
    answer: Result | None = None
    ledger: Result | None = None
    moves: Result | None = None

    @property
    def assigned(self) -> pd.DataFrame:
        """Each customer's segment, confidence and place on the map, by customer_id."""
        return self.assignments

    @property
    def features(self) -> pd.DataFrame:
        """Each customer's features, by customer_id."""
        return self.customers.table

    def matrix(self) -> Result:
        """Show the segments by value and need."""
        return Result(self.table, html=lambda: matrix_html(self.table, cards="04_personas.html"))

    def map(self) -> Result:
        """Show the map of customers in the colour of their need and the shape of their level."""
        return figure_result(
            self.assignments,
            lambda: map_report.plot_segment_map(self.assignments, self.table),
            name="segment map",
        )

    def save(self, run: runs.Run) -> None:
        """Write the segments, who is in them, and the model into a run."""
        super().save(run)
        arrays, meta = self.model
        run.save_model(arrays, meta=meta)


def segment(found: Search, *, overrides: str = "") -> FoundSegments:
    """Put everyone into exactly one segment, with the ids and names of the previous run where a segment continues one.

    Parameters
    ----------
    found
        Of ``search``.
    overrides
        YAML file of decisions (rename, merge, pin); empty for ``overrides.yaml`` in the folder above the run.

    Raises
    ------
    InputError
        A decision is about a segment that is not there.

    Examples
    --------
    >>> run = segkit.load_run(segkit.example_run())
    >>> segments = segkit.segment(segkit.search(segkit.load_customers(run), segments=(3, 3)))
    >>> sorted(segments.ids), len(segments.assigned)
    (['S01', 'S02', 'S03'], 251)
    """
    run = found.customers.run
    return make_segments(found, decided=lineage.read_overrides(overrides or run.path.parent / "overrides.yaml"))


def make_segments(found: Search, *, decided: Overrides) -> FoundSegments:
    """Put everyone into one segment, as a person decided; see ``segment``."""
    customers, run = found.customers, found.customers.run
    now, as_of = customers.state.data, customers.period.as_of.isoformat()
    kept = lineage.continue_lineage(found.fit, now=now, previous=found.previous, overrides=decided, as_of=as_of)
    assigned = assign_points(kept.fit.model, kept.fit.axes)
    assignments = assigned.assign(core=kept.fit.core()).join(run.table("map").set_index("customer_id"))
    arrays, meta = model_to_arrays(kept.fit.model)
    opened = customers.source
    meta |= {"kinds": opened.kinds, "needs": opened.needs.kinds, "timezone": opened.timezone, "source": opened.name}
    meta |= {"lookback_days": customers.period.lookback_days}
    return found_segments(
        customers,
        assigned,
        lineage=kept,
        decided=decided,
        tables={"frontier": kept.fit.frontier},
        assignments=assignments,
        model=(arrays, meta),
        found=found,
    )


def found_segments(
    customers: Customers,
    assigned: pd.DataFrame,
    *,
    lineage: Lineage | Reassignment,
    decided: Overrides,
    tables: dict[str, pd.DataFrame],
    **parts: Any,
) -> FoundSegments:
    """Put segments together with their table, their changes, and all that a run keeps of them."""
    now = customers.state.data
    segment = assigned["segment"]
    favourites = segment_favourites(now, segment, needs=load_needs(customers.run))
    signals = segment_signals(now.features, segment)
    table = segment_table(customers, assigned, signals=signals, lineage=lineage)
    written = {
        "assignments": parts["assignments"][ASSIGNMENT_COLUMNS],
        "segments": table,
        **tables,
        "favourites": favourites,
        "signals": signals,
        "ledger": lineage.ledger,
    }
    if lineage.moves is not None:
        written["moves"] = lineage.moves
    return FoundSegments(
        table,
        {"segments.count": len(table), "segments.customers": len(assigned)},
        html=lambda: html.segment_table_html(
            table, caption="Segments, largest revenue first. Choose a heading to sort."
        ),
        tables=written,
        run=customers.run,
        customers=customers,
        lineage=lineage,
        **_changes(customers, table, lineage=lineage, decided=decided),
        **parts,
    )


def segment_table(
    customers: Customers,
    assigned: pd.DataFrame,
    *,
    signals: pd.DataFrame,
    lineage: Lineage | Reassignment,
    **proof: Any,
) -> pd.DataFrame:
    """Put the table segments together; without a proof its stability is unknown."""
    now = customers.state.data
    revenue, outcomes = fit_module.net_spend(customers.state), last_horizon_outcomes(customers.state)
    sizes = fit_module.segment_sizes(assigned, now.features, revenue=revenue, outcomes=outcomes)
    return make_segment_table(
        sizes,
        names=lineage.names,
        earlier=lineage.earlier,
        features=now.features,
        segment=assigned["segment"],
        needs=_need_of_segments(customers, assigned),
        signals=signals,
        people=customers.buyers,
        **{"stability": None, **proof},
    )


def _need_of_segments(customers: Customers, assigned: pd.DataFrame) -> pd.DataFrame:
    """Return the id and name of the need of each segment; null where a card may not claim one."""
    found = load_needs(customers.run)
    names = {} if found is None else dict(zip(found.ids, found.names, strict=True))
    led = assigned.groupby("segment")["need"].first()
    table = claimed_needs(led, customers.state.data, assigned["segment"], needs=found).to_frame("need")
    return table.assign(need_name=table["need"].map(names))


def _changes(
    customers: Customers, table: pd.DataFrame, *, lineage: Lineage | Reassignment, decided: Overrides
) -> dict[str, Result]:
    """Show decisions, and the change since the previous run."""
    as_of, moves = customers.period.as_of.isoformat(), lineage.moves
    ledger = segments_report.format_ledger(lineage.ledger, table, as_of=as_of)
    decisions = text_result(bullets=decided.sentences() or ["No decisions in overrides.yaml."])
    rows = table_result(lineage.ledger, name="ledger", shown=ledger, columns={c: c for c in ledger.columns})
    parts = {
        "answer": text_result(headline=overview_report.overview_headline(table)),
        "ledger": Result(lineage.ledger, html=lambda: stack(decisions, rows)),
        "moves": text_result(note="There is no previous run to compare with."),
    }
    if set(lineage.ledger["event"]) <= {"born"}:  # a first run: that every segment is new is no news
        parts["ledger"] = Result(lineage.ledger, html=decisions.html)
    if moves is not None:
        shown = segments_report.format_moves(moves)
        parts["moves"] = table_result(moves, name="moved customers", shown=shown, columns={c: c for c in shown.columns})
    return parts
