"""Figures: from a table without changing it, the same bytes each time, the same look for a segment everywhere."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from segkit.errors import InputError
from segkit.reports import map as map_report
from segkit.reports import profile as profile_report
from segkit.reports import segments as segments_report
from segkit.reports import small_maps
from segkit.reports.html import figure_html
from segkit.reports.theme import COLOURS, segment_style


def blocks_table() -> pd.DataFrame:
    """Two blocks and both together on two measures; demographics are known of fewer, and not judged on mix."""
    scored = [("all", "spend", 90), ("needs", "spend", 90), ("demographic", "spend", 30)]
    table = pd.DataFrame([*scored, ("needs", "mix", 80)], columns=["block", "measure", "customers"])
    scores = {"alone_r2": 0.3, "alone_low": 0.2, "alone_high": 0.4}
    added = {name: [np.nan, 0.1, -0.02, 0.1] for name in ("adds", "adds_low", "adds_high")}
    return table.assign(label=table["block"], **scores, **added)


@pytest.fixture
def tables(segments: pd.DataFrame, assignments: pd.DataFrame) -> dict[str, pd.DataFrame]:
    months = pd.to_datetime(["2024-01-01", "2024-02-01"] * 2)
    score = {"spend_r2": 0.5, "spend_low": 0.4, "spend_high": 0.6, "need_r2": 0.1, "need_low": 0.09, "need_high": 0.11}
    return {
        "segments": segments,
        "assignments": assignments,
        "values": pd.DataFrame(
            {"spend": np.arange(12.0), "need": ["a"] * 11 + [None]}, index=assignments["customer_id"]
        ),
        "activity": pd.DataFrame(
            {"month": months, "event": ["buy", "buy", "mail", "mail"], "events": 30, "customers": 20}
        ),
        "signals": pd.DataFrame(
            {
                "feature": ["orders", "spend"],
                "effect": [-0.2, 1.1],
                "effect_low": [-0.4, 0.9],
                "effect_high": [0.0, 1.3],
            }
        ),
        "predictability": pd.DataFrame({"outcome": ["spend", "mix"], "r2": [0.5, -0.01]}),
        "frontier": pd.DataFrame(
            {
                "family": ["3 levels", "4 levels"],
                "segments": [12, 14],
                "spend_r2": [0.4, 0.5],
                "need_r2": [0.1, 0.1],
                "stability": np.nan,
                "chosen": [False, True],
            }
        ),
        "things": pd.DataFrame(
            {"thing": ["tea", "rum", "soap"], "need": ["N01", "N01", "N02"], "weight": [0.7, 0.3, 1.0]}
        ).assign(x=[0.0, 1.0, 5.0], y=[0.0, 1.0, 4.0]),
        "needs": pd.DataFrame({"need": ["N01", "N02"], "name": ["Drinks", "Cleaning"]}),
        "blocks": blocks_table(),
        "steps": pd.DataFrame({"event": ["visit", "purchase"], "customers": [90, 60], "share": [1.0, 0.4]}),
        "retention": pd.DataFrame({"cohort": months[:2], "newcomers": 50, "months_since": [1, 1], "share": [0.5, 0.4]}),
        "baselines": pd.DataFrame([{"baseline": name, "label": name, **score} for name in ("segkit", "rfm", "kmeans")]),
    }


DRAW: dict[str, Callable[[dict[str, pd.DataFrame]], Figure]] = {
    "plot_blocks": lambda given: segments_report.plot_blocks(given["blocks"]),
    "plot_timeline": lambda given: profile_report.plot_timeline(given["activity"]),
    "plot_segment_map": lambda given: map_report.plot_segment_map(given["assignments"], given["segments"]),
    "plot_thing_map": lambda given: map_report.plot_thing_map(given["things"], given["needs"]),
    "plot_small_maps": lambda given: small_maps.plot_small_maps(given["assignments"], given["values"]),
    "plot_predictability": lambda given: profile_report.plot_predictability(given["predictability"]),
    "plot_frontier": lambda given: segments_report.plot_frontier(given["frontier"]),
    "plot_steps": lambda given: profile_report.plot_steps(given["steps"]),
    "plot_retention": lambda given: profile_report.plot_retention(given["retention"]),
    "plot_baselines": lambda given: segments_report.plot_baselines(given["baselines"]),
    "plot_segment_shares": lambda given: segments_report.plot_segment_shares(given["segments"]),
    "plot_feature": lambda given: segments_report.plot_feature(
        given["values"]["spend"],
        given["assignments"].set_index("customer_id")["segment"],
        label="Spend",
        segments=given["segments"],
    ),
    "plot_differences": lambda given: segments_report.plot_differences(given["signals"]),
    "plot_stability": lambda given: segments_report.plot_stability(given["segments"]),
}


@pytest.mark.parametrize("name", DRAW)
def test_figure_repeats_to_the_byte_and_leaves_its_tables(name: str, tables: dict[str, pd.DataFrame]) -> None:
    before = {key: table.copy() for key, table in tables.items()}
    pages = [figure_html(DRAW[name](tables), alt="a picture") for _ in range(2)]
    assert pages[0] == pages[1]
    for key, table in tables.items():
        pd.testing.assert_frame_equal(table, before[key])


def test_every_figure_has_a_test() -> None:
    plots = {
        name
        for module in (segments_report, profile_report, map_report, small_maps)
        for name in vars(module)
        if name.startswith("plot_")
    }
    assert set(DRAW) == plots


def test_forty_segments_differ_in_colour_or_shape() -> None:
    looks = [segment_style(f"S{number:02d}") for number in range(1, 41)]
    assert len(set(looks)) == 40
    assert segment_style("S07") == segment_style("S007") and {colour for colour, _ in looks} == set(COLOURS)


def test_labels_of_the_map_do_not_overlap(assignments: pd.DataFrame, segments: pd.DataFrame) -> None:
    crowded = assignments.assign(x=assignments["x"] / 100, y=assignments["y"] / 100)
    crowded.loc[0, ["x", "y"]] = [5.0, 5.0]
    figure = map_report.plot_segment_map(crowded, segments)
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert [text.get_text() for text in figure.axes[0].texts] == ["Fresh & early", "Big <b>baskets</b>", "Fading"]
    assert not any(one.overlaps(other) for at, one in enumerate(boxes) for other in boxes[at + 1 :])


def test_each_need_has_its_name_by_its_things_and_a_size_by_spend(tables: dict[str, pd.DataFrame]) -> None:
    axes = DRAW["plot_thing_map"](tables).axes[0]
    assert [text.get_text() for text in axes.texts] == ["Drinks", "Cleaning"]
    large, small = axes.collections[0].get_sizes()
    assert large > small and len(axes.collections) == 2


def test_bars_start_at_zero(tables: dict[str, pd.DataFrame]) -> None:
    for name in ("plot_timeline", "plot_predictability", "plot_segment_shares"):
        axes = DRAW[name](tables).axes[0]
        assert 0 in (axes.get_xlim()[0], axes.get_ylim()[0])


def test_blocks_known_of_fewer_customers_give_their_number(tables: dict[str, pd.DataFrame]) -> None:
    spend, mix = segments_report.plot_blocks(tables["blocks"]).axes
    assert [label.get_text() for label in spend.get_yticklabels()] == ["all", "demographic (of 30)", "needs"]
    assert [bar.get_width() for bar in spend.patches] == [0.3, 0.3, 0.3, 0, -0.02, 0.1]
    assert [bar.get_width() for bar in mix.patches] == [0, 0, 0.3, 0, 0, 0.1]


def test_blocks_without_a_measure_have_one_panel(tables: dict[str, pd.DataFrame]) -> None:
    assert len(segments_report.plot_blocks(tables["blocks"].query("measure == 'spend'")).axes) == 1


def test_small_maps_hold_one_to_three_columns(assignments: pd.DataFrame) -> None:
    many = pd.DataFrame(0.0, index=assignments["customer_id"], columns=list("abcd"))
    with pytest.raises(InputError, match="values: 4 columns to colour by"):
        small_maps.plot_small_maps(assignments, many)


def test_one_customer_has_a_map(assignments: pd.DataFrame, segments: pd.DataFrame) -> None:
    assert map_report.plot_segment_map(assignments.head(1), segments.head(1)).axes
