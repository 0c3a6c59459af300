"""The proof of segments: whether they come back, and whether they predict better than other segmentations."""

from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from segkit.data.io import to_json_value
from segkit.errors import InputError
from segkit.notebook.profiling import Customers
from segkit.notebook.results import Result, figure_result, stack, table_result, text_result
from segkit.notebook.segmenting import FoundSegments, make_segments, segment_table
from segkit.reports import html
from segkit.reports import overview as overview_report
from segkit.reports import segments as segments_report
from segkit.segments import blocks, validation
from segkit.segments.ablation import ablation
from segkit.segments.clustering import segment_metrics
from segkit.segments.fit import fit_levels
from segkit.segments.lineage import Overrides
from segkit.vocabulary import LEVEL_ONLY


@dataclass(frozen=True, repr=False, eq=False)
class Proof(Result):
    """The proof of segments: itself the answer; ``table`` compares them with other segmentations out of time.

    Parameters
    ----------
    segments
        The segments with their stability and verdict.
    stability
        How often each segment comes back when the analysis is repeated on other samples of customers.
    baselines
        What each segmentation of one horizon ago explains of what customers did since, as a figure and as a table.
    blocks
        What each kind of data predicts alone, and what it adds to the others.
    needs_or_demographics
        Which of the two predicts more.
    ablation
        The same segments on needs that were grouped without HDBSCAN, and at random.
    """

    segments: FoundSegments | None = None
    stability: Result | None = None
    baselines: Result | None = None
    blocks: Result | None = None
    needs_or_demographics: Result | None = None
    ablation: Result | None = None


def validate(segments: FoundSegments, *, proof: str = "quick") -> Proof:
    """Test segments: repeat the analysis on other samples, and compare with other segmentations out of time.

    Parameters
    ----------
    segments
        Of ``segment``; for those of ``assign`` the proof is that of the day on which they were found.
    proof
        "quick" repeats it 5 times; "full" 20 times, which takes longer.

    Examples
    --------
    >>> run = segkit.load_run(segkit.example_run())
    >>> segments = segkit.segment(segkit.search(segkit.load_customers(run), segments=(4, 4)))
    >>> proof = segkit.validate(segments)  # nothing is saved
    >>> proof.segments.table[["segment", "verdict"]].columns.tolist(), proof.metrics["stability.fits"]
    (['segment', 'verdict'], 5)
    """
    _refuse_unknown(proof)
    if segments.found.fit is None:
        return _previous_proof(segments)
    found, customers = segments.found, segments.customers
    seed, windows, fit = customers.seed, found.windows, segments.lineage.fit
    stability = validation.stability(windows, fit, n_refits=validation.N_REFITS[proof], seed=seed)
    structure = validation.structure(fit, pairs=validation.N_NULL_COPIES[proof], seed=seed)
    compared = _backtest(segments)
    reason = validation.reason_without_backtest(customers.state.days, period=customers.period)
    roles = customers.source.roles
    adds = blocks.score_blocks(customers.training, people=customers.people, roles=roles, seed=seed)
    forward = validation.validation_metrics(compared, reason=reason, money="spend" in customers.table)
    proved = _with_proof(segments, stability=stability, structure=structure)
    held = validation.verdict(forward, found=structure.found, segments=proved.table)
    tried = {"segments.verdict": held, "segments.tried": len(proved.table)}
    proved = _levels_alone(proved) if held == validation.NONE else proved
    adding = blocks.block_metrics(adds, reason=reason)
    metrics = _counted(proved) | stability.metrics() | forward | adding | structure.metrics() | tried
    summary = customers.run.summary() | {name: to_json_value(value) for name, value in metrics.items()}
    baselines = None if compared is None else validation.baseline_table(compared)
    headline = overview_report.overview_headline(proved.table, summary=summary)
    answer = text_result(headline=headline, bullets=overview_report.describe_evidence(summary))
    without = ablation(windows, fit, seed=seed)
    tables = {"baselines": baselines, "blocks": None if adds is None else adds.table, "ablation": without}
    written = {name: table for name, table in tables.items() if table is not None}
    return Proof(
        pd.DataFrame() if baselines is None else baselines,
        metrics,
        html=answer.html,
        tables=written,
        segments=proved,
        stability=_show_stability(proved.table),
        baselines=_show_baselines(baselines, reason=reason),
        blocks=_show_blocks(None if adds is None else adds.table, reason=reason),
        needs_or_demographics=text_result(bullets=segments_report.compare_needs_and_demographics(summary)),
        ablation=_show_ablation(without),
    )


