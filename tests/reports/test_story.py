"""Sentences computed from the tables of a run."""

import pandas as pd

from segkit.reports import profile as profile_report


def test_headline_of_predictability_states_when_nothing_was_learnt() -> None:
    columns = ["outcome", "r2", "low", "high"]
    table = pd.DataFrame([("how much they spend", 0.66, 0.59, 0.73)], columns=columns)
    assert (
        "66% (59–73%) of the differences between customers in how much they spend"
        in profile_report.predictability_headline(table)
    )
    assert "history is too short" in profile_report.predictability_headline(pd.DataFrame(columns=columns))
