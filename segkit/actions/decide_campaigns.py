"""Decisions on campaigns, from measured figures alone: who fell short, where to try something, what to stop."""

import numpy as np
import pandas as pd

from segkit.actions.kpi import KPIS
from segkit.numbers import by_unit, count, interval, number, share
from segkit.period import Period
from segkit.small_groups import FLOOR
from segkit.vocabulary import EVERYONE

FELL_SHORT, PILOT = "fell short", "start a pilot"
READ = ("stop", "scale", "go on")  # verdicts of a read-out that ask for something
COLUMNS = ["segment", "decision", "measure", "value", "low", "high", "limit", "reason"]


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
    fell = fallen(promises, kpi=kpi)
    rows = [_fell(row) for row in fell.to_dict("records")]
    running = _running(log, period=period) | set(experiment["segment"])
    free = pilots[~pilots["segment"].isin({EVERYONE, *running}) & (pilots["customers"] >= 2 * FLOOR)]
    rows += _pilot(fell, free, reachable=reachable)
    rows += [_read(row) for row in experiment.to_dict("records") if row["verdict"] in READ]
    return pd.DataFrame(rows, columns=COLUMNS)


def fallen(promises: pd.DataFrame, *, kpi: str) -> pd.DataFrame:
    """Segments that surely came to less than was expected of them, and to less of it than all customers did: the
    largest loss first.
    """
    if promises.empty:
        return promises.assign(loss=[])
    mine = promises[(promises["kpi"] == kpi) & (promises["segment"] != EVERYONE)]
    mine = mine[(mine["verdict"] == "short") & (mine["against_all_high"] < 0)]
    return mine.assign(loss=-mine["gap"] * mine["customers"]).sort_values(["loss", "segment"], ascending=[False, True])


def _fell(row: dict) -> tuple:
    form = by_unit(row["unit"])
    part = "the horizon" if row["part"] >= 1 else f"{share(row['part'])} of the horizon ({row['days']:.0f} days)"
    observed = interval(row["observed"], row["observed_low"], row["observed_high"], form=form)
    reason = (
        f"{KPIS[row['kpi']].words.capitalize()} came to {observed} in {part}; {form(row['predicted'])} was expected. "
        f"Of all customers a larger part of what was expected came, so it is not the season alone."
    )
    figures = (row["gap"], row["gap_low"], row["gap_high"], 0.0)
    return row["segment"], FELL_SHORT, f"{row['kpi']}, came less expected", *figures, reason


def _pilot(shortfalls: pd.DataFrame, free: pd.DataFrame, *, reachable: bool) -> list[tuple]:
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


def _running(log: pd.DataFrame, *, period: Period) -> set[str]:
    """Segments in which a pilot was decided less than a horizon ago."""
    since = period.last_horizon_start.isoformat()
    return set(log.loc[(log["decision"] == PILOT) & (log["as_of"] > since), "segment"])


def _read(row: dict) -> tuple:
    form = by_unit(row.get("unit"))
    lift = interval(row["lift"], row["lift_low"], row["lift_high"], form=form)
    reason = f"Treated less held out: {lift} per customer. {str(row.get('reason') or '').strip()}".strip()
    return row["segment"], row["verdict"], "lift", row["lift"], row["lift_low"], row["lift_high"], 0.0, reason
