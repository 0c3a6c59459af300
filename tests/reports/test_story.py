"""Sentences computed from the tables of a run."""

import pandas as pd

from segkit.reports import segments as segments_report


def test_headline_of_predictability_states_when_nothing_was_learnt() -> None:
    columns = ["outcome", "r2", "low", "high"]
    table = pd.DataFrame([("how much they spend", 0.66, 0.59, 0.73)], columns=columns)
    assert "66% [59%, 73%] of the differences in how much they spend" in segments_report.predictability_headline(table)
    assert "History is too short" in segments_report.predictability_headline(pd.DataFrame(columns=columns))
