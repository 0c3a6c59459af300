"""Sentences computed from the tables of a run."""

import numpy as np
import pandas as pd

from segkit.pages import story

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
    text = story.overview_headline(segments)
    assert "3 segments" in text and "12 customers" in text and "100\u00a0% of revenue" in text
    assert "1 is cooling" in text and "growing" not in text  # small spenders drift up by chance alone


def test_headline_without_money_or_future_stays_a_sentence(segments: pd.DataFrame) -> None:
    unknown = segments.assign(
        revenue_share=np.nan, spend_now=np.nan, spend_next=np.nan, spend_next_low=np.nan, spend_next_high=np.nan
    )
    text = story.overview_headline(unknown)
    assert "revenue" not in text and "cooling" not in text and text.endswith(".") and "nan" not in text


def test_how_sure_says_ahead_behind_and_level_as_they_are() -> None:
    told = " ".join(story.how_sure(SUMMARY))
    assert "0.51 [0.48, 0.54]" in told and "0.47 [0.39, 0.55]" in told and "14\u00a0%" in told
    assert "recency and frequency: ahead on spend, behind on what is bought" in told
    assert "KMeans on behaviour: level on spend" in told and "demographics" not in told


def test_how_sure_without_proof_gives_the_reason_and_nothing_made_up() -> None:
    told = story.how_sure({"forward.spend_r2": None, "forward.reason": "the proof needs 364 days"})
    assert any("the proof needs 364 days" in sentence for sentence in told)
    assert not any(digit in sentence for sentence in told for digit in ("0.", "None", "nan"))
    assert all(sentence.endswith(".") for sentence in story.how_sure({}))


def test_first_actions_are_those_with_most_money_and_never_unstable_ones(segments: pd.DataFrame) -> None:
    told = story.do_first(segments)
    assert len(told) == 3 and told[0].startswith("Fading: Ask why")
    steady = story.do_first(segments.assign(verdict=["reproducible", "constructed", "unstable"]))
    assert not any(text.startswith("Fading") for text in steady) and len(steady) == 2
    assert len(story.do_first(segments, most=1)) == 1


def test_first_actions_without_a_known_future_go_by_size(segments: pd.DataFrame) -> None:
    unknown = segments.assign(spend_next=np.nan, spend_next_low=np.nan, spend_next_high=np.nan)
    assert story.do_first(unknown)[0] == "Fresh & early: Offer the fresh box (6 customers)."


def test_headline_of_foresight_says_when_nothing_was_learnt() -> None:
    columns = ["outcome", "r2", "low", "high"]
    table = pd.DataFrame([("how much they spend", 0.66, 0.59, 0.73)], columns=columns)
    assert "66\u00a0% [59\u00a0%, 73\u00a0%] of how much they spend" in story.foresight_headline(table)
    assert "history is too short" in story.foresight_headline(pd.DataFrame(columns=columns))


def test_tiles_leave_out_what_is_not_known(segments: pd.DataFrame) -> None:
    kpis = pd.DataFrame({"kpi": ["active rate"], "value": [0.5]})
    tiles = story.overview_tiles(segments, kpis=kpis, summary=SUMMARY)
    assert [name for name, *_ in tiles] == ["Customers", "Revenue", "Expected next horizon", "Stability"]
    unknown = segments.assign(revenue=np.nan, spend_next=np.nan)
    assert [name for name, *_ in story.overview_tiles(unknown, kpis=kpis, summary={})] == ["Customers", "Active lately"]
