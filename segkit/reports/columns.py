"""The page of a run on a table of customers alone: its sentences, cards, tables and figures."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
from markupsafe import Markup

from segkit import templates
from segkit.data.attributes import CATEGORY, FLAG, Attributes
from segkit.format import count, percent, score, share, share_of
from segkit.personas.differences import MOST_DIFFERENCES, form_of
from segkit.reports.theme import segment_style
from segkit.segments.validation import STABLE_VERDICTS
from segkit.templates import text

MOST_SIDE_BY_SIDE = 8  # segments in a table


def styled(segments: pd.DataFrame) -> pd.DataFrame:
    """Give each segment a colour of its own, as it has no need that would."""
    return segments.assign(need=["N" + own[1:] for own in segments["segment"]])


def describe_answer(summary: Mapping[str, Any], segments: pd.DataFrame) -> str:
    """Say how many segments there are, and whether they are groups."""
    counts = {"segments": len(segments), "customers": int(segments["customers"].sum())}
    return text("columns", "answer", verdict=summary["segments.verdict"], **counts)


def answer_tiles(summary: Mapping[str, Any], segments: pd.DataFrame, *, used: int) -> list[tuple[Any, ...]]:
    """Collect the large numbers of the page."""
    tiles: list[tuple[Any, ...]] = [("Customers", count(segments["customers"].sum())), ("Columns used", count(used))]
    if summary["segments.count"]:
        stable = int(segments["verdict"].isin(STABLE_VERDICTS).sum())
        tiles.append(("Segments", count(len(segments)), f"{stable} reappear on other samples of customers"))
        tiles.append(("Stability", score(summary["stability.ari_mean"]), "agreement of repetitions, 1 is all"))
    return tiles


def describe_evidence(summary: Mapping[str, Any], segments: pd.DataFrame, *, used: int, most: int) -> list[str]:
    """Describe stability and structure, or why no segments hold, one sentence each."""
    sentences = []
    tested = summary.get("structure.ari") is not None
    if summary["segments.count"]:
        stable = int(segments["verdict"].isin(STABLE_VERDICTS).sum())
        agreement = summary["stability.ari_mean"]
        sentences.append(text("columns", "stability", stable=stable, segments=len(segments), agreement=agreement))
    if tested:
        ends = {"ari": summary["structure.ari"], "reference": summary["structure.reference_ari"]}
        sentences.append(text("columns", "structure", found=summary["structure.found"], **ends))
    else:
        sentences.append(text("columns", "no_axis", columns=used))
    if not summary["segments.count"]:
        tried = summary["segments.tried"]
        sentences += [text("columns", "tried", tried=tried, most=most)] if tried else []
        sentences.append(text("columns", "wanted"))
    elif summary["segments.hdbscan_ari"] is not None:
        ends = {"agreement": summary["segments.hdbscan_ari"], "noise": summary["segments.noise_share"]}
        sentences.append(text("columns", "dense", **ends))
    return sentences


def describe_columns(attributes: Attributes) -> list[str]:
    """Describe what the segments were made from, what was left out, and what is missing."""
    used = [one.label for one in attributes.used]
    report = attributes.report.set_index("column")
    filled = report.loc[[one.name for one in attributes.used], "filled"]
    gaps = filled[filled < 1]
    most = next((one.label for one in attributes.used if one.name == filled.idxmin()), "")
    left = report.index[report["use"].str.startswith("left out")].tolist()
    sentences = [text("columns", "used", columns=used)]
    sentences.append(text("columns", "missing", columns=len(gaps), most=most, part=1 - filled.min()))
    return sentences + ([text("columns", "left_out", columns=left)] if left else [])


def cards_html(personas: pd.DataFrame, segments: pd.DataFrame) -> Markup:
    """Render a card for each segment, the largest first."""
    details = segments.set_index("segment")
    rows = []
    for row in personas.to_dict("records"):
        own = details.loc[row["segment"]]
        lines = [row[f"difference_{n + 1}"] for n in range(MOST_DIFFERENCES)]
        look = segment_style(row["segment"])
        rows.append(
            {
                **row,
                "look": look,
                "part": own["customer_share"],
                "verdict": own["verdict"],
                "lines": list(filter(None, lines)),
            }
        )
    return templates.html("columns", "cards", rows=rows)


def format_segments(segments: pd.DataFrame, personas: pd.DataFrame) -> pd.DataFrame:
    """Format the segments: name, size, what sets them apart most, stability."""
    first = personas.set_index("segment")["largest_difference"]
    return pd.DataFrame(
        {
            "Segment": segments["name"],
            "Customers": segments["customers"].map(count),
            "Share": segments["customer_share"].map(percent),
            "Largest difference": segments["segment"].map(first),
            "Stability": segments["stability"].map(score),
            "Verdict": segments["verdict"],
        }
    )


def format_side_by_side(differences: pd.DataFrame, segments: pd.DataFrame, *, currency: str) -> pd.DataFrame:
    """Format medians and shares of the largest segments next to each other, one row for each number or value."""
    shown = segments.head(MOST_SIDE_BY_SIDE)
    rows: dict[tuple[str, str], dict[str, str]] = {}
    listed = differences[differences["segment"].isin(shown["segment"])].sort_index()
    for row in listed.to_dict("records"):
        is_share = row["kind"] in (FLAG, CATEGORY)
        value = form_of(row, currency=currency)(row["value"])
        what = f"{row['label']}: {row['level']}" if is_share else row["label"]
        rows.setdefault((row["column"], what), {})[row["segment"]] = value
    names = dict(zip(shown["segment"], shown["name"], strict=True))
    made = [{"Column": what, **{names[own]: cells.get(own, "–") for own in names}} for (_, what), cells in rows.items()]
    return pd.DataFrame(made, columns=["Column", *names.values()])


def format_tried(tried: pd.DataFrame) -> pd.DataFrame:
    """Format the numbers of segments that were tried."""
    return tried.assign(
        segments=tried["segments"].map(count),
        explained=tried["explained"].map(percent),
        beyond=tried["beyond_chance"].map(percent),
        stability=tried["stability"].map(score),
        smallest=tried["smallest_share"].map(percent),
        chosen=tried["chosen"].map({True: "chosen", False: ""}),
    )


def format_current(table: pd.DataFrame, segments: pd.DataFrame) -> pd.DataFrame:
    """Format the comparison with the segments that customers are in already."""
    names = segments.set_index("segment")["name"]
    shares = [share_of(row.share, row.customers) for row in table.itertuples()]
    return table.assign(name=table["segment"].map(names), customers=table["customers"].map(count), share=shares)


def format_profile(attributes: Attributes) -> pd.DataFrame:
    """Format how each column was used."""
    report = attributes.report
    filled = ["–" if pd.isna(value) else share(value) for value in report["filled"]]
    return pd.DataFrame({"Column": report["column"], "Role": report["role"], "Known": filled, "Use": report["use"]})
