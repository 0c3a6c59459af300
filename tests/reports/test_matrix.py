"""The matrix of segments by value and need."""

import pandas as pd

from segkit.reports.matrix import matrix_columns, matrix_html, matrix_levels
from segkit.reports.theme import QUIET, segment_styles


def by_level(segments: pd.DataFrame) -> pd.DataFrame:
    """Return four segments: two needs and an open one at the top, and a level that is whole."""
    table = pd.concat([segments, segments.tail(1).assign(segment="S20", name="Light buyers")], ignore_index=True)
    return table.assign(
        macro_segment=["M1", "M1", "M1", "M2"],
        level=["Top", "Top", "Top", "Light"],
        need=["N02", "N01", None, None],
        need_name=["Baby care", "Fuel", "no single need", "no single need"],
        customers=[60, 40, 30, 50],
    )


def test_levels_are_rows_and_needs_columns_with_the_open_one_last(segments: pd.DataFrame) -> None:
    table = by_level(segments)
    assert matrix_columns(table) == [("N02", "Baby care"), ("N01", "Fuel"), ("", "")]
    top, light = matrix_levels(table)
    assert (top.name, light.name) == ("Top", "Light") and top.whole is None and light.whole["segment"] == "S20"
    assert {need: [row["segment"] for row in rows] for need, rows in top.cells.items()} == {
        "N02": ["S01"],
        "N01": ["S02"],
        "": ["S13"],
    }
    radius = {row["segment"]: row["radius"] for rows in top.cells.values() for row in rows}
    assert radius["S01"] > radius["S02"] > radius["S13"]


def test_the_page_links_each_segment_and_survives_any_name(segments: pd.DataFrame) -> None:
    evil = by_level(segments).assign(need_name=["<b>x</b>", "שלום 🎉", "no single need", "no single need"])
    made = matrix_html(evil, cards="04_personas.html")
    assert all(f'href="04_personas.html#{one}"' in made for one in evil["segment"])
    assert "<b>x</b>" not in made and "שלום 🎉" in made and 'colspan="3"' in made
    assert made.count("of revenue</small>") >= 4 and "revenue" not in matrix_html(
        evil.assign(revenue=float("nan"), revenue_share=float("nan"))
    )


def test_one_need_has_one_colour_and_one_level_one_shape(segments: pd.DataFrame) -> None:
    table = by_level(segments).assign(need=["N02", "N02", None, "N01"])
    styles = segment_styles(table)
    assert styles["S01"] == styles["S02"] != styles["S20"] and styles["S13"][0] == QUIET
    assert styles["S13"][1] == styles["S01"][1] != styles["S20"][1]
