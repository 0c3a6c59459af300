"""What the overview says: of any run, whatever is known of it."""

from pathlib import Path

import numpy as np
import pandas as pd

from segkit.data.runs import open_run
from segkit.reports import overview as overview_report

SUMMARY = {
    "forward.spend_r2": 0.51,
    "forward.spend_r2.low": 0.48,
    "forward.spend_r2.high": 0.54,
    "forward.mix_r2": 0.06,
    "forward.mix_r2.low": 0.05,
    "forward.mix_r2.high": 0.07,
    "forward.rfm25.spend_lead.low": 0.01,
    "forward.rfm25.spend_lead.high": 0.05,
    "forward.rfm25.mix_lead.low": -0.04,
    "forward.rfm25.mix_lead.high": -0.01,
    "forward.kmeans.spend_lead.low": -0.01,
    "forward.kmeans.spend_lead.high": 0.01,
    "stability.ari_mean": 0.47,
    "stability.ari_mean.low": 0.39,
    "stability.ari_mean.high": 0.55,
    "segments.noise_share": 0.14,
    "segments.hdbscan_ari": 0.84,
}


def test_headline_counts_segments_customers_and_moves(segments: pd.DataFrame) -> None:
    text = overview_report.overview_headline(segments)
    assert "3 segments" in text and "120 customers" in text and "100\u00a0% of revenue" in text
    assert "1 is cooling" in text and "growing" not in text  # small spenders drift up by chance alone


def test_headline_without_money_or_future_stays_a_sentence(segments: pd.DataFrame) -> None:
    unknown = segments.assign(
        revenue_share=np.nan, spend_now=np.nan, spend_next=np.nan, spend_next_low=np.nan, spend_next_high=np.nan
    )
    text = overview_report.overview_headline(unknown)
    assert "revenue" not in text and "cooling" not in text and text.endswith(".") and "nan" not in text


def test_how_sure_states_ahead_behind_and_level_as_they_are() -> None:
    texts = " ".join(overview_report.describe_evidence(SUMMARY))
    assert "0.51 [0.48, 0.54]" in texts and "0.47 [0.39, 0.55]" in texts and "14\u00a0%" in texts
    assert "recency and frequency: ahead on spend, behind on what is bought" in texts
    assert "KMeans on behaviour: level on spend" in texts and "demographics" not in texts


def test_how_sure_without_proof_gives_the_reason_and_nothing_made_up() -> None:
    texts = overview_report.describe_evidence({"forward.spend_r2": None, "forward.reason": "the proof needs 364 days"})
    assert any("the proof needs 364 days" in sentence for sentence in texts)
    assert not any(digit in sentence for sentence in texts for digit in ("0.", "None", "nan"))
    assert all(sentence.endswith(".") for sentence in overview_report.describe_evidence({}))


def test_first_comes_what_clearly_cools_and_never_an_unstable_segment(segments: pd.DataFrame) -> None:
    texts = overview_report.choose_first_actions(segments, horizon_days=91)
    assert [one.row["segment"] for one in texts] == ["S13", "S02", "S01"]
    assert (texts[0].why, texts[0].action) == ("Cooling", "Ask why.")
    assert (
        "60\u00a0% less than lately: 40 each in 91 days (30 to 50) instead of 100; 1,200 less in all" in texts[0].size
    )
    assert texts[2].why == "Steady" and "about as lately: 6,000 in all" in texts[2].size
    steady = overview_report.choose_first_actions(segments.assign(verdict=["reproducible", "constructed", "unstable"]))
    assert [one.row["segment"] for one in steady] == ["S02", "S01"]
    assert len(overview_report.choose_first_actions(segments, most=1)) == 1


def test_each_kind_of_action_comes_before_one_comes_twice(segments: pd.DataFrame) -> None:
    alike = segments.assign(action=["Grow them: offer soup", "Keep them: thank them", "Keep them: ask why"])
    assert [one.row["segment"] for one in overview_report.choose_first_actions(alike)] == ["S13", "S01", "S02"]


def test_first_actions_without_a_known_future_go_by_size(segments: pd.DataFrame) -> None:
    unknown = segments.assign(
        revenue_share=np.nan, spend_now=np.nan, spend_next=np.nan, spend_next_low=np.nan, spend_next_high=np.nan
    )
    texts = overview_report.choose_first_actions(unknown)
    assert (texts[0].why, texts[0].size, texts[0].action) == ("Large", "60 customers.", "Offer the fresh box.")


def test_trust_is_one_sentence_or_the_reason() -> None:
    texts = overview_report.describe_accuracy(SUMMARY)
    assert texts.endswith("better than recency and frequency, as well as KMeans on behaviour.")
    assert "the proof needs 364 days" in overview_report.describe_accuracy(
        {"forward.reason": "the proof needs 364 days"}
    )
    active = {"forward.kmeans.active_lead.low": -0.2, "forward.kmeans.active_lead.high": -0.1}
    assert "who will come back less well than KMeans" in overview_report.describe_accuracy(active)


def test_changes_name_what_became_of_segments_and_customers(segments: pd.DataFrame) -> None:
    rows = [("2024-01-01", "S01", "born"), ("2024-02-01", "S01", "same"), ("2024-02-01", "S13", "born")]
    rows += [("2024-02-01", "S09", "died"), ("2024-02-01", "S02", "same")]
    ledger = pd.DataFrame(rows, columns=["as_of", "segment", "event"])
    causes = ["stayed"] * 40 + ["customer"] * 20 + ["definition"] * 20 + ["joined"]
    texts = overview_report.describe_changes(
        segments, ledger=ledger, moves=pd.DataFrame({"cause": causes}), as_of="2024-02-01"
    )
    assert texts[:3] == ["2 segments carry on from 2024-01-01.", "Fading (S13) is new.", "S09 is gone."]
    assert "Of 80 customers in both runs, 50\u00a0% stayed" in texts[3] and texts[4].startswith("<20 customers joined")
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
    kpis = pd.DataFrame({"kpi": ["active rate"], "value": [0.5]})
    tiles = overview_report.overview_tiles(segments, kpis=kpis, summary=SUMMARY)
    assert [name for name, *_ in tiles] == ["Customers", "Revenue", "Expected next horizon", "How far to trust them"]
    unknown = segments.assign(revenue=np.nan, spend_next=np.nan)
    assert [name for name, *_ in overview_report.overview_tiles(unknown, kpis=kpis, summary={})][:2] == [
        "Customers",
        "Active recently",
    ]
    untested = unknown.assign(verdict="not tested")
    assert len(overview_report.overview_tiles(untested, kpis=kpis, summary={})) == 2
