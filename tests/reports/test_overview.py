"""What the overview says: of any run, whatever is known of it."""

from pathlib import Path

import numpy as np
import pandas as pd

from segkit.data.runs import open_run
from segkit.reports import overview as overview_report


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
    assert "and 0.100 [0.090, 0.110] of the differences in what customers came for" in texts
    assert (
        "On spend, these segments are ahead of 2, level with 1 and behind 0 of 3 other segmentations; "
        "level with the strongest, KMeans on behaviour."
    ) in texts, "all are counted, and only the strongest is named"
    assert "On what they come for, these segments are ahead of 1, level with 0 and behind 1 of 2" in texts
    assert "behind the strongest, shoe size." in texts and "demographics" not in texts and "comes back" not in texts


def test_whether_they_are_groups_is_one_sentence() -> None:
    for found, words in (
        (True, "The segments are groups"),
        (False, "The segments are useful cuts through a continuum"),
    ):
        summary = SUMMARY | STRUCTURE | {"structure.found": found}
        assert words in overview_report.describe_accuracy(summary)
        first = overview_report.describe_evidence(summary)[0]
        assert first.startswith(words) and "0.62" in first and "0.55" in first
    assert not [one for one in overview_report.describe_evidence(SUMMARY) if "continuum" in one]


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


def test_trust_names_the_strongest_other_segmentation_or_the_reason() -> None:
    assert overview_report.describe_accuracy(SUMMARY) == (
        "Tested on months they had not seen, the segments tell apart who will spend how much as well as the strongest "
        "of 3 other segmentations, KMeans on behaviour, and who will come for what less well than the strongest of 2 "
        "other segmentations, shoe size."
    )
    assert "the proof needs 364 days" in overview_report.describe_accuracy(
        {"forward.reason": "the proof needs 364 days"}
    )
    active = {"forward.active_r2": 0.4} | others(active={"rfm25": 0.3})
    text = overview_report.describe_accuracy(active)
    assert "who will come back better than the strongest of 1 other segmentation, recency x frequency" in text


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
