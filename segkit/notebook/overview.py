"""The overview of a run: what was found, how sure it is, and what to do first."""

from dataclasses import dataclass

from segkit.data.runs import Run
from segkit.notebook.results import Result, text_result
from segkit.reports import html
from segkit.reports import overview as overview_report
from segkit.reports import refresh as refresh_report
from segkit.reports.map import map_html, map_profile

MAP_ALT = "Map of customers in the colour and shape of their segment, with the name of each segment next to it"
MAP_CAPTION = "A name stands at the middle of its segment. Distances across the map mean little."
TABLE_CAPTION = "The micro-segments, largest revenue first; a heading sorts."


@dataclass(frozen=True, repr=False, eq=False)
class Overview(Result):
    """A run in one minute: itself the answer; ``table`` holds its segments.

    Parameters
    ----------
    tiles
        Its largest numbers, and how good the segments are.
    first_actions
        What to do first.
    map, segments, summaries
        The map of customers, the segments as a table, and as small cards.
    changes, evidence, pages
        What changed since the last run, how sure the results are, and where to read on.
    """

    tiles: Result | None = None
    first_actions: Result | None = None
    map: Result | None = None
    segments: Result | None = None
    summaries: Result | None = None
    changes: Result | None = None
    evidence: Result | None = None
    pages: Result | None = None


def overview(run: Run) -> Overview:
    """Put the overview of a run together from its tables.

    Parameters
    ----------
    run
        A run that holds 01_profile to 03_segments; what further notebooks wrote is shown too.
    """
    segments, summary = run.table("segments"), run.summary()
    horizon, cards = run.period.horizon_days, "04_personas.html" if run.has("personas") else ""
    first = overview_report.choose_first_actions(segments, horizon_days=horizon)
    tiles = overview_report.overview_tiles(segments, kpis=run.table("kpis"), summary=summary, horizon_days=horizon)
    pages = overview_report.list_pages(run.record()["tables"].values())
    return Overview(
        segments,
        html=text_result(headline=overview_report.overview_headline(segments)).html,
        tiles=text_result(segments, tiles=tiles, note=overview_report.describe_accuracy(summary)),
        first_actions=Result(segments, html=lambda: overview_report.render_first_actions(first, cards=cards)),
        map=_show_map(run, cards=cards),
        segments=Result(
            segments,
            html=lambda: html.segment_table_html(segments, caption=TABLE_CAPTION, horizon_days=horizon, cards=cards),
        ),
        summaries=Result(segments, html=lambda: overview_report.render_segment_summaries(segments, cards=cards)),
        changes=text_result(bullets=_describe_changes(run)),
        evidence=text_result(bullets=overview_report.describe_evidence(summary)),
        pages=Result(segments, html=lambda: overview_report.render_links(pages)),
    )


def _show_map(run: Run, *, cards: str) -> Result:
    placed, segments, horizon = run.table("assignments"), run.table("segments"), run.period.horizon_days
    expected = overview_report.expected_spend(run)
    if expected is None:
        expected = placed.set_index("customer_id")["segment"].map(segments.set_index("segment")["spend_next"])
    profile = map_profile(placed, run.table("features"), expected=expected, horizon_days=horizon)
    return Result(
        placed,
        html=lambda: map_html(placed, segments, profile=profile, alt=MAP_ALT, caption=MAP_CAPTION, cards=cards),
    )


def _describe_changes(run: Run) -> list[str]:
    as_of = run.parameters()["as_of"]
    ledger, moves, decisions = (overview_report.optional_table(run, name) for name in ("ledger", "moves", "decisions"))
    changes = overview_report.describe_changes(run.table("segments"), ledger=ledger, moves=moves, as_of=as_of)
    return refresh_report.describe_decisions(decisions, as_of=as_of) + changes
