"""Small groups are not shown: no count below twenty customers stands on a page, none follows from a total, and what
fewer than twenty bought is named nowhere.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segkit.customers.features import CustomerData
from segkit.customers.needs import Needs, need_table, purchases_of_customers
from segkit.data.runs import load_run
from segkit.format import FLOOR, is_few, masked_count, masked_counts, suppressed_cells
from segkit.period import Period
from segkit.personas.traits import segment_favourites, unmet_needs
from segkit.reports import experiments as experiments_report
from segkit.reports import forecast as forecast_report
from segkit.reports import overview as overview_report
from segkit.reports import profile as profile_report
from segkit.reports import refresh as refresh_report
from segkit.reports import segments as segments_report
from segkit.reports.html import segment_table_html, shown_rows
from segkit.reports.matrix import matrix_html
from segkit.reports.wording import Wording
from segkit.templates import html

WORDS = Wording(Period.parse("2018-01-01", lookback_days=182, horizon_days=91))
COUNTS = st.lists(st.integers(0, 120), min_size=1, max_size=8)
SMALL_NUMBER = re.compile(r"(?<![\d.,%–−+\[])\b(1?\d)\b(?! ?%)[\u00a0 ](customers|members|people)\b")


def _causes(**sizes: int) -> pd.DataFrame:
    """Moves of so many customers for each cause, in and out of two segments."""
    rows = [(cause, number) for cause, size in sizes.items() for number in range(size)]
    ends = {
        "stayed": ("S01", "S01", "S01"),
        "customer": ("S01", "S02", "S02"),
        "definition": ("S01", "S01", "S02"),
        "both": ("S02", "S01", "S02"),
        "joined": (None, None, "S01"),
        "left": ("S02", None, None),
    }
    table = pd.DataFrame([(f"{cause}-{number}", *ends[cause], cause) for cause, number in rows])
    return table.set_axis(["customer_id", "before", "standing", "after", "cause"], axis=1)


@given(COUNTS)
def test_hidden_counts_hold_the_floor_together_or_are_all_there_are(counts: list[int]) -> None:
    hides, values = suppressed_cells(counts), np.array(counts)
    assert all(hides[i] for i in range(len(counts)) if is_few(counts[i])), "every small count is hidden"
    assert not hides[values == 0].any()
    left_over = values[hides].sum()  # what total less the shown ones gives away
    enough = hides.sum() >= 2 and left_over >= FLOOR
    assert not hides.any() or enough or hides[values > 0].all()
    assert not any(text.isdigit() and 0 < int(text) < FLOOR for text in masked_counts(counts))


@given(COUNTS)
def test_shown_again_hides_the_same_and_a_lower_floor_hides_no_more(counts: list[int]) -> None:
    assert (suppressed_cells(counts) == suppressed_cells(list(counts))).all()
    assert not suppressed_cells(counts, floor=1).any()
    assert [is_few(count, floor=5) <= is_few(count) for count in counts] == [True] * len(counts)


def test_stages_of_life_of_a_few_are_hidden_with_the_next_smallest() -> None:
    stages = pd.DataFrame({"stage": list("abcd"), "meaning": "", "customers": [3, 28, 300, 0]})
    stages = stages.assign(**{f"share{part}": stages["customers"] / 331 for part in ("", "_low", "_high")})
    table = profile_report.format_lifecycle(stages)
    assert table["customers"].tolist() == ["<20", "hidden", "300", "0"]
    assert table["share"].tolist()[:2] == ["–", "–"] and table["share"].iloc[2].startswith("91")


def test_moves_of_a_few_are_hidden_in_every_text() -> None:
    moves = _causes(stayed=300, customer=40, definition=7, both=3, joined=5, left=30)
    table = segments_report.format_moves(moves)
    assert table["Customers"].tolist() == ["300", "hidden", "<20", "<20", "hidden", "hidden"]
    assert (table["Share"] == "–").tolist() == [False, True, True, True, True, True]
    moved_text = " ".join(refresh_report.describe_moves(moves, names={}))
    assert (
        "<20 moved because the definition changed" in moved_text
        and "40 customers moved from S01 to S02; <20 moved the other way" in moved_text
    )
    assert "definition assigns" not in moved_text, "ten customers moved by the new definition are hidden"
    ledger = pd.DataFrame([("2024-01-01", "S01", "born"), ("2024-02-01", "S01", "same")])
    changes = overview_report.describe_changes(
        pd.DataFrame({"segment": ["S01"], "name": ["One"]}),
        ledger=ledger.set_axis(["as_of", "segment", "event"], axis=1),
        moves=moves,
        as_of="2024-02-01",
    )
    assert "a number too small to show because the definition did" in changes[-2]
    assert changes[-1].startswith("How many customers joined and left is not shown")
    for text in (moved_text, *changes):
        assert not SMALL_NUMBER.search(text), text


def test_streams_of_a_few_are_not_drawn() -> None:
    flow = pd.DataFrame({"before": ["S01", "S01", "S02"], "standing": ["S01", "S02", "S02"]})
    flow = flow.assign(after=flow["standing"], cause="customer")
    looks = dict.fromkeys(("S01", "S02"), ("#12a2e3", "o"))
    dates = {"names": {}, "styles": looks, "dates": ("2024-01-01", "2024-02-01"), "refitted": False}
    bands = [
        len(refresh_report.plot_flow(flow.assign(customers=[200, size, 200]), **dates).axes[0].collections)
        for size in (19, 20)
    ]
    assert bands[0] == bands[1] - 1


def test_segment_below_the_floor_has_no_figures(segments: pd.DataFrame) -> None:
    small = segments.assign(customers=[60, 40, 19])
    page = segment_table_html(small) + matrix_html(small)
    assert "&lt;20" in page and "10%" not in page and ">19<" not in page
    assert 'data-value="19"' not in page and "of customers" not in matrix_html(small.assign(macro_segment="M1"))
    card = html("map", "card", row=shown_rows(small)[2], cards="", currency="")
    assert "&lt;20 customers" in card and "17%" not in card


def test_forecasts_and_baselines_of_a_few_are_not_shown(segments: pd.DataFrame) -> None:
    figures = [
        f"{name}{part}"
        for name in ("active_share", "orders", "spend", "value_12m", "move_share")
        for part in ("", "_low", "_high")
    ]
    sums = pd.DataFrame({"segment": ["all", "S01", "S13"], "customers": [119, 100, 19]})
    people = pd.DataFrame(
        {"new_category": ["TEA"] * 20 + ["YACHT"] * 19, "new_category_chance": np.linspace(0.1, 0.9, 39)}
    )
    found: Any = type("Found", (), {"segments": sums.assign(**dict.fromkeys(figures, 0.5)), "customers": people})
    sized = segments.assign(customers=[100, 40, 19])
    table = forecast_report.format_segments(found, sized, words=WORDS).set_index("segment")
    assert "&lt;20" in table.loc["S13", "customers"]
    assert table.loc["S13", ["orders_each", "spend"]].tolist() == ["–", "–"]
    assert forecast_report.segments_to_plot(found, sized)["segment"].tolist() == ["S01"]
    assert forecast_report.format_categories(found, words=WORDS)["category"].tolist() == ["Tea"]
    rows = [("S01", "active rate", 60), ("S13", "active rate", 19), ("all", "response: visit after mail", 19)]
    baseline = pd.DataFrame(rows, columns=["segment", "kpi", "customers"])
    baseline = baseline.assign(value=0.5, value_low=0.4, value_high=0.6, unit="share", start="", end="")
    shown = experiments_report.format_baseline_by_segment(baseline, names={}, words=WORDS)
    assert "S13" not in str(shown.iloc[:, 0].tolist())
    assert experiments_report.describe_responses(baseline) == []


def test_months_of_a_few_customers_are_not_drawn() -> None:
    months = pd.to_datetime(["2024-01-01", "2024-02-01"])
    table = pd.DataFrame({"month": months, "event": "buy", "events": [900, 25], "customers": [300, 19]})
    assert len(profile_report.plot_timeline(table).axes[0].patches) == 1


@pytest.fixture
def bought() -> tuple[CustomerData, pd.Series]:
    """80 customers in two segments; 19 of the first buy a yacht, 30 buy tea, and all buy bread or milk."""
    from scipy import sparse

    names = ("BREAD", "MILK", "TEA", "YACHT")
    weights = np.zeros((80, 4))
    weights[:, 0], weights[40:, 1], weights[:30, 2], weights[:19, 3] = 3.0, 5.0, 9.0, 90.0
    index = pd.Index([f"c{number:02d}" for number in range(80)], name="customer_id")
    features = pd.DataFrame({"orders": 3.0 + np.arange(80) % 5, "spend": 10.0}, index=index)
    signals = CustomerData(features=features, weights=sparse.csr_array(weights), categories=names)
    return signals, pd.Series(["S01"] * 40 + ["S02"] * 40, index=index, name="segment")


def test_what_few_bought_is_named_nowhere(bought: tuple[CustomerData, pd.Series]) -> None:
    signals, segment = bought
    needs = segment_favourites(signals, segment)
    assert "TEA" in set(needs["term"]) and "YACHT" not in set(needs["term"])
    things = purchases_of_customers(signals).things
    lower = {name.lower() for name in things}
    assert "tea" in lower and "yacht" not in lower, "needs are made of them"
    axes = pd.DataFrame({"axis_1": np.arange(80.0) % 9}, index=segment.index)
    assert unmet_needs(signals, segment, axes=axes, needs=None, named_needs={}).empty, "only needs are"


def test_share_of_customers_of_a_main_need_is_hidden_where_they_are_few() -> None:
    shares = pd.DataFrame({"needs: tea": [0.9] * 5 + [0.1] * 95, "needs: rum": [0.1] * 5 + [0.9] * 95})
    of_two = dict.fromkeys(("spend", "buyers", "stability", "weight", "plane"), np.ones(2))
    figures = dict.fromkeys(("agreement", "noise_share", "coverage"), 1.0)
    needs = Needs(
        ("N01", "N02"), ("tea", "rum"), ("TEA", "RUM"), words=False, need_of=np.arange(2), **of_two, **figures
    )
    assert need_table(needs, shares)["main"].isna().all(), "one of two hidden gives the other away"
    assert need_table(needs, pd.concat([shares] * 4))["main"].notna().all()


def test_facts_that_texts_and_prompts_draw_on_count_no_few(whole_run: Path) -> None:
    facts = load_run(whole_run).table("facts")
    counted = facts[facts["unit"] == "customers"]
    assert len(counted) and (counted["value"] >= FLOOR).all()


def test_no_page_of_a_run_shows_a_few_customers(whole_run: Path) -> None:
    for path in sorted(whole_run.glob("*.html")):
        text = re.sub(r"<(script|style).*?</\1>", " ", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        text = re.sub(r"<[^>]+>", " ", text)
        found = SMALL_NUMBER.findall(text)
        assert not found, (path.name, found)


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (1, "<20"), (19, "<20"), (20, "20"), (1234, "1,234")])
def test_count_alone(value: int, text: str) -> None:
    assert masked_count(value) == text


def test_there_is_one_privacy_floor() -> None:
    own = re.compile(r"^(PRIVACY_)?FLOOR\s*=", flags=re.MULTILINE)
    named = [
        path.name for path in Path(segments_report.__file__).parents[1].rglob("*.py") if own.search(path.read_text())
    ]
    assert named == ["format.py"], "no module defines a floor of its own"
