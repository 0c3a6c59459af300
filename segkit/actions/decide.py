"""Decide: keep the standing segments, refit them, or look at the data first; each with its reasons and numbers.

The rules are few and written out, so that whoever disagrees can say with which. A customer who moves is no reason to
refit: that is what segments are for. A definition that fits no more is one. Data that looks broken decides nothing.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from segkit.numbers import count, interval, points, share
from segkit.small_groups import FLOOR
from segkit.vocabulary import EVERYONE

KEEP, REFIT, LOOK = "keep", "refit", "look"
FEATURES_LARGE = 0.1  # share of features that drifted far, from which the definition no longer describes customers
MOVED_LARGE = 0.25  # share of customers in segments whose size changed by a quarter or more
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
    rows.append(("share of features that drifted far", part, FEATURES_LARGE, REFIT, words))
    shares = drift[(drift["what"] == "share") & (drift["verdict"] == "large")]
    previous_customers = float(shares["before"].sum())
    words = f"Segments whose share changed by a quarter or more held {share(previous_customers)} of customers."
    rows.append(
        ("customers in segments that grew or shrank by a quarter", previous_customers, MOVED_LARGE, REFIT, words)
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
        rows.append((segment, decision, name, *_figures(drift_row), _told(drift_row, name=name)))
    return pd.DataFrame(rows, columns=["segment", "decision", "measure", "value", "low", "high", "limit", "reason"])


def _figures(drift_row: Mapping | None) -> tuple[float, float, float, float]:
    names = ("difference", "difference_low", "difference_high", "chance")
    return tuple(drift_row[name] for name in names) if drift_row else (np.nan,) * 4


def _told(drift_row: Mapping | None, *, name: str) -> str:
    if not drift_row:
        return "It was not there at the last run."
    change = interval(drift_row["difference"], drift_row["difference_low"], drift_row["difference_high"], form=points)
    comparison = "more than" if drift_row["beyond"] else "no more than"
    return (
        f"{name.capitalize()} {share(drift_row['before'])} then, {share(drift_row['after'])} now: {change} points, {comparison} the "
        f"{points(drift_row['chance'])} that chance gives."
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
