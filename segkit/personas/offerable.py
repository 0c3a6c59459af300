"""Decide what may be offered, which is what is allowed and in season, and when and where customers are reached."""

from collections.abc import Mapping, Sequence
from datetime import timedelta

import ibis
import numpy as np
import pandas as pd

from segkit.customers.days import Days
from segkit.customers.needs import Needs, category_shares
from segkit.period import Period
from segkit.personas.lexicon import Lexicon, read_lexicon
from segkit.personas.need_names import flag_things
from segkit.stats import Z95
from segkit.vocabulary import WEEKDAYS

YEAR_WEEKS, FEWEST_WEEKS = 52, 8  # of history: enough to know all seasons, and any
SEASON_WEEKS, SEASON_SALES = 1 / 3, 0.8  # of the weeks of history that hold this share of sales: sold in a season
IN_SEASON = 0.5  # times the sales that a time of the year would have by its length, from which on it is in season
NEVER_OFFERED = 0.5  # of the spend on a need on things never offered, from which on the need is never offered
NO_OFFERS = frozenset(  # keys of the lexicon that name a remainder, or what nobody wants more of
    "account_and_plan admin_and_setup buying_online delivery_and_fees department_home everyday_staples everyday_use "
    "general_merchandise help_and_problems".split()
)
CLEAR_LIFT, CLEAR_MORE = 1.25, 0.05  # times the share of other customers, and so much above it: a moment or a channel
DAY_PARTS = ("morning", "afternoon", "evening", "night")
MOMENTS = ("weekend_share", *(f"{day}_share" for day in WEEKDAYS), *(f"{part}_share" for part in DAY_PARTS))


def offerable_needs(
    needs: Needs, table: pd.DataFrame, things: pd.DataFrame, *, days: Days, period: Period, labels: Mapping[str, str]
) -> pd.DataFrame:
    """List the needs that may be offered, and those that may not with the reason.

    Parameters
    ----------
    needs
        Of the run.
    table
        The table ``needs``: need, name, named_by, sensitive.
    things
        The table ``need_things``; with the column ``never_offer`` that decides, else the lexicon does.
    days
        All history, for the seasons.
    labels
        Thing -> label of the source.

    Returns
    -------
    DataFrame
        By need: name, by_things (whether things name it), and reason (never offered, sensitive, a remainder, out of
        season; "" where it may be offered).
    """
    found = table.set_index("need").reindex(list(needs.ids))
    banned = never_offered_share(things, labels=labels).reindex(found.index).fillna(0.0)
    weekly = weekly_needs(needs, days=days, period=period)
    late = pd.Series(out_of_season(weekly, horizon_days=period.horizon_days), index=found.index)
    remainder = found["name"].isin(_remainders(read_lexicon(None)))
    reasons = {
        "never offered": banned >= NEVER_OFFERED,
        "sensitive": found["sensitive"].fillna(False).astype(bool),
        "a remainder": remainder,
        "out of season": late,
    }
    reason = pd.Series("", index=found.index)
    for text, holds in reasons.items():
        reason[holds & (reason == "")] = text
    return pd.DataFrame({"name": found["name"], "by_things": found["named_by"] == "things", "reason": reason})


def never_offered_share(things: pd.DataFrame, *, labels: Mapping[str, str]) -> pd.Series:
    """Return the share of each need's spend on things that are never offered."""
    if "never_offer" in things:
        flagged = things["never_offer"].astype(bool)
    else:
        flagged = flag_things(list(things["thing"]), labels=labels)["never_offer"].set_axis(things.index)
    return (things["weight"] * flagged).groupby(things["need"]).sum()


def _remainders(lexicon: Lexicon) -> set[str]:
    return {entry.label for entry in lexicon.entries if entry.key in NO_OFFERS}


