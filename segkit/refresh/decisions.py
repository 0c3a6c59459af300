"""Decide what to do about the segments and campaigns, with reasons."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from segkit.experiments.design import JOINED, TREATMENT
from segkit.experiments.estimate import KPIS
from segkit.experiments.pooled import OPEN, ORDER
from segkit.format import (
    FLOOR,
    between,
    capitalized,
    count,
    formatter_for,
    number,
    percent,
    percentage_points,
    signed_percent,
    spread,
)
from segkit.period import Period
from segkit.vocabulary import EVERYONE, KEEP, LOOK, PILOT, REFIT

LARGE_FEATURE_SHARE = 0.1  # of features with large drift
LARGE_MOVED_SHARE = 0.25  # of customers in segments whose size changed by a quarter or more
LARGE_CONFIDENCE_LOSS = -0.05  # change of the mean confidence
TESTS = ["measure", "value", "low", "high", "limit", "decision", "words"]
SEGMENT_DECISIONS = ["segment", "decision", "measure", "value", "low", "high", "limit", "reason"]
DECISIONS = ["as_of", "since", "scope", *SEGMENT_DECISIONS, "acted"]
NUMBERS = dict.fromkeys(("value", "low", "high", "limit"), float)


def run_tests(
    drift: pd.DataFrame, *, broken: list[str], sizes: pd.Series, age_days: int, horizon_days: int
) -> pd.DataFrame:
    """Test whether the previous segments still describe today's customers.

    `sizes`: customers by segment, assigned with the previous model. Returns one row per test: ``measure, value, low,
    high, limit, decision`` (keep, refit or look) and ``words``.
    """
    rows = [("data that looks broken", len(broken), 1, LOOK, " ".join(broken) or "The data arrives as before.")]
    features = drift[drift["what"] == "feature"]
    large = features[features["verdict"] == "large"]
    names = ", ".join(large["words"].head(3))
    words = f"{len(large)} of {len(features)} habits changed strongly" + (f" ({names})." if names else ".")
    large_share = len(large) / max(len(features), 1)
    rows.append(("share of features that drifted far", large_share, LARGE_FEATURE_SHARE, REFIT, words))
    shares = drift[(drift["what"] == "share") & (drift["verdict"] == "large")]
    moved = float(shares["before"].sum())
    words = f"Segments that grew or shrank by a quarter or more held {percent(moved)} of customers."
    rows.append(("customers in segments that grew or shrank by a quarter", moved, LARGE_MOVED_SHARE, REFIT, words))
    small = sizes[sizes < FLOOR]
    ids = f" ({', '.join(sorted(small.index))})" if len(small) else ""
    number_of_small = f"{len(small)} {'segment has' if len(small) == 1 else 'segments have'}"
    words = f"{number_of_small if len(small) else 'No segment has'} fewer than {FLOOR} customers{ids}."
    rows.append(("segments below the floor", len(small), 1, REFIT, words))
    words = f"The previous segments are {count(age_days)} days old, and are made for {count(horizon_days)}."
    rows.append(("age in days", age_days, horizon_days, REFIT, words))
    table = pd.DataFrame(rows, columns=["measure", "value", "limit", "decision", "words"])
    table["decision"] = np.where(table["value"] >= table["limit"], table["decision"], KEEP)
    tests = pd.concat([table, _confidence_test(drift)], ignore_index=True)
    return tests.reindex(columns=TESTS).astype(NUMBERS)


def _confidence_test(drift: pd.DataFrame) -> pd.DataFrame:
    """Test whether the confidence of all assignments fell beyond chance, by five percentage points or more."""
    rows = drift[(drift["what"] == "confidence") & (drift["item"] == EVERYONE)]
    return pd.DataFrame(
        {
            "measure": "change of the confidence of placing",
            "value": row["difference"],
            "low": row["difference_low"],
            "high": row["difference_high"],
            "limit": LARGE_CONFIDENCE_LOSS,
            "decision": REFIT if row["verdict"] == "large" and row["difference"] < 0 else KEEP,
            "words": f"Customers fit their segment with {percent(row['after'])} confidence on average "
            f"({percent(row['before'])} before).",
        }
        for row in rows.to_dict("records")
    )


def decide_run(tests: pd.DataFrame) -> tuple[str, str]:
    """Return the decision on a run (keep, refit or look) and the reason: the tests that failed, or all of them."""
    for decision in (LOOK, REFIT):
        failed = tests[tests["decision"] == decision]
        if len(failed):
            return decision, " ".join(failed["words"])
    return KEEP, f"All {len(tests)} tests passed. " + " ".join(tests["words"].iloc[1:])


def decide_segments(drift: pd.DataFrame, *, sizes: pd.Series) -> pd.DataFrame:
    """Decide on each segment: refit where its confidence fell far, look where its size changed far.

    `sizes`: customers by segment, assigned with the previous model. Returns ``segment, decision, measure, value, low,
    high, limit, reason``.
    """
    shares, confidences = (
        drift[drift["what"] == what].set_index("item").to_dict("index") for what in ("share", "confidence")
    )
    rows = []
    for segment in sorted({*sizes.index, *shares}):
        row, decision, measure = shares.get(segment), KEEP, "share of customers"
        confidence = confidences.get(segment)
        if confidence and confidence["verdict"] == "large" and confidence["difference"] < 0:
            row, decision, measure = confidence, REFIT, "confidence of placing"
        elif row and (row["verdict"] == "large" or sizes.get(segment, 0) < FLOOR):
            decision = LOOK
        columns = ("difference", "difference_low", "difference_high", "chance")
        figures = [row[name] if row else np.nan for name in columns]
        rows.append((segment, decision, measure, *figures, _describe_drift(row, name=measure)))
    return pd.DataFrame(rows, columns=SEGMENT_DECISIONS)


def _describe_drift(row: Mapping | None, *, name: str) -> str:
    if not row:
        return "It is new since the last run."
    change = spread(row["difference"], row["difference_low"], row["difference_high"], form=percentage_points)
    comparison = "more than" if row["beyond"] else "no more than"
    return (
        f"{name.capitalize()}: {percent(row['before'])} then, {percent(row['after'])} now. "
        f"The change of {change} points is {comparison} chance gives ({percentage_points(row['chance'])})."
    )


def decisions_table(
    run: tuple[str, str],
    tests: pd.DataFrame,
    segments: pd.DataFrame,
    campaigns: pd.DataFrame,
    *,
    as_of: str,
    since: str,
) -> pd.DataFrame:
    """Assemble the rows that a run adds to the log of decisions.

    Parameters
    ----------
    tests
        As returned by `run_tests`.
    as_of, since
        Date of this run and of the previous one.

    Returns
    -------
    DataFrame
        Rows of the table decisions: the run, then segments, then campaigns.
    """
    decision, reason = run
    first = {"segment": EVERYONE, "decision": decision, "reason": reason}
    if decision != KEEP:  # the first test that failed; where none failed, no single figure leads
        leading = tests[tests["decision"] == decision].iloc[0]
        first |= leading[["measure", "value", "low", "high", "limit"]].to_dict()
    parts = {"run": pd.DataFrame([first]), "segment": segments, "campaign": campaigns}
    table = pd.concat([part.assign(scope=scope) for scope, part in parts.items() if len(part)], ignore_index=True)
    table = table.assign(as_of=as_of, since=since, acted="").reindex(columns=DECISIONS)
    return table.assign(measure=table["measure"].fillna("")).astype(NUMBERS).round(dict.fromkeys(NUMBERS, 6))


def empty_decisions() -> pd.DataFrame:
    """Return the table decisions without rows, for a first run."""
    return pd.DataFrame([], columns=DECISIONS).astype(dict.fromkeys(DECISIONS, object) | NUMBERS)


FELL_SHORT = "fell short"
REACHABLE = "share reachable"  # measure of a pilot that aims at what a segment reached before
READOUT_VERDICTS = ("stop", "scale", "go on")  # verdicts of a read-out that call for action


def decide_campaigns(
    accuracy: pd.DataFrame,
    *,
    pilots: pd.DataFrame,
    experiment: pd.DataFrame,
    log: pd.DataFrame,
    kpi: str,
    period: Period,
    reachable: bool = True,
    tested: Mapping[str, Mapping[str, Any]] | None = None,
    currency: str = "",
) -> pd.DataFrame:
    """Decide on campaigns from measured figures.

    Parameters
    ----------
    accuracy
        Predicted and observed KPIs, as returned by `monitor.compare_with_forecast`.
    pilots
        What a pilot could show in each segment.
    period
        A segment whose pilot was decided less than a horizon ago gets no second one.
    reachable
        Whether, if no segment fell short, a pilot may aim at what a segment's history reached.
    tested
        Segment -> what earlier tests of its best opportunity's type brought (a row of the table pooled): types that
        work are tried first, those that do not work last.
    currency
        Code of the currency of amounts; "" where it is not known.

    Returns
    -------
    DataFrame
        ``segment, decision`` (fell short, start a pilot, stop, scale, go on), ``measure, value, low, high, limit,
        reason``.
    """
    shortfalls = _segments_below_forecast(accuracy, kpi=kpi)
    rows = [_shortfall_decision(row, currency=currency) for row in shortfalls.to_dict("records")]
    form = formatter_for(KPIS[kpi].unit, currency=currency) if kpi == "spend" else number
    recent = log[(log["decision"] == PILOT) & (log["as_of"] > period.last_horizon_start.isoformat())]
    running = {EVERYONE, *recent["segment"], *(one for name in experiment["segment"] for one in name.split(JOINED))}
    free = pilots[~pilots["segment"].isin(running) & (pilots["customers"] >= 2 * FLOOR)]
    rows += _pilot_decision(shortfalls, free, reachable=reachable, tested=tested or {}, form=form)
    settled = experiment[experiment["verdict"].isin(READOUT_VERDICTS)].sort_values("lift", ascending=False)
    best = settled.drop_duplicates(["segment", "verdict"]).sort_index()  # of several arms
    rows += [_readout_decision(row, currency=currency) for row in best.to_dict("records")]
    return pd.DataFrame(rows, columns=SEGMENT_DECISIONS)


def _segments_below_forecast(accuracy: pd.DataFrame, *, kpi: str) -> pd.DataFrame:
    """Select segments clearly below their forecast, also compared with all customers; largest loss first."""
    if accuracy.empty:
        return accuracy.assign(loss=[])
    rows = accuracy[(accuracy["kpi"] == kpi) & (accuracy["segment"] != EVERYONE)]
    rows = rows[(rows["verdict"] == "short") & (rows["against_all_high"] < 0)]
    return rows.assign(loss=-rows["gap"] * rows["customers"]).sort_values(["loss", "segment"], ascending=[False, True])


def _shortfall_decision(row: dict, *, currency: str) -> tuple:
    form = formatter_for(row["unit"], currency=currency)
    observed = spread(row["observed"], row["observed_low"], row["observed_high"], form=form)
    kpi = KPIS[row["kpi"]].label.partition(",")[0].capitalize()
    reason = (
        f"{kpi} was {observed} in {row['days']:.0f} days; the forecast was {form(row['predicted'])}. All customers "
        f"together did better against theirs, so it is not the season alone."
    )
    figures = (row["gap"], row["gap_low"], row["gap_high"], 0.0)
    return row["segment"], FELL_SHORT, f"{row['kpi']}, came less expected", *figures, reason


def _pilot_decision(
    shortfalls: pd.DataFrame,
    free: pd.DataFrame,
    *,
    reachable: bool,
    tested: Mapping[str, Mapping[str, Any]],
    form: Callable[[float], str],
) -> list[tuple]:
    """Choose at most one pilot: where it can show the largest shortfall, else where history reached most."""
    by_segment = free.set_index("segment").to_dict("index")
    for row in shortfalls.to_dict("records"):
        missing, pilot = -row["gap"] / row["predicted"], by_segment.get(row["segment"])
        if pilot and pilot["smallest_share"] <= missing:
            least = pilot["smallest_share"]
            reason = (
                f"It was {percent(missing)} below its forecast, {form(row['loss'])} in total. A test with its "
                f"{count(pilot['customers'])} customers can detect a change of {percent(least)}."
            )
            return [(row["segment"], PILOT, "share missing", missing, np.nan, np.nan, least, reason)]
    ready = free[free["weeks_needed"].notna()] if reachable else free.iloc[:0]
    if ready.empty:
        return []
    ready = ready.assign(potential=ready["reachable"] * ready["mean"] * ready["customers"])
    place = [ORDER[tested[name]["verdict"]] if name in tested else ORDER[OPEN] for name in ready["segment"]]
    order = ["place", "potential", "segment"]
    best = ready.assign(place=place).sort_values(order, ascending=[True, False, True]).iloc[0]
    none = "No segment fell short" if shortfalls.empty else "No test is large enough where segments fell short"
    reason = (
        f"{none}. Of the segments that can be tested alone, this one has the most to gain"
        f"{_earlier_tests(tested.get(best['segment']))}: it has reached "
        f"{percent(best['reachable'])} more before, worth {form(best['potential'])}. A test detects that in "
        f"{best['weeks_needed']:.0f} weeks."
    )
    figures = (best["reachable"], np.nan, np.nan, best["smallest_share"])
    return [(best["segment"], PILOT, REACHABLE, *figures, reason)]


def _earlier_tests(row: Mapping[str, Any] | None) -> str:
    """Describe what earlier tests of the action of a segment brought; "" without any."""
    if row is None:
        return ""
    tests = "test of what suits it" if row["tests"] == 1 else "tests of what suits it"
    effects = between(row["effect_low"], row["effect_high"], form=signed_percent)
    return f", and {row['tests']} earlier {tests} brought {effects}"


def _readout_decision(row: dict, *, currency: str) -> tuple:
    form = formatter_for(row.get("unit"), currency=currency)
    lift = spread(row["lift"], row["lift_low"], row["lift_high"], form=form)
    why = capitalized(str(row.get("reason") or "").strip())
    arm = "" if row.get("arm", TREATMENT) == TREATMENT else f"{row['arm']}: "
    reason = (
        f"{arm}Treated minus holdout: {lift} per customer. {why}{'.' if why and not why.endswith('.') else ''}".strip()
    )
    return row["segment"], row["verdict"], "lift", row["lift"], row["lift_low"], row["lift_high"], 0.0, reason
