"""Predict the date of the next order, of each customer and of each category they buy regularly."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
from sklearn.ensemble import HistGradientBoostingRegressor

from segkit.customers.days import Days
from segkit.customers.features import Customers, day_number
from segkit.stats import SAMPLE_SIZE, ratio_interval

MIN_BUYING_DAYS = 4  # days with an order, so three gaps; with fewer, no date is predicted
MIN_ROWS = 100  # customers, or customers and categories, in training and in the back-test
RANGE = 0.8  # share of next orders that fall inside their range
QUANTILES = ((1 - RANGE) / 2, 0.5, (1 + RANGE) / 2)
RECENT_DAYS = (28, 91)  # spans whose buying days are counted
MOST_DUE = 5  # categories of a customer, those due first
MOST_LEARNT = 8_000  # rows that the trees see
TREES = {"max_leaf_nodes": 7, "learning_rate": 0.1, "max_iter": 50, "min_samples_leaf": 40, "l2_regularization": 5.0}
GAPS = ["days", "median_gap", "mean_gap", "last_gap", "longest_gap", "silent", "late", "variation"]
COLUMNS = [*GAPS, *(f"days_{span}" for span in RECENT_DAYS), "own_silent", "own_gap", "usual_gap"]
OF_TODAY = ("customers", "reason")  # metrics that are not of the back-test
DUE = ["customer_id", "category", "due", "due_low", "due_high"]
NEXT_ORDER = ["next_order_date", "next_order_low", "next_order_high", "next_order_reason"]
NO_ORDERS, TOO_SHORT = "no orders", "too little history for a back-test"
TOO_FEW = "too few customers order regularly enough"
NOT_BETTER = "a customer's usual gap predicts it as well"


@dataclass(frozen=True)
class OrderDates:
    """Hold when customers are likely to order next.

    Parameters
    ----------
    customers
        By customer_id: ``next_order_date`` (median), ``next_order_low`` and ``next_order_high`` (8 in 10 next orders
        are between them), and ``next_order_reason``: why there is no date, or empty.
    due
        customer_id, category, due, due_low, due_high: the five categories of a customer that are due first, among those
        they are nearly sure to buy in the horizon.
    metrics
        ``forecast.dates.*`` of customers and ``forecast.due.*`` of categories: rows tested, days off and the lead over
        the usual gap, with ranges, and the share of orders inside their range.
    """

    customers: pd.DataFrame
    due: pd.DataFrame
    metrics: dict[str, object]


@dataclass(frozen=True)
class _Purchases:
    """Hold days with a purchase, sorted by customer, thing and day; each once."""

    who: np.ndarray  # number of the customer
    thing: np.ndarray  # number of the category; 0 for any
    day: np.ndarray  # days since 1970
    names: pd.Index  # of customers
    things: pd.Index


@dataclass(frozen=True)
class _Tested:
    """Hold a prediction of waits: days from today, the reason why there are none, and the figures of its back-test."""

    rhythm: pd.DataFrame
    waits: np.ndarray
    reason: str
    metrics: dict[str, object]


def predict_order_dates(
    customers: Customers,
    *,
    never: frozenset[str] = frozenset(),
    seed: int = 7,
    tested: Mapping[str, object] | None = None,
) -> OrderDates:
    """Predict when customers order next, and when they next buy the categories they buy regularly.

    Quantiles of the days until the next order are learnt one horizon ago from the gaps of a customer, and how long they
    have been silent (boosted trees, pinball loss); the horizon caps them. The same, learnt two horizons ago, is tested
    on what came, against the last order plus the customer's median gap; its misses set the width of today's ranges
    (conformalised quantile regression: Romano, Patterson & Candes 2019). Dates are given where the back-test is clearly
    better, and only of customers who are nearly sure to order within the horizon.

    Parameters
    ----------
    never
        Categories that are never offered.
    tested
        Metrics of an earlier run, whose back-test stands; by default it is made.
    """
    names = _buyers(customers.days, as_of=customers.period.as_of)
    if not len(names):
        return OrderDates(_without_dates(customers.index, NO_ORDERS), pd.DataFrame(columns=DUE), {})
    orders = _order_days(customers.days, as_of=customers.period.as_of, names=names)
    earlier = {kind: _of_kind(tested or {}, kind=kind) for kind in ("dates", "due")}
    found = _predict_waits(orders, customers, own=orders, seed=seed, tested=earlier["dates"])
    people = _customer_dates(found, customers, names=names)
    metrics = {f"forecast.dates.{name}": value for name, value in found.metrics.items()}
    metrics["forecast.dates.customers"] = int(people["next_order_date"].notna().sum())
    metrics["forecast.dates.reason"] = found.reason or None
    due = pd.DataFrame(columns=DUE)
    if customers.days.categories is not None:
        asked = {"as_of": customers.period.as_of, "names": names, "never": never}
        options = {"own": orders, "seed": seed, "tested": earlier["due"]}
        bought = _category_days(customers.days, step=_step(len(names)), **asked)
        by_category = _predict_waits(bought, customers, **options)
        if not by_category.reason and _step(len(names)) > 1:  # worth reading the categories of everyone
            bought = _category_days(customers.days, step=1, **asked)
            by_category = _predict_waits(bought, customers, **options)
        due = _due(by_category, customers, bought=bought)
        metrics |= {f"forecast.due.{name}": value for name, value in by_category.metrics.items()}
        metrics["forecast.due.customers"] = int(due["customer_id"].nunique())
        metrics["forecast.due.reason"] = by_category.reason or None
    return OrderDates(people, due, metrics)


def _of_kind(metrics: Mapping[str, object], *, kind: str) -> dict[str, object]:
    """Return the figures of a back-test among metrics, by name; empty where it did not come to a result."""
    own = {name.removeprefix(f"forecast.{kind}."): value for name, value in metrics.items() if f".{kind}." in name}
    return own if "tested_at" in own else {}


def _buyers(days: Days, *, as_of: date) -> pd.Index:
    """Return the sorted ids of customers who ever ordered."""
    rows = days.rows.filter((days.rows.day < ibis.literal(as_of)) & (days.rows.orders > 0))
    return pd.Index(rows.select("customer_id").distinct().to_pandas()["customer_id"].sort_values(), name=None)


def _order_days(days: Days, *, as_of: date, names: pd.Index) -> _Purchases:
    """Read the days with an order."""
    rows = days.rows.filter((days.rows.day < ibis.literal(as_of)) & (days.rows.orders > 0))
    rows = _numbered(rows, names, column="customer_id", number="who").mutate(thing=0)
    return _read(rows, names=names, things=pd.Index([""]))


def _category_days(days: Days, *, as_of: date, names: pd.Index, never: frozenset[str], step: int) -> _Purchases:
    """Read the days on which each category was bought, by every ``step``-th customer."""
    rows = days.categories.filter(days.categories.day < ibis.literal(as_of))
    listed = rows.select("category").distinct().to_pandas()["category"]
    things = pd.Index(sorted(set(listed) - never))
    rows = _numbered(rows, names, column="customer_id", number="who", step=step)
    return _read(_numbered(rows, things, column="category", number="thing"), names=names, things=things)


def _numbered(rows: ir.Table, names: pd.Index, *, column: str, number: str, step: int = 1) -> ir.Table:
    """Add the number of every ``step``-th name; rows of other names are dropped."""
    table = pd.DataFrame({column: names.to_numpy(dtype=str), number: np.arange(len(names))})
    return rows.inner_join(ibis.memtable(table[::step]), column)


def _read(rows: ir.Table, *, names: pd.Index, things: pd.Index) -> _Purchases:
    """Read numbers of customers and things; they are numbered in the engine, as rows are many."""
    table = rows.select("who", "thing", day=rows.day.epoch_days().cast("int64")).distinct().to_pandas()
    order = np.lexsort((table["day"], table["thing"], table["who"]))
    who, thing, day = (table[name].to_numpy()[order] for name in ("who", "thing", "day"))
    return _Purchases(who, thing, day, names, things)


def _predict_waits(
    bought: _Purchases, customers: Customers, *, own: _Purchases, seed: int, tested: Mapping[str, object]
) -> _Tested:
    """Back-test the days until the next purchase one horizon ago, and predict them today.

    `tested`: the figures of an earlier back-test that stands; empty to make it.
    """
    period = customers.period
    at, horizon = day_number(period.as_of), {"horizon_days": period.horizon_days}
    last, options = at - period.horizon_days, {"lookback_days": period.lookback_days, "own": own}
    now, sampled = _rhythm(bought, at=at, **options), _part(bought, len(bought.names))
    nothing, learnt = np.full((len(now), 3), np.nan), _rhythm(sampled, at=last, **options)
    waits = _waits(sampled, learnt, at=last, **horizon)
    if tested:
        metrics = {name: value for name, value in tested.items() if name not in OF_TODAY}
        reason = "" if "widening" in metrics else str(tested["reason"] or TOO_FEW)
    else:
        before = _rhythm(sampled, at=last - period.horizon_days, **options)
        waited = _waits(sampled, before, at=last - period.horizon_days, **horizon)
        reason, metrics = _test(before, waited, learnt, waits, seed=seed, **horizon)
        metrics |= {"tested_at": period.as_of.isoformat()} if "lead.low" in metrics else {}
    if reason or len(learnt) < MIN_ROWS:
        return _Tested(now, nothing, reason or TOO_FEW, metrics)
    today = _quantiles(learnt, waits, now, seed=seed)
    known = _is_dated(today, **horizon)
    dated = _widened(today, float(metrics["widening"]))
    return _Tested(now, np.where(known[:, None], dated, np.nan), "", metrics)


def _test(
    learnt: pd.DataFrame, waited: np.ndarray, rhythm: pd.DataFrame, waits: np.ndarray, *, horizon_days: int, seed: int
) -> tuple[str, dict[str, object]]:
    """Learn two horizons ago, and test on what came one horizon ago: why no dates are given, or "", and figures."""
    if min(len(learnt), len(rhythm)) < MIN_ROWS:
        return TOO_SHORT, {}
    past = _quantiles(learnt, waited, rhythm, seed=seed)
    dated = _is_dated(past, horizon_days=horizon_days)
    if dated.sum() < MIN_ROWS:
        return TOO_FEW, {"tested": int(dated.sum())}
    metrics = _score(rhythm[dated], past[dated], waits[dated], horizon_days=horizon_days)
    if metrics["lead.low"] <= 0:
        return NOT_BETTER, metrics
    wider = _widening(past[dated], waits[dated], horizon_days=horizon_days)
    return "", metrics | {"widening": wider}


def _is_dated(quantiles: np.ndarray, *, horizon_days: int) -> np.ndarray:
    """Flag the rows whose next purchase is nearly certain to fall in the horizon."""
    return np.expm1(quantiles[:, 2]) < horizon_days - 1


def _step(customers: int) -> int:
    """Return n where every n-th customer makes a sample of at most ``SAMPLE_SIZE``."""
    return max(1, -(-customers // SAMPLE_SIZE))


def _part(bought: _Purchases, customers: int) -> _Purchases:
    """Keep every n-th customer, so that at most ``SAMPLE_SIZE`` of them are learnt from."""
    kept = bought.who % _step(customers) == 0
    return _Purchases(bought.who[kept], bought.thing[kept], bought.day[kept], bought.names, bought.things)


def _rhythm(bought: _Purchases, *, at: int, lookback_days: int, own: _Purchases) -> pd.DataFrame:
    """Describe the gaps before a day of each customer and thing bought often enough, and not silent for too long."""
    table = _gaps(bought, at=at)
    table = table[table["silent"] <= lookback_days].reset_index(drop=True)
    orders = table if own is bought else _gaps(own, at=at)
    orders = orders.set_index("who").reindex(table["who"])
    table["own_silent"], table["own_gap"] = orders["silent"].to_numpy(), orders["mean_gap"].to_numpy()
    table["usual_gap"] = table.groupby("thing")["median_gap"].transform("median")
    return table


def _gaps(bought: _Purchases, *, at: int) -> pd.DataFrame:
    """Summarise the gaps before ``at`` of each customer and thing bought on enough days: a row each."""
    past = bought.day < at
    who, thing, day = bought.who[past], bought.thing[past], bought.day[past]
    new = np.r_[True, (np.diff(who) != 0) | (np.diff(thing) != 0)][: len(day)]
    starts = np.flatnonzero(new)
    count = np.diff(np.r_[starts, len(day)])
    often = np.repeat(count >= MIN_BUYING_DAYS, count)
    who, thing, day, new, count = who[often], thing[often], day[often], new[often], count[count >= MIN_BUYING_DAYS]
    if not len(count):
        return pd.DataFrame(columns=["who", "thing", *COLUMNS], dtype=float)
    starts, gaps = np.flatnonzero(new), count - 1
    first, last = day[starts], day[starts + gaps]
    gap, group = np.diff(day)[~new[1:]].astype(float), np.repeat(np.arange(len(starts)), gaps)
    ranked, at_gap = gap[np.lexsort((gap, group))], np.r_[0, np.cumsum(gaps)[:-1]]
    mean = (last - first) / gaps
    spread = np.sqrt(np.maximum(np.add.reduceat(gap * gap, at_gap) / gaps - mean**2, 0.0))
    found = {
        "who": who[starts],
        "thing": thing[starts],
        "days": count,
        "median_gap": (ranked[at_gap + (gaps - 1) // 2] + ranked[at_gap + gaps // 2]) / 2,
        "mean_gap": mean,
        "last_gap": gap[at_gap + gaps - 1],
        "longest_gap": ranked[at_gap + gaps - 1],
        "silent": at - last,
        "late": (at - last) / mean,
        "variation": spread / mean,
    }
    recent = {f"days_{span}": np.add.reduceat((day >= at - span).astype(int), starts) for span in RECENT_DAYS}
    return pd.DataFrame({**found, **recent})


def _waits(bought: _Purchases, rhythm: pd.DataFrame, *, at: int, horizon_days: int) -> np.ndarray:
    """Return the days from ``at`` until the next purchase, of each row; the whole horizon where none came in it."""
    after = (bought.day >= at) & (bought.day < at + horizon_days)
    who, thing, day = bought.who[after], bought.thing[after], bought.day[after]
    new = np.r_[True, (np.diff(who) != 0) | (np.diff(thing) != 0)][: len(day)]
    index = pd.MultiIndex.from_arrays([who[new], thing[new]])
    found = pd.Series(day[new] - at, index=index).reindex(pd.MultiIndex.from_frame(rhythm[["who", "thing"]]))
    return found.fillna(horizon_days).to_numpy(float)


def _quantiles(learnt: pd.DataFrame, waits: np.ndarray, now: pd.DataFrame, *, seed: int) -> np.ndarray:
    """Learn the quantiles of the waits, and predict them of other rows: rows x (low, median, high), in log days."""
    rows = np.random.default_rng(seed).permutation(len(learnt))[:MOST_LEARNT]
    design, target = _design(learnt.iloc[rows]), np.log1p(waits[rows])
    if now.empty:
        return np.zeros((0, len(QUANTILES)))
    predicted = [
        HistGradientBoostingRegressor(
            loss="quantile", quantile=level, early_stopping=False, random_state=seed, **TREES
        ).fit(design, target).predict(_design(now))
        for level in QUANTILES
    ]  # fmt: skip
    return np.sort(np.column_stack(predicted), axis=1).round(9)


def _design(rhythm: pd.DataFrame) -> np.ndarray:
    return rhythm[COLUMNS].to_numpy(float)


def _score(rhythm: pd.DataFrame, past: np.ndarray, waits: np.ndarray, *, horizon_days: int) -> dict[str, float]:
    """Score predictions of the back-test against the usual gap; who did not come counts as the end of the horizon."""
    ends = np.expm1(past)
    usual = np.clip(rhythm["median_gap"] - rhythm["silent"], 0, horizon_days)
    table = pd.DataFrame({"off": np.abs(ends[:, 1] - waits), "usual_off": np.abs(usual - waits), "rows": 1.0})
    table["lead"] = table["usual_off"] - table["off"]
    table["inside"] = (np.floor(ends[:, 0]) <= waits) & (waits <= np.ceil(ends[:, 2])) & (waits < horizon_days)
    by = table.astype(float).groupby(rhythm["who"].to_numpy()).sum()  # rows of a customer vary together
    found: dict[str, float] = {"tested": int(by["rows"].sum())}
    for name in ("off", "usual_off", "lead", "inside"):
        found |= ratio_interval(by[name], by["rows"]).metrics(name)
    return found


def _widening(past: np.ndarray, waits: np.ndarray, *, horizon_days: int) -> float:
    """Return by how much both ends move, in log days, so that the right share of the back-test falls inside."""
    missed = np.maximum(past[:, 0] - np.log1p(waits), np.log1p(waits) - past[:, 2])
    missed = np.where(waits < horizon_days, missed, np.inf)  # who did not come is outside any range
    wanted = np.quantile(missed, min(RANGE * (1 + 1 / len(missed)), 1.0), method="lower")
    return float(wanted if np.isfinite(wanted) else missed[np.isfinite(missed)].max())


def _widened(today: np.ndarray, by: float) -> np.ndarray:
    """Move the ends apart, or together, but not across the median; in days."""
    low, high = np.minimum(today[:, 0] - by, today[:, 1]), np.maximum(today[:, 2] + by, today[:, 1])
    return np.maximum(np.expm1(np.column_stack([low, today[:, 1], high])), 0.0)


def _dated(found: _Tested, customers: Customers) -> pd.DataFrame:
    """Turn waits into dates, those whose range ends within the horizon only; a row for each of ``rhythm``."""
    days = np.column_stack([np.floor(found.waits[:, 0]), np.round(found.waits[:, 1]), np.ceil(found.waits[:, 2])])
    known = np.isfinite(days).all(axis=1)
    start = np.datetime64(customers.period.as_of, "us")
    dates = start + np.where(known[:, None], days, 0).astype("timedelta64[D]")
    dates[~known] = np.datetime64("NaT")
    table = pd.DataFrame(dates, columns=["low", "middle", "high"])
    return table.assign(who=found.rhythm["who"], thing=found.rhythm["thing"])


def _customer_dates(found: _Tested, customers: Customers, *, names: pd.Index) -> pd.DataFrame:
    """Return the dates of today's customers, and the reason where there is none."""
    dated = _dated(found, customers)
    dated.index = names[dated["who"].astype(int)]
    table = dated.reindex(customers.index)
    unsure = f"may not order in the next {customers.period.horizon_days} days"
    reason = found.reason or np.where(table["who"].isna(), f"fewer than {MIN_BUYING_DAYS} days with an order", unsure)
    table["reason"] = np.where(table["middle"].notna(), "", reason)
    return table[["middle", "low", "high", "reason"]].set_axis(NEXT_ORDER, axis=1).rename_axis(customers.index.name)


def _due(found: _Tested, customers: Customers, *, bought: _Purchases) -> pd.DataFrame:
    """List the categories of today's customers that are due first."""
    dated = _dated(found, customers).dropna(subset="middle").sort_values(["who", "middle", "high", "thing"])
    dated["customer_id"] = bought.names[dated["who"].astype(int)]
    dated["category"] = bought.things[dated["thing"].astype(int)]
    dated = dated[dated["customer_id"].isin(customers.index)].groupby("who").head(MOST_DUE)
    return dated[["customer_id", "category", "middle", "low", "high"]].set_axis(DUE, axis=1).reset_index(drop=True)


def _without_dates(index: pd.Index, reason: str) -> pd.DataFrame:
    """Return the columns of customers without a date."""
    never = pd.Series(pd.NaT, index=index, dtype="datetime64[us]")
    return pd.DataFrame({**dict.fromkeys(NEXT_ORDER[:3], never), NEXT_ORDER[3]: reason}, index=index)
