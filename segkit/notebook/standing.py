"""Where everyone stands today under the segments of an earlier run, without finding segments again."""

from dataclasses import dataclass

from segkit.data import runs
from segkit.notebook.profiling import Customers, FoundNeeds, customer_tables, find_needs
from segkit.notebook.results import text_result
from segkit.notebook.segmenting import FoundSegments, anticipation_table, found_segments
from segkit.reports import html
from segkit.reports import overview as overview_report
from segkit.reports import segments as segments_report
from segkit.segments import fit, lineage
from segkit.segments.fit import TrainingWindows, write_training_windows


@dataclass(frozen=True, repr=False, eq=False)
class AssignedSegments(FoundSegments):
    """Customers of today in the segments of an earlier run.

    Parameters
    ----------
    training
        What was known one and two horizons ago, and what customers did since.
    needs
        The need groups of the earlier run, in what customers buy today.
    """

    training: TrainingWindows | None = None
    needs: FoundNeeds | None = None

    def save(self, run: runs.Run) -> None:
        """Write the segments, who is in them, the model, and what later notebooks learn from into a run."""
        self.needs.save(run)
        write_training_windows(run, self.training)
        super().save(run)


def assign(customers: Customers, previous: str, *, overrides: str = "") -> AssignedSegments:
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
    >>> from segkit.notebook.example import example_run
    >>> from segkit.notebook.profiling import load_customers
    >>> run = runs.load_run(example_run())
    >>> assigned = assign(load_customers(run), str(example_run())).assigned
    >>> (assigned["segment"] == run.table("assignments").set_index("customer_id")["segment"]).mean()
    np.float64(1.0)
    """
    run, now, period = customers.run, customers.state.data, customers.period
    before = lineage.load_standing_run(previous, of=run)
    decided = lineage.read_overrides(overrides or run.path.parent / "overrides.yaml")
    kept = lineage.assign_with_previous_model(before, now, overrides=decided, as_of=period.as_of.isoformat())
    training = customers.training
    windows = lineage.align_fit_data(training.fit_data(now), kept.model)
    needs = find_needs(customers, previous=previous)
    made = found_segments(
        customers,
        kept.assigned,
        lineage=kept,
        decided=decided,
        expected=fit.expected_outcomes(kept.model, windows),
        tables={
            **customer_tables(customers, needs=needs),
            **{name: before.table(name) for name in ("frontier", "subsamples")},
            "anticipation": anticipation_table(kept.expected),
            "map": kept.coords,
        },
        assignments=kept.assigned.assign(core=kept.core).join(kept.coords),
        model=lineage.reassigned_model_arrays(kept, before),
    )
    table = lineage.add_previous_proof(made.table, before)
    metrics = {**made.metrics, **lineage.previous_proof_metrics(before, fitted_as_of=kept.fitted_as_of)}
    sentences = segments_report.describe_standing_run(
        kept.moves,
        since=before.period.as_of.isoformat(),
        found=kept.fitted_as_of,
        reread_reason=customers.reread_reason,
    )
    parts = {
        **vars(made),
        "table": table,
        "metrics": metrics,
        "html": lambda: html.segment_table_html(table, caption="The micro-segments, largest revenue first."),
        "tables": {**made.tables, "segments": table},
        "answer": text_result(headline=overview_report.overview_headline(table), bullets=sentences),
        "evidence": text_result(bullets=overview_report.describe_evidence(run.summary() | metrics)),
    }
    return AssignedSegments(**parts, training=training, needs=needs)