def _counted(segments: FoundSegments) -> dict[str, object]:
    fit, asked = segments.lineage.fit, segments.found.asked
    return segment_metrics(fit.segmentation, fit.needs, customers=len(segments.assigned), asked=asked)


def _levels_alone(segments: FoundSegments) -> FoundSegments:
    """Put everyone into a level of value, where no segments hold; a person's decisions were on those, and wait."""
    found, customers = segments.found, segments.customers
    levels = fit_levels(found.fit, seed=customers.seed)
    if levels is None:
        return _show_proved(segments, segments.table.assign(verdict=LEVEL_ONLY))
    again = make_segments(replace(found, fit=levels), decided=Overrides())
    stability = validation.stability(found.windows, levels, seed=customers.seed)
    return _with_proof(again, verdict=LEVEL_ONLY, stability=stability)


def _refuse_unknown(proof: str) -> None:
    if proof not in validation.N_REFITS:
        raise InputError(f"proof {proof[:40]!r} is unknown. Give {' or '.join(validation.N_REFITS)}.")


def _previous_proof(segments: FoundSegments) -> Proof:
    """Show the proof of segments that are kept, as it was made when they were found."""
    before, summary = segments.found.previous, segments.customers.run.summary() | segments.metrics
    reason = summary.get("forward.reason") or "the last run holds none"
    written = {name: before.table(name) for name in ("baselines", "blocks") if before.has(name)}
    baselines = written.get("baselines")
    return Proof(
        pd.DataFrame() if baselines is None else baselines,
        html=segments.answer.html,
        tables=written,
        segments=segments,
        stability=_show_stability(segments.table),
        baselines=_show_baselines(baselines, reason=reason),
        blocks=_show_blocks(written.get("blocks"), reason=reason),
        needs_or_demographics=text_result(bullets=segments_report.compare_needs_and_demographics(summary)),
        ablation=_show_ablation(segments.tables.get("ablation")),
    )


def _show_stability(table: pd.DataFrame) -> Result:
    return figure_result(table, lambda: segments_report.plot_stability(table), name="segment stability")


def _backtest(segments: FoundSegments) -> pd.DataFrame | None:
    """Score the segments of one horizon ago, and what they are compared with, on what customers did since."""
    found, customers = segments.found, segments.customers
    training = customers.training
    groups = validation.attribute_groups(customers.people, roles=customers.source.roles, seed=customers.seed)
    groups |= validation.previous_run_baseline(found.previous, training.last.customers if training.last else None)
    labels = validation.previous_run_label(found.previous, origin=customers.period.last_horizon_start)
    return validation.backtest(
        training, earlier=found.earlier, today=found.fit, groups=groups, labels=labels, seed=customers.seed
    )


def _with_proof(segments: FoundSegments, *, verdict: str = "", **tests: Any) -> FoundSegments:
    """Add stability and verdicts to the segment table; a verdict that is given is that of all."""
    customers: Customers = segments.customers
    model = segments.lineage.fit.model
    table = segment_table(
        customers,
        segments.assigned,
        signals=segments.tables["signals"],
        lineage=segments.lineage,
        ids=model.segments,
        **tests,
    )
    return _show_proved(segments, table.assign(verdict=verdict) if verdict else table)


def _show_proved(segments: FoundSegments, table: pd.DataFrame) -> FoundSegments:
    return replace(
        segments,
        table=table,
        html=lambda: html.segment_table_html(
            table,
            caption="Segments, largest revenue first. Choose a heading to sort.",
            signals=segments.tables["signals"],
        ),
        tables={**segments.tables, "segments": table},
    )


def _show_baselines(baselines: pd.DataFrame | None, *, reason: str) -> Result:
    if baselines is None:
        return text_result(note=f"No comparison out of time: {reason}.", warn=True)
    figure = figure_result(
        baselines, lambda: segments_report.plot_baselines(baselines, ours="ours"), name="baselines figure"
    )
    table = table_result(baselines, name="baselines", shown=segments_report.format_baselines(baselines))
    return replace(table, html=lambda: stack(figure, table), draw=figure.draw)


def _show_ablation(without: pd.DataFrame | None) -> Result:
    if without is None:
        return text_result(note="Not measured: no needs stand out, or history is too short.")
    formats = dict.fromkeys(("spend_r2", "need_r2", "mix_r2", "stability", "ari"), "score")
    return table_result(without, name="ablation", formats=formats)


def _show_blocks(adds: pd.DataFrame | None, *, reason: str) -> Result:
    if adds is None:
        return text_result(note=f"Not measured: {reason}.")
    return figure_result(adds, lambda: segments_report.plot_blocks(adds), name="blocks")
