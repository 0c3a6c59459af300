"""What changed since the last run, as the overview and the digest say it."""

from segkit.data.runs import Run
from segkit.refresh.revenue import TABLE, shown_parts
from segkit.reports import overview, refresh
from segkit.reports.revenue import describe_revenue
from segkit.reports.wording import Wording


def describe_run_changes(run: Run, *, words: Wording | None = None, revenue: bool = False) -> list[str]:
    """Describe what changed in a sentence each: decisions, segments, customers who moved.

    Parameters
    ----------
    words
        How amounts are written; None reads it from the source of the run.
    revenue
        Begin with why revenue moved, where the run holds it.
    """
    as_of, segments = run.parameters()["as_of"], run.table("segments")
    names = ("ledger", "moves", "decisions", "customer_changes", TABLE)
    ledger, moves, decisions, changed, moved = (overview.optional_table(run, name) for name in names)
    sentences = refresh.describe_decisions(decisions, as_of=as_of)
    sentences += overview.describe_changes(segments, ledger=ledger, moves=moves, as_of=as_of)
    sentences += overview.describe_customer_changes(changed)
    if not revenue or moved is None or moved.empty:
        return sentences
    labels = segments.set_index("segment")["name"].to_dict()
    parts = shown_parts(moved, segments=segments)
    return [*describe_revenue(parts, names=labels, words=words or Wording.of(run)), *sentences]