def out_of_season(weekly: np.ndarray, *, horizon_days: int) -> np.ndarray:
    """Flag needs that are bought in a few weeks of the year, outside of these (needs).

    With a year of history, the weeks of the coming horizon are those of a year ago. With less, a need that is bought in
    few weeks counts as out of season, as nothing is known of the weeks to come.

    Parameters
    ----------
    weekly
        What was bought by week, the last one just before the date (weeks x needs).
    horizon_days
        Length of the horizon that begins at the date.

    Examples
    --------
    >>> summer = np.r_[np.zeros(20), np.ones(12), np.zeros(20)][:, None]
    >>> soon = np.roll(summer, -15, axis=0)
    >>> [bool(out_of_season(weekly, horizon_days=91)[0]) for weekly in (summer, soon)]
    [True, False]
    """
    weeks = len(weekly)
    share = weekly / np.maximum(weekly.sum(axis=0), 1e-12)
    few = int(np.ceil(SEASON_WEEKS * weeks))
    seasonal = -np.sort(-share, axis=0)[:few].sum(axis=0) >= SEASON_SALES
    if weeks < YEAR_WEEKS - 1:
        return seasonal & (weeks >= FEWEST_WEEKS)
    year = share[max(weeks - YEAR_WEEKS, 0) :]
    coming = year[: max(horizon_days // 7, 1)]
    expected = len(coming) / len(year)
    return seasonal & (coming.sum(axis=0) < IN_SEASON * expected * year.sum(axis=0))


def weekly_needs(needs: Needs, *, days: Days, period: Period) -> np.ndarray:
    """Sum what was bought of each need by week before the date (weeks x needs, the earliest first)."""
    things = days.things
    if things is None:
        return np.zeros((0, len(needs.ids)))
    rows = things.filter(things.day < ibis.literal(period.as_of))
    weight = rows.amount if "amount" in rows.columns else rows.lines
    age = (ibis.literal(period.last_day).epoch_days() - rows.day.epoch_days()).cast("int64") // 7
    table = rows.group_by(age=age, category=rows.category).aggregate(weight=weight.sum().cast("float64")).to_pandas()
    weeks = int((period.as_of - _first_day(days, period=period)) / timedelta(days=7))
    table = table[(table["weight"] > 0) & (table["age"] < weeks)]
    names = sorted(table["category"].unique())
    matrix = np.zeros((weeks, len(names)))
    np.add.at(matrix, (weeks - 1 - table["age"], pd.Index(names).get_indexer(table["category"])), table["weight"])
    return np.asarray(matrix @ category_shares(needs, names)) if names else np.zeros((weeks, len(needs.ids)))


def _first_day(days: Days, *, period: Period) -> object:
    first = days.things.day.min().to_pandas()
    return period.as_of if pd.isna(first) else pd.Timestamp(first).date()


def best_moment(features: pd.DataFrame, members: np.ndarray) -> str | None:
    """Return the day or part of the day at which members come clearly more than others: saturday, evening, weekend."""
    found = _clearest(features, members, names=[name for name in MOMENTS if name in features])
    return found.removesuffix("_share") if found else None


def best_channel(features: pd.DataFrame, members: np.ndarray) -> str | None:
    """Return the channel that members use clearly more than others do."""
    names = [name for name in features if name.startswith("channel_") and name.endswith("_share")]
    found = _clearest(features, members, names=names)
    return found.removeprefix("channel_").removesuffix("_share").replace("_", " ") if found else None


def _clearest(features: pd.DataFrame, members: np.ndarray, *, names: Sequence[str]) -> str | None:
    """Return the share that lies most points above that of other customers, of those clearly above; None of none."""
    if not len(names) or min(members.sum(), (~members).sum()) < 2:
        return None
    values = features[list(names)].to_numpy()
    own, others = values[members], values[~members]
    mean, mean_of_others = own.mean(axis=0), others.mean(axis=0)
    more = mean - mean_of_others
    half = Z95 * np.sqrt(own.var(axis=0, ddof=1) / len(own) + others.var(axis=0, ddof=1) / len(others))
    clear = (more >= CLEAR_MORE) & (mean >= CLEAR_LIFT * mean_of_others) & (more > half)
    return names[int(np.where(clear, more, -np.inf).argmax())] if clear.any() else None
