"""Decide what to do about the segments and campaigns, with reasons."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from segkit.experiments.estimate import KPIS
from segkit.format import FLOOR, count, formatter_for, interval, number, percentage_points, share
from segkit.period import Period
from segkit.vocabulary import EVERYONE

KEEP, REFIT, LOOK = "keep", "refit", "look"
LARGE_FEATURE_SHARE = 0.1  # share of features that drifted far, from which the definition no longer describes customers
LARGE_MOVED_SHARE = 0.25  # share of customers in segments whose size changed by a quarter or more
TESTS = ["measure", "value", "low", "high", "limit", "decision", "words"]
DECISIONS = [
    "as_of",
    "since",
    "scope",
    "segment",
    "decision",
    "measure",
    "value",
    "low",
    "high",
    "limit",
    "reason",
    "acted",
]


def run_tests(
    drift: pd.DataFrame, *, broken: list[str], sizes: pd.Series, age_days: int, horizon_days: int
) -> pd.DataFrame:
    """Every test of the run with its figure and its limit.

    Takes  drift: the table; broken: sentences of what looks wrong with the data; sizes: customers by standing segment
    Gives  measure, value, low, high, limit, decision (keep, refit or look), words

    Parameters
    ----------
    age_days : since the standing segments were learnt; horizon_days : after which what they foresaw is over
    """
    rows = [("data that looks broken", len(broken), 1, LOOK, " ".join(broken) or "The data arrives as it did.")]
    features = drift[drift["what"] == "feature"]
    far = features[features["verdict"] == "large"]
    names = ", ".join(far["words"].head(3))
    part = len(far) / max(len(features), 1)
    words = f"{len(far)} of {len(features)} features drifted far" + (f" ({names})." if names else ".")
    rows.append(("share of features that drifted far", part, LARGE_FEATURE_SHARE, REFIT, words))
    shares = drift[(drift["what"] == "share") & (drift["verdict"] == "large")]
    previous_customers = float(shares["before"].sum())
    words = f"Segments whose share changed by a quarter or more held {share(previous_customers)} of customers."
    rows.append(
        ("customers in segments that grew or shrank by a quarter", previous_customers, LARGE_MOVED_SHARE, REFIT, words)
    )
    small = sizes[sizes < FLOOR]
    listed = f" ({', '.join(sorted(small.index))})" if len(small) else ""
    words = f"{len(small)} segments hold fewer than {FLOOR} customers{listed}."
    rows.append(("segments below the floor", len(small), 1, REFIT, words))
    words = f"The segments were learnt {count(age_days)} days ago; they foresaw {count(horizon_days)} days."
    rows.append(("age in days", age_days, horizon_days, REFIT, words))
    table = pd.DataFrame(rows, columns=["measure", "value", "limit", "decision", "words"])
    table["decision"] = np.where(table["value"] >= table["limit"], table["decision"], KEEP)
    tests = pd.concat([table, _confidence_test(drift)], ignore_index=True)
    return tests.reindex(columns=TESTS).astype({name: float for name in TESTS[1:5]})


def _confidence_test(drift: pd.DataFrame) -> pd.DataFrame:
    """Whether everyone is placed less surely than at the last run, by more than chance and by five points or more."""
    rows = drift[(drift["what"] == "confidence") & (drift["item"] == EVERYONE)]
    return pd.DataFrame(
        {
            "measure": "change of the confidence of placing",
            "value": row["difference"],
            "low": row["difference_low"],
            "high": row["difference_high"],
            "limit": -0.05,
            "decision": REFIT if row["verdict"] == "large" and row["difference"] < 0 else KEEP,
            "words": f"Customers are placed with a confidence of {share(row['after'])}; it was {share(row['before'])}.",
        }
        for row in rows.to_dict("records")
    )


def decide_run(tests: pd.DataFrame) -> tuple[str, str]:
    """Keep, refit or look, and why in words: the tests that say so, or all that were passed.

    Takes  tests of `run_tests`
    """
    for decision in (LOOK, REFIT):
        asking = tests[tests["decision"] == decision]
        if len(asking):
            return decision, " ".join(asking["words"])
    return KEEP, f"None of {len(tests)} tests asks for more. " + " ".join(tests["words"].iloc[1:])


def decide_segments(drift: pd.DataFrame, *, sizes: pd.Series) -> pd.DataFrame:
    """A decision for each standing segment: refit where it is placed far less surely, look where its size changed.

    Takes  drift: the table; sizes: customers by standing segment
    Gives  segment, decision, measure, value, low, high, limit, reason
    """
    by = {what: drift[drift["what"] == what].set_index("item").to_dict("index") for what in ("share", "confidence")}
    rows = []
    for segment in sorted({*sizes.index, *by["share"]}):
        sure, part = by["confidence"].get(segment), by["share"].get(segment)
        if sure and sure["verdict"] == "large" and sure["difference"] < 0:
            decision, drift_row, name = REFIT, sure, "confidence of placing"
        elif part and (part["verdict"] == "large" or sizes.get(segment, 0) < FLOOR):
            decision, drift_row, name = LOOK, part, "share of customers"
        else:
            decision, drift_row, name = KEEP, part, "share of customers"
        rows.append((segment, decision, name, *_drift_figures(drift_row), _describe_drift(drift_row, name=name)))
    return pd.DataFrame(rows, columns=["segment", "decision", "measure", "value", "low", "high", "limit", "reason"])


def _drift_figures(drift_row: Mapping | None) -> tuple[float, float, float, float]:
    names = ("difference", "difference_low", "difference_high", "chance")
    return tuple(drift_row[name] for name in names) if drift_row else (np.nan,) * 4


def _describe_drift(drift_row: Mapping | None, *, name: str) -> str:
    if not drift_row:
        return "It was not there at the last run."
    change = interval(
        drift_row["difference"], drift_row["difference_low"], drift_row["difference_high"], form=percentage_points
    )
    comparison = "more than" if drift_row["beyond"] else "no more than"
    return (
        f"{name.capitalize()} {share(drift_row['before'])} then, {share(drift_row['after'])} now: {change} points, {comparison} the "
        f"{percentage_points(drift_row['chance'])} that chance gives."
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
    """The rows that one run adds to the log.

    Takes  run: decision and reason; tests of it; segments, campaigns: decisions with their figures
    Gives  the table decisions: the run first, then segments, then campaigns
    """
    leading = tests[tests["decision"] == run[0]].iloc[0]
    first = {"segment": EVERYONE, "decision": run[0], "reason": run[1]}
    if run[0] != KEEP:  # one figure leads; of a run that is kept all of them do
        first |= leading[["measure", "value", "low", "high", "limit"]].to_dict()
    parts = {"run": pd.DataFrame([first]), "segment": segments, "campaign": campaigns}
    table = pd.concat([part.assign(scope=scope) for scope, part in parts.items() if len(part)], ignore_index=True)
    table = table.assign(as_of=as_of, since=since, acted="").reindex(columns=DECISIONS)
    numbers = {name: float for name in ("value", "low", "high", "limit")}
    return table.assign(measure=table["measure"].fillna("")).astype(numbers).round(dict.fromkeys(numbers, 6))


def empty_decisions() -> pd.DataFrame:
    """The table decisions of a first run."""
    texts = {name: object for name in DECISIONS}
    return pd.DataFrame([], columns=DECISIONS).astype(
        texts | {name: float for name in ("value", "low", "high", "limit")}
    )


FELL_SHORT, PILOT = "fell short", "start a pilot"
READOUT_VERDICTS = ("stop", "scale", "go on")  # verdicts of a read-out that ask for something
CAMPAIGN_DECISION_COLUMNS = ["segment", "decision", "measure", "value", "low", "high", "limit", "reason"]


def decide_campaigns(
    promises: pd.DataFrame,
    *,
    pilots: pd.DataFrame,
    experiment: pd.DataFrame,
    log: pd.DataFrame,
    kpi: str,
    period: Period,
    reachable: bool = True,
) -> pd.DataFrame:
    """What the figures say of campaigns.

    Takes  promises: what was expected and came; pilots: what each segment's pilot could show; experiment: read-outs;
           log: decisions of earlier runs
    Gives  segment, decision (fell short, start a pilot, stop, scale, go on), measure, value, low, high, limit, reason

    Parameters
    ----------
    kpi : what a pilot would move
    period : a segment in which a pilot was decided less than a horizon ago gets no second one
    reachable : whether a pilot may be decided on what a segment's history reached, where none fell short
    """
    fell = segments_below_forecast(promises, kpi=kpi)
    rows = [_shortfall_decision(row) for row in fell.to_dict("records")]
    running = _segments_in_pilot(log, period=period) | set(experiment["segment"])
    free = pilots[~pilots["segment"].isin({EVERYONE, *running}) & (pilots["customers"] >= 2 * FLOOR)]
    rows += _pilot_decision(fell, free, reachable=reachable)
    rows += [_readout_decision(row) for row in experiment.to_dict("records") if row["verdict"] in READOUT_VERDICTS]
    return pd.DataFrame(rows, columns=CAMPAIGN_DECISION_COLUMNS)


def segments_below_forecast(promises: pd.DataFrame, *, kpi: str) -> pd.DataFrame:
    """Segments that surely came to less than was expected of them, and to less of it than all customers did: the
    largest loss first.
    """
    if promises.empty:
        return promises.assign(loss=[])
    mine = promises[(promises["kpi"] == kpi) & (promises["segment"] != EVERYONE)]
    mine = mine[(mine["verdict"] == "short") & (mine["against_all_high"] < 0)]
    return mine.assign(loss=-mine["gap"] * mine["customers"]).sort_values(["loss", "segment"], ascending=[False, True])


def _shortfall_decision(row: dict) -> tuple:
    form = formatter_for(row["unit"])
    part = "the horizon" if row["part"] >= 1 else f"{share(row['part'])} of the horizon ({row['days']:.0f} days)"
    observed = interval(row["observed"], row["observed_low"], row["observed_high"], form=form)
    reason = (
        f"{KPIS[row['kpi']].words.capitalize()} came to {observed} in {part}; {form(row['predicted'])} was expected. "
        f"Of all customers a larger part of what was expected came, so it is not the season alone."
    )
    figures = (row["gap"], row["gap_low"], row["gap_high"], 0.0)
    return row["segment"], FELL_SHORT, f"{row['kpi']}, came less expected", *figures, reason


def _pilot_decision(shortfalls: pd.DataFrame, free: pd.DataFrame, *, reachable: bool) -> list[tuple]:
    """At most one pilot: where most is missing and a pilot could show as much, else where history reached most."""
    able = free.set_index("segment")
    for row in shortfalls.to_dict("records"):
        missing = -row["gap"] / row["predicted"]
        if row["segment"] in able.index and able.loc[row["segment"], "smallest_share"] <= missing:
            least = able.loc[row["segment"], "smallest_share"]
            reason = (
                f"{share(missing)} of what was expected did not come, {number(row['loss'])} in all; a pilot of its "
                f"{count(able.loc[row['segment'], 'customers'])} customers can show a change of {share(least)}."
            )
            return [(row["segment"], PILOT, "share missing", missing, np.nan, np.nan, least, reason)]
    ready = free[free["weeks_needed"].notna()] if reachable else free.iloc[:0]
    if ready.empty:
        return []
    ready = ready.assign(worth=ready["reachable"] * ready["mean"] * ready["customers"])
    best = ready.sort_values(["worth", "segment"], ascending=[False, True]).iloc[0]
    none = "No segment fell short" if shortfalls.empty else "No pilot could show what is missing where it is missing"
    reason = (
        f"{none}. Its own history reached {share(best['reachable'])} more by itself, the most in all "
        f"({number(best['worth'])}); a pilot can show that in {best['weeks_needed']:.0f} weeks."
    )
    figures = (best["reachable"], np.nan, np.nan, best["smallest_share"])
    return [(best["segment"], PILOT, "share reachable", *figures, reason)]


def _segments_in_pilot(log: pd.DataFrame, *, period: Period) -> set[str]:
    """Segments in which a pilot was decided less than a horizon ago."""
    since = period.last_horizon_start.isoformat()
    return set(log.loc[(log["decision"] == PILOT) & (log["as_of"] > since), "segment"])


def _readout_decision(row: dict) -> tuple:
    form = formatter_for(row.get("unit"))
    lift = interval(row["lift"], row["lift_low"], row["lift_high"], form=form)
    reason = f"Treated less held out: {lift} per customer. {str(row.get('reason') or '').strip()}".strip()
    return row["segment"], row["verdict"], "lift", row["lift"], row["lift_low"], row["lift_high"], 0.0, reason
