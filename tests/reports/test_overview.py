"""What the overview says: of any run, whatever is known of it."""

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from segkit.data.runs import open_run
from segkit.period import Period
from segkit.reports import overview as overview_report

PERIOD = Period(date(2018, 1, 1), lookback_days=182, horizon_days=91)


def measured(name: str, *, value: float, half: float) -> dict[str, float]:
    """A figure with its interval, as a summary holds it."""
    return {name: value, f"{name}.low": value - half, f"{name}.high": value + half}


def others(**r2: dict[str, float]) -> dict[str, float]:
    """What other segmentations explain of each measure, and what ours is ahead by, plus or minus a hundredth."""
    found: dict[str, float] = {}
    for measure, scores in r2.items():
        for name, value in scores.items():
            found[f"forward.{name}.{measure}_r2"] = value
            found |= measured(f"forward.{name}.{measure}_lead", value=OURS[measure] - value, half=0.01)
    return found


OURS = {"spend": 0.51, "active": 0.4, "need": 0.1}
SUMMARY = (
    measured("forward.spend_r2", value=0.51, half=0.03)
    | measured("forward.active_r2", value=0.4, half=0.03)
    | measured("forward.need_r2", value=0.1, half=0.01)
    | measured("stability.ari_mean", value=0.47, half=0.08)
    | others(spend={"rfm25": 0.4, "kmeans": 0.505, "demographic": 0.0, "last_run": 0.9}, active={"rfm25": 0.3})
    | others(need={"rfm25": 0.01, "shoe_size": 0.2})
    | {"segments.noise_share": 0.14, "segments.hdbscan_ari": 0.84}
)
STRUCTURE = {"structure.ari": 0.62, "structure.reference_ari": 0.55}


def test_headline_counts_segments_customers_and_moves(segments: pd.DataFrame) -> None:
    levels = segments.assign(macro_segment=["M1", "M1", "M2"], level=["Top", "Top", "Light"], spend_change=1.0)
    assert overview_report.overview_headline(levels) == (
        "120 customers in 3 segments. The 83% who are expected to spend most brought in 90% of revenue. "
        "Spending is clearly falling in 1 of the segments."
    )


def test_headline_without_money_or_future_stays_a_sentence(segments: pd.DataFrame) -> None:
    unknown = segments.assign(
        revenue_share=np.nan, spend_now=np.nan, spend_next=np.nan, spend_next_low=np.nan, spend_next_high=np.nan
    )
    text = overview_report.overview_headline(unknown)
    assert text == "120 customers in 3 segments."


def test_how_sure_states_ahead_behind_and_level_as_they_are() -> None:
    texts = " ".join(overview_report.describe_evidence(SUMMARY))
    assert "0.51 (0.48–0.54)" in texts and "0.47 (0.39–0.55)" in texts and "14%" in texts
    assert "0.100 (0.090–0.110) for what customers came for." in texts
    assert "Compared with RFM" not in texts and "Compared with K-means on behaviour: as good on spending." in texts
    assert "Compared with recency and frequency (5 × 5): better on spending, better on needs." in texts
    assert "Compared with shoe size: less good on needs." in texts, "all are listed, those ahead of ours too"


def test_whether_they_are_groups_is_on_the_tile_and_first_of_the_evidence(segments: pd.DataFrame) -> None:
    kpis = pd.DataFrame({"kpi": [], "value": []})
    for found, word, start in (
        (True, "Groups, in part", "are groups"),
        (False, "Cuts", "are useful cuts"),
    ):
        summary = SUMMARY | STRUCTURE | {"structure.found": found}
        label, value, _ = overview_report.overview_tiles(segments, kpis=kpis, summary=summary, period=PERIOD)[-1]
        assert (label, value) == ("Groups or cuts?", word)
        first = overview_report.describe_evidence(summary)[0]
        assert first.startswith(f"The segments {start}") and "0.62" in first and "0.55" in first
    assert not [one for one in overview_report.describe_evidence(SUMMARY) if "gradual" in one]


def test_how_sure_without_proof_gives_the_reason_and_nothing_made_up() -> None:
    texts = overview_report.describe_evidence({"forward.spend_r2": None, "forward.reason": "the proof needs 364 days"})
    assert any("the proof needs 364 days" in sentence for sentence in texts)
    assert not any(digit in sentence for sentence in texts for digit in ("0.", "None", "nan"))
    assert all(sentence.endswith(".") for sentence in overview_report.describe_evidence({}))


