"""Each test has its limit, broken data comes first, and campaigns are decided on measured figures."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from segkit.period import Period
from segkit.refresh.decisions import (
    decide_campaigns,
    decide_run,
    decide_segments,
    decisions_table,
    empty_decisions,
    run_tests,
)
from segkit.refresh.drift import DRIFT
from segkit.tables import check

PERIOD = Period(date(2024, 6, 1), lookback_days=182, horizon_days=91)
SIZES = pd.Series({"S01": 60, "S02": 40})
NO_READOUT = pd.DataFrame(columns=["segment", "verdict", "lift", "lift_low", "lift_high"])


def _drift(**verdicts: str) -> pd.DataFrame:
    """Drift of two features, two shares and the confidence; all as chance but for those named."""
    rows = []
    kinds = {"orders": "feature", "spend": "feature", "S01": "share", "S02": "share", "all": "confidence"}
    for item, what in kinds.items():
        verdict = verdicts.get(item, "as chance")
        rows.append(
            (what, item, item, "share", 0.6, 0.5, -0.1, -0.12, -0.08, 0.1, 0.02, verdict != "as chance", verdict)
        )
    return pd.DataFrame(rows, columns=DRIFT)


def _tests(drift: pd.DataFrame, **more: object) -> pd.DataFrame:
    given = {"broken": [], "sizes": SIZES, "age_days": 31, "horizon_days": 91} | more
    return run_tests(drift, **given)


def test_without_drift_the_segments_are_unchanged() -> None:
    decision, reason = decide_run(_tests(_drift()))
    assert decision == "keep" and "0 of 2 habits" in reason


@pytest.mark.parametrize(
    ("drift", "more", "words"),
    [
        (_drift(orders="large"), {}, "1 of 2 habits changed strongly"),
        (_drift(S01="large"), {}, "grew|changed by a quarter"),
        (_drift(all="large"), {}, "50% confidence"),
        (_drift(), {"age_days": 91}, "91 days old"),
        (_drift(), {"sizes": pd.Series({"S01": 90, "S02": 19})}, "1 segment has fewer than 20 customers .S02"),
    ],
)
def test_reaching_any_limit_leads_to_a_refit(drift: pd.DataFrame, more: dict, words: str) -> None:
    decision, reason = decide_run(_tests(drift, **more))
    assert decision == "refit"
    assert pd.Series([reason]).str.contains(words).all()


def test_broken_data_comes_before_everything_else() -> None:
    assert decide_run(_tests(_drift(all="large"), broken=["No purchases."])) == ("look", "No purchases.")


def test_small_drift_is_no_reason_to_refit() -> None:
    assert decide_run(_tests(_drift(orders="moderate", spend="small", S01="small", all="small")))[0] == "keep"


def test_a_smaller_segment_is_reviewed_and_a_less_confident_one_refitted() -> None:
    drift = _drift(S02="large")
    sure = drift[drift["item"] == "all"].assign(item="S01", verdict="large")
    table = decide_segments(pd.concat([drift, sure]), sizes=SIZES)
    assert table.set_index("segment")["decision"].to_dict() == {"S01": "refit", "S02": "look"}
    assert table["reason"].str.contains("points").all()


def _accuracy(error: float = -20.0) -> pd.DataFrame:
    row = {"segment": "S01", "kpi": "spend", "unit": "money", "customers": 60, "days": 31, "part": 0.34}
    row |= {
        "predicted": 100.0,
        "observed": 100 + error,
        "observed_low": 95 + error,
        "observed_high": 105 + error,
        "gap": error,
    }
    row |= {
        "gap_low": error - 5,
        "gap_high": error + 5,
        "against_all": error / 100,
        "against_all_high": error / 100 + 0.05,
    }
    row["verdict"] = "short" if error + 5 < 0 else "as expected"
    return pd.DataFrame([row])


@pytest.fixture
def pilots() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "segment": ["S01", "S02", "all"],
            "customers": [60, 60, 120],
            "mean": [100.0, 50.0, 75.0],
            "smallest_share": [0.15, 0.2, 0.1],
            "reachable": [0.1, 0.3, 0.2],
            "weeks_needed": [np.nan, 8.0, 4.0],
        }
    )


def _campaigns(accuracy: pd.DataFrame, pilots: pd.DataFrame, **more: object) -> list[tuple[str, str]]:
    given = {"experiment": NO_READOUT, "log": empty_decisions(), "kpi": "spend", "period": PERIOD}
    table = decide_campaigns(accuracy, pilots=pilots, **(given | more))
    return list(zip(table["segment"], table["decision"], strict=True))


def test_a_segment_below_its_forecast_gets_a_pilot_that_can_show_it(pilots: pd.DataFrame) -> None:
    assert _campaigns(_accuracy(), pilots) == [("S01", "fell short"), ("S01", "start a pilot")]


def test_otherwise_the_pilot_goes_where_history_reached_most(pilots: pd.DataFrame) -> None:
    assert _campaigns(_accuracy(-10.0), pilots) == [("S01", "fell short"), ("S02", "start a pilot")]


def test_earlier_tests_choose_the_next_pilot(pilots: pd.DataFrame) -> None:
    ready = pilots.assign(weeks_needed=8.0)
    row = {"tests": 3, "effect_low": 0.02, "effect_high": 0.05}
    for verdict, chosen in (("works", "S01"), ("open", "S02"), ("does not work", "S02")):
        tested = {"S01": row | {"verdict": verdict}}
        assert _campaigns(_accuracy(5.0), ready, tested=tested) == [(chosen, "start a pilot")]
    given = {"experiment": NO_READOUT, "log": empty_decisions(), "kpi": "spend", "period": PERIOD}
    found = decide_campaigns(_accuracy(5.0), pilots=ready, tested={"S01": row | {"verdict": "works"}}, **given)
    assert "and 3 earlier tests of what suits it brought +2–5%: it has reached" in found["reason"].iloc[0]


def test_a_seasonal_shortfall_is_not_counted(pilots: pd.DataFrame) -> None:
    assert _campaigns(_accuracy().assign(against_all_high=0.01), pilots) == [("S02", "start a pilot")]


def test_a_recent_pilot_is_not_repeated(pilots: pd.DataFrame) -> None:
    log = pd.DataFrame({"as_of": ["2024-05-01", "2024-01-01"], "decision": "start a pilot", "segment": ["S02", "S01"]})
    assert _campaigns(_accuracy(-1.0), pilots, log=log) == []


def test_a_readout_can_stop_a_campaign_and_blocks_a_second_pilot(pilots: pd.DataFrame) -> None:
    read = pd.DataFrame(
        {"segment": ["S02"], "verdict": ["stop"], "lift": [-3.0], "lift_low": [-5.0], "lift_high": [-1.0]}
    )
    assert _campaigns(_accuracy(-1.0), pilots, experiment=read) == [("S02", "stop")]


def test_without_measured_figures_no_campaign_is_decided(pilots: pd.DataFrame) -> None:
    assert _campaigns(_accuracy().iloc[:0], pilots.iloc[:0]) == []


def test_decisions_of_a_run_match_the_log(pilots: pd.DataFrame) -> None:
    tests = _tests(_drift(orders="large"))
    given = {"experiment": NO_READOUT, "log": empty_decisions(), "kpi": "spend", "period": PERIOD}
    campaigns = decide_campaigns(_accuracy(), pilots=pilots, **given)
    segments = decide_segments(_drift(), sizes=SIZES)
    table = decisions_table(decide_run(tests), tests, segments, campaigns, as_of="2024-06-01", since="2024-05-01")
    check(table, name="decisions")
    assert table["scope"].tolist() == ["run", "segment", "segment", "campaign", "campaign"]
    assert table.loc[0, ["decision", "value", "limit"]].tolist() == ["refit", 0.5, 0.1]