def test_the_overview_shows_no_two_opportunities_of_a_kind_and_ideas_where_none_is_large_enough() -> None:
    rows = [("cross_need", "N01"), ("cross_need", "N01"), ("win_back", None), ("none", None), ("protect", None)]
    actions = pd.DataFrame(rows, columns=["type", "need"]).assign(prize=[9.0, 8.0, 7.0, None, 6.0], command=None)
    shown = overview_report.best_actions(actions)
    assert shown["type"].tolist() == ["cross_need", "win_back", "protect"]
    options = {"summary": {"actions.least": 5912.0}, "period": PERIOD, "currency": "USD"}
    assert overview_report.describe_no_opportunity(shown, **options) is None
    ideas = actions.assign(prize=None, customers=[10, 20, 30, 99, 5], command=[None, None, None, "segkit pilot", None])
    shown = overview_report.best_actions(ideas)
    assert shown["type"].tolist() == ["cross_need", "win_back", "none"], "as on Personas, but one can be tested"
    words = overview_report.describe_no_opportunity(shown, **options)
    assert (
        "at least $5,900 in a quarter (0.5% of the $1.18M that these customers brought in during" in words
        and "these ideas" in words
    )


def test_trust_names_the_strongest_other_segmentation_or_the_reason() -> None:
    assert overview_report.describe_accuracy(SUMMARY, period=PERIOD) == (
        "We made segments the same way from earlier data, and tested them on October to December 2017, which they had "
        "not seen. For spending, they predict as well as the best of 3 other ways to segment (K-means on behaviour). "
        "For what customers come for, they predict less well than the best of 2 other ways to segment (shoe size)."
    )
    forecast = {"forecast.spend": 100.0, "forecast.spend.low": 20.0, "forecast.spend.high": 180.0}
    for origins, warned in ((1, True), (0, False)):  # without a back-test nothing was missed
        text = overview_report.describe_accuracy(SUMMARY | forecast | {"forecast.origins": origins}, period=PERIOD)
        assert ("as a direction, not as a budget" in text) is warned
    reason = {"forward.reason": "the proof needs 364 days"}
    assert "the proof needs 364 days" in overview_report.describe_accuracy(reason, period=PERIOD)
    active = {"forward.active_r2": 0.4} | others(active={"rfm25": 0.3})
    text = overview_report.describe_accuracy(active, period=PERIOD)
    assert (
        "For who comes back, they predict better than the other way to segment (recency and frequency (5 × 5))" in text
    )


def test_changes_name_what_became_of_segments_and_customers(segments: pd.DataFrame) -> None:
    rows = [("2024-01-01", "S01", "born"), ("2024-02-01", "S01", "same"), ("2024-02-01", "S13", "born")]
    rows += [("2024-02-01", "S09", "died"), ("2024-02-01", "S02", "same")]
    ledger = pd.DataFrame(rows, columns=["as_of", "segment", "event"])
    causes = ["stayed"] * 40 + ["customer"] * 20 + ["definition"] * 20 + ["joined"] * 30
    texts = overview_report.describe_changes(
        segments, ledger=ledger, moves=pd.DataFrame({"cause": causes}), as_of="2024-02-01"
    )
    assert texts[:3] == ["2 segments carry on from 2024-01-01.", "Fading (S13) is new.", "S09 is gone."]
    assert "Of 80 customers in both runs, 50% stayed" in texts[3]
    assert texts[4] == "30 customers joined, 0 are no longer active."
    first = overview_report.describe_changes(
        segments, ledger=ledger[:1], moves=pd.DataFrame({"cause": []}), as_of="2024-01-01"
    )
    assert first == ["This is the first run of this source: the next one will say what changed."]


def test_forecasts_are_taken_where_a_run_holds_them(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", step="05_predict")
    assert overview_report.optional_table(run, "forecast") is None and overview_report.expected_spend(run) is None
    forecast = pd.DataFrame({"customer_id": ["a", "b"], "spend_mean": [1.0, 2.0]})
    path = run.path / "tables" / "predictions.parquet"
    path.parent.mkdir(exist_ok=True)
    forecast.to_parquet(path)
    assert overview_report.expected_spend(run).to_dict() == {"a": 1.0, "b": 2.0}


def test_where_to_read_names_the_pages_that_are_there() -> None:
    assert [page for page, *_ in overview_report.list_pages(["03_segments", "01_profile", "03_segments"])] == [
        "01_profile.html",
        "03_segments.html",
    ]


def test_tiles_leave_out_what_is_not_known(segments: pd.DataFrame) -> None:
    kpis, known = pd.DataFrame({"kpi": ["active rate"], "value": [0.5]}), {"period": PERIOD, "currency": "GBP"}
    tiles = overview_report.overview_tiles(segments, kpis=kpis, summary=SUMMARY, silent=30, **known)
    names = ["Customers", "Revenue", "Expected, January to March 2018", "Segments that reappear"]
    assert [name for name, *_ in tiles] == names
    assert tiles[0][2] == "with a segment; 30 more have been silent since July 2017" and tiles[1][1] == "£2,000"
    unknown = segments.assign(revenue=np.nan, spend_next=np.nan)
    shown = overview_report.overview_tiles(unknown, kpis=kpis, summary={}, **known)
    assert [name for name, *_ in shown][:2] == ["Customers", "Active, October to December 2017"]
    untested = unknown.assign(verdict="not tested")
    assert len(overview_report.overview_tiles(untested, kpis=kpis, summary={}, **known)) == 2
