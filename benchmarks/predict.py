"""Forecasts compared with baselines, out of time: who comes back, how many orders, how much spend.

usage: python benchmarks/predict.py [--data DIR] [--only NAME] [--cdnow FILE]
DIR holds online_retail.parquet (../shared/data by default); without it that set is skipped with the reason.
NAME: complete_journey, online_retail (two retailers), one_year and pareto (20,000 customers, a year of history, no
category: too short to learn from; in pareto they leave as Pareto/NBD assumes), or regular (made-up customers who buy at
regular gaps), or two_years (twelve months ahead, back-tested). FILE: CDNOW, a row a customer with
frequency, recency and T in weeks: prints parameters to compare with those published.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from peers import ParetoNbd, boosted, own_past, pareto_table
from scipy.stats import spearmanr
from segments import HOME, SETS, load

from segkit.customers.days import Days
from segkit.customers.features import Customers, customer_outcomes, customers_at
from segkit.forecast.backtest import (
    BacktestOrigin,
    backtest_origins,
    base_rate_metrics,
    best_forecasters,
    score_forecasters,
)
from segkit.forecast.baselines import FORECASTER_LABELS
from segkit.forecast.buying import PurchaseHistory, fit_model
from segkit.forecast.dormant import silent_days
from segkit.forecast.model import make_training_sets
from segkit.forecast.parametric import buying_history
from segkit.forecast.segments import Prediction, predict
from segkit.forecast.short_history import forecast_from_buying
from segkit.forecast.year import forecast_year
from segkit.period import Period
from segkit.segments.fit import build_fit_data, build_training_windows, fit_segments
from segkit.stats import auc, quantile_edges
from segkit.vocabulary import EVERYONE

DRAWS, FIRST = 400, "the forecast"
START, AS_OF = date(2023, 1, 1), date(2024, 1, 1)
LABELS = FORECASTER_LABELS | {"own": "the own past", "pareto": "Pareto/NBD", "boosted": "boosting on aggregates"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=str(HOME.parent / "shared" / "data"))
    parser.add_argument("--only", default=None)
    parser.add_argument("--cdnow", default=None)
    given = parser.parse_args()
    if given.cdnow:
        return published(given.cdnow)
    for name, (source, origin, lookback, horizon) in SETS.items():
        data = None if name == "complete_journey" else given.data
        if given.only in (None, name):
            if data and not (Path(data) / f"{name}.parquet").is_file():
                print(f"{name}: left out, no {name}.parquet in {data}")
                continue
            days, opened, _ = load(source, data)
            period = Period(origin + timedelta(days=horizon), lookback_days=lookback, horizon_days=horizon)
            learnt(name, days, period=period, kinds=opened.kinds)
            by_segment(days, period=period.one_horizon_back(), kinds=opened.kinds)
    if given.only in (None, "two_years"):
        with tempfile.TemporaryDirectory() as folder:
            days, opened, _ = load(leaving_buyers(Path(folder), customers=5_000, days=1_460), None)
            yearly(days, period=Period(AS_OF - timedelta(days=365), lookback_days=182, horizon_days=91),
                   kinds=opened.kinds)  # fmt: skip
    if given.only in (None, "regular"):
        with tempfile.TemporaryDirectory() as folder:
            days, opened, _ = load(regular_buyers(Path(folder)), None)
            learnt("regular", days, period=Period(AS_OF, lookback_days=180, horizon_days=45), kinds=opened.kinds)
    for name, made in (("one_year", leaving_buyers), ("pareto", pareto_buyers)):
        if given.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                days, opened, _ = load(made(Path(folder)), None)
                period = Period(AS_OF - timedelta(days=182), lookback_days=365, horizon_days=182)
                short(name, days, period=period, kinds=opened.kinds)


def learnt(name: str, days: Days, *, period: Period, kinds: dict[str, str]) -> None:
    """The forecast that is learnt one horizon before, its baselines and its peers."""
    asked = {"period": period, "kinds": kinds}
    lessons = make_training_sets(customers_at(days, **asked), build_training_windows(days, **asked), origins=1)
    start = time.process_time()
    origin = backtest_origins(lessons)[0]
    spent = time.process_time() - start
    before = period.one_horizon_back()
    tables = dict(origin.banded)
    tables["own"] = own_past(origin.snapshot)
    history = buying_history(days, as_of=before.as_of)
    tables["pareto"] = pareto_table(history, origin.snapshot.index, horizon_days=period.horizon_days)
    tables["boosted"] = boosted(origin.training, origin.snapshot)
    spans = f"{before.lookback_days} / {before.horizon_days} days"
    print(f"\n{name}, as of {before.as_of}, {spans}, {len(origin.snapshot.index):,} customers, {spent:.1f} CPU-s\n")
    print(compared(tables, origin))
    moved = base_rate_metrics([origin])
    low, high = (moved[f"forecast.drift.active.{end}"] for end in ("low", "high"))
    print(f"\n- the share of active customers moved by {moved['forecast.drift.active']:.3f} [{low:.3f}, {high:.3f}]")


def short(name: str, days: Days, *, period: Period, kinds: dict[str, str]) -> None:
    """Where nothing can be learnt: the models of repeat buying, and Pareto/NBD, for all customers ever seen."""
    past = days_before(days, period.as_of)
    start = time.process_time()
    customers = customers_at(past, period=period, kinds=kinds)
    found = forecast_from_buying(customers)
    spent = time.process_time() - start
    outcomes = customer_outcomes(days, start=period.as_of, horizon_days=period.horizon_days, index=customers.index)
    history = buying_history(past, as_of=period.as_of)
    best = best_forecasters(score_forecasters(found.origins))  # as the forecast chooses
    columns = {name: [c for c in found.banded["model"] if c.startswith("chance" if name == "active" else name)]
               for name in best}  # fmt: skip
    chosen = pd.concat([found.banded[best[name]][columns[name]] for name in best], axis=1)
    tables = {
        "model": chosen,
        "classic": found.banded["model"],
        "regular": found.banded["regular"],
        "pareto": pareto_table(history, customers.index, horizon_days=period.horizon_days),
    }
    tested = found.origins[0]
    origin = BacktestOrigin({}, {}, outcomes=outcomes, snapshot=tested.snapshot, training=tested.training)
    spans = f"{period.lookback_days} / {period.horizon_days} days"
    print(f"\n{name}, as of {period.as_of}, {spans}, {len(customers.index):,} customers, {spent:.1f} CPU-s\n")
    print(
        compared(
            tables,
            origin,
            labels=LABELS
            | {"model": f"{FIRST} ({', '.join(dict.fromkeys(found.models[each] for each in best.values()))})"},
        )
    )


def yearly(days: Days, *, period: Period, kinds: dict[str, str]) -> None:
    """Twelve months of spend, against those observed and the year before repeated."""
    start = time.process_time()
    found = forecast_year(customers_at(days_before(days, period.as_of), period=period, kinds=kinds))
    spent = time.process_time() - start
    before, observed = (
        customer_outcomes(days, start=day, horizon_days=365, index=found.spend.index).totals["spend"]
        for day in (period.as_of - timedelta(days=365), period.as_of)
    )
    off = [(each - observed).abs().mean() for each in (found.spend, before)]
    print(f"\ntwo years and more, {len(observed):,} customers, {spent:.1f} CPU-s: "
          f"{shown(found.metrics, 'forecast.year')}; the next year: off by {off[0]:.1f} a customer, the year before "
          f"repeated by {off[1]:.1f}; in total {found.spend.sum() / observed.sum() - 1:+.3f}")  # fmt: skip


def days_before(days: Days, day: date) -> Days:
    """Return the days before a date only."""
    return Days(**{name: t if t is None else t.filter(t.day < day) for name, t in vars(days).items()})


def compared(tables: dict[str, pd.DataFrame], origin: BacktestOrigin, *, labels: dict[str, str] = LABELS) -> str:
    """A row for each forecaster; below its AUC and MAE the lead of ours over it, in pairs, 95 %."""
    rng, size = np.random.default_rng(7), len(origin.outcomes.active)
    counts = np.vstack([np.ones(size), rng.multinomial(size, np.full(size, 1 / size), size=DRAWS)])
    active = origin.outcomes.active.astype(float)
    scores = {name: measures(table, origin, active=active, counts=counts) for name, table in tables.items()}
    heads = list(scores["model"])
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for name, own in scores.items():
        cells = []
        for head in heads:
            value = own.get(head)
            text = "" if value is None else form(value[0] if np.ndim(value) else value)
            if name != "model" and head in ("AUC", "MAE of orders", "MAE of spend") and value is not None:
                lead = (scores["model"][head] - value) * (1 if head == "AUC" else -1)
                low, high = np.percentile(lead[1:], (2.5, 97.5))
                text += f"<br>lead {form(lead[0])} [{form(low)}, {form(high)}]"
            cells.append(text)
        lines.append(f"| {labels[name]} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def measures(
    table: pd.DataFrame, origin: BacktestOrigin, *, active: np.ndarray, counts: np.ndarray
) -> dict[str, float | np.ndarray]:
    """Scores of a forecaster; those that are compared in pairs for each resampling, the first of all customers."""
    chance = table["chance"].to_numpy().clip(1e-6, 1 - 1e-6)
    found: dict[str, float | np.ndarray] = {"AUC": auc(chance, active, counts=counts)}
    found["log-loss"] = -np.mean(active * np.log(chance) + (1 - active) * np.log1p(-chance))
    groups = np.searchsorted(np.unique(quantile_edges(chance, parts=10)), chance, side="right")
    found["ECE"] = sum(abs((chance - active)[groups == g].sum()) for g in np.unique(groups)) / len(active)
    for name in ("orders", "spend"):
        observed = origin.values(name)
        mean = table.get(f"{name}_mean", table[name]).to_numpy()
        found[f"MAE of {name}"] = counts @ np.abs(table[name] - observed) / counts.sum(axis=1)
        found[f"{name} off"] = mean.sum() / observed.sum() - 1
        if f"{name}_low" in table:
            found[f"{name} in range"] = (
                (table[f"{name}_low"] <= observed) & (observed <= table[f"{name}_high"])
            ).mean()
    found["Spearman"] = spearmanr(mean, observed).statistic
    found["Gini"] = gini(observed, by=mean) / gini(observed, by=observed)
    order = np.argsort(mean)
    found["decile error"] = np.mean(
        [abs(mean[part].mean() - observed[part].mean()) / observed.mean() for part in np.array_split(order, 10)]
    )
    return found


def gini(values: np.ndarray, *, by: np.ndarray) -> float:
    """How much of the values the customers with the highest forecast hold (Wang, Liu & Miao 2019)."""
    held = np.cumsum(values[np.argsort(-by, kind="stable")]) / values.sum()
    return float(held.mean() - 0.5)


def by_segment(days: Days, *, period: Period, kinds: dict[str, str]) -> None:
    """What was forecast of each segment, against what was observed."""
    asked = {"period": period, "kinds": kinds}
    fit = fit_segments(build_fit_data(days, **asked))
    segment = pd.Series(np.array(fit.model.segments, dtype=object)[fit.segment_number], index=fit.axes.index)
    customers: Customers = customers_at(days, **asked)
    found = predict(customers, build_training_windows(days, **asked), model=fit.model, segment=segment)
    table = found.segments[found.segments["segment"] != EVERYONE].set_index("segment")
    outcomes = (
        customer_outcomes(days, start=period.as_of, horizon_days=period.horizon_days, index=customers.index)
        .totals.groupby(segment.reindex(customers.index))
        .sum()
    )
    off = table["spend"] / outcomes["spend"] - 1
    inside = (table["spend_low"] <= outcomes["spend"]) & (outcomes["spend"] <= table["spend_high"])
    print(
        f"- spend of {len(table)} segments: off by {off.abs().mean():.0%} on average, {off.abs().max():.0%} at most; "
        f"{inside.sum()} of {len(table)} inside their range of 95 %"
    )
    after_dates(found, days, period=period)
    silent = silent_days(days_before(days, period.as_of), period=period).index
    observed = customer_outcomes(days, start=period.as_of, horizon_days=period.horizon_days, index=silent).totals
    spend, returned = observed["spend"].sum(), (observed["active_days"] > 0).sum()
    print(f"- silent: {shown(found.metrics, 'forecast.dormant')}; observed: spend {spend:,.0f}, {returned} came back")


def after_dates(found: Prediction, days: Days, *, period: Period) -> None:
    """Dates of next orders against those observed; who did not order counts as the end of the horizon, outside."""
    print(f"- dates, back-test: {shown(found.metrics, 'forecast.dates')}\n- categories due: "
          f"{shown(found.metrics, 'forecast.due')}")  # fmt: skip
    start, end = (pd.Timestamp(day) for day in (period.as_of, period.horizon_end))
    after = days.rows.filter((days.rows.day >= period.as_of) & (days.rows.day < period.horizon_end))
    table = after.filter(after.orders > 0).group_by("customer_id").aggregate(day=lambda t: t.day.min()).to_pandas()
    dated = found.customers.dropna(subset="next_order_date")
    first = pd.to_datetime(table.set_index("customer_id")["day"]).reindex(dated.index)
    inside = (dated["next_order_low"] <= first) & (first <= dated["next_order_high"])
    off = (first.fillna(end) - dated["next_order_date"]).dt.days.abs()
    if len(dated):
        print(
            f"- dates, one horizon later: {len(dated):,} customers, off by {off.mean():.1f} days, "
            f"{inside.mean():.0%} in their range; {first.notna().mean():.0%} ordered within {(end - start).days} days"
        )


def shown(metrics: dict[str, object], start: str) -> str:
    """The metrics whose names start so."""
    found = {name.removeprefix(start).lstrip("._"): value for name, value in metrics.items() if name.startswith(start)}
    return ", ".join(f"{name} {value:,.3g}" if isinstance(value, float) else f"{name} {value}"
                     for name, value in found.items())  # fmt: skip


def regular_buyers(folder: Path, *, customers: int = 3000, days: int = 400, shape: int = 6, seed: int = 3) -> str:
    """Customers who buy at regular gaps of 8 to 60 days; one in two hundred orders is the last."""
    rng = np.random.default_rng(seed)
    gap = rng.lognormal(np.log(22), 0.5, customers).clip(8, 60)
    return write(folder, rng=rng, days=days, gaps=lambda who, n: rng.gamma(shape, gap[who] / shape, n), stop=0.005,
                 customers=customers)  # fmt: skip


def leaving_buyers(folder: Path, *, customers: int = 20_000, days: int = 548, seed: int = 4) -> str:
    """Customers of a shop who start all through the year, buy by chance, and leave by chance."""
    rng = np.random.default_rng(seed)
    rate = rng.gamma(0.8, 1 / 40, customers).clip(1e-4)
    return write(folder, rng=rng, days=days, gaps=lambda who, n: rng.exponential(1 / rate[who], n), stop=0.08,
                 customers=customers)  # fmt: skip


def pareto_buyers(folder: Path, *, customers: int = 20_000, days: int = 548, seed: int = 5) -> str:
    """Customers of the same shop who leave at any moment, at rates that differ, as Pareto/NBD assumes."""
    rng = np.random.default_rng(seed)
    rate, leaves = rng.gamma(0.8, 1 / 40, customers).clip(1e-4), rng.gamma(0.6, 1 / 120, customers).clip(1e-5)
    return write(folder, rng=rng, days=days, gaps=lambda who, n: rng.exponential(1 / rate[who], n), stop=1e-9,
                 life=rng.exponential(1 / leaves), customers=customers)  # fmt: skip


def write(
    folder: Path,
    *,
    rng: np.random.Generator,
    days: int,
    customers: int,
    stop: float,
    gaps: Callable[..., np.ndarray],
    life: np.ndarray | None = None,
) -> str:
    """Write the orders of made-up customers, and return the path of their source; amounts differ by customer.

    `stop`: the chance that an order is the last. `life`: days after which each customer has left.
    """
    rows, first = [], rng.integers(0, 330, customers)
    worth = rng.gamma(4.0, 10.0, customers)
    for who in range(customers):
        times = np.r_[0.0, np.cumsum(gaps(who, 200))]
        times = first[who] + (times if life is None else times[times <= life[who]])
        times = np.unique(times[times < days].astype(int))[: rng.geometric(stop)]
        amounts = worth[who] * rng.gamma(4.0, 0.25, len(times))
        rows.append(pd.DataFrame({"customer": f"c{who:05d}", "day": times, "amount": amounts.round(2)}))
    table = pd.concat(rows)
    table["day"] = [(START - timedelta(days=days - 365) + timedelta(days=int(day))).isoformat() for day in table["day"]]
    table.to_csv(folder / "orders.csv", index=False)
    text = """\
name: made_up
timezone: UTC
kinds: {purchase: customer}
events:
  - path: orders.csv
    columns: {customer_id: customer, timestamp: day, event: "'purchase'", amount: amount}
"""
    (folder / "source.yaml").write_text(text)
    return str(folder / "source.yaml")


def published(path: str) -> None:
    """Parameters of CDNOW, to compare with those of Fader, Hardie & Lee (2005) and Batislam, Denizel & Filiztekin."""
    table = pd.read_csv(path)
    known = [table[name].to_numpy(float) for name in ("frequency", "recency", "T")]
    history = PurchaseHistory(*known, np.zeros(len(table)))
    pareto = ParetoNbd(history)
    print(f"BG/NBD    {fit_model(history)[0]}\nMBG/NBD   {fit_model(history, stops_at_once=True)[0]}")
    print(f"Pareto/NBD r={pareto.r:.3f} alpha={pareto.alpha:.3f} s={pareto.s:.3f} beta={pareto.beta:.3f}")


def form(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 2 else f"{value:.2f}" if abs(value) < 20 else f"{value:.1f}"


if __name__ == "__main__":
    main()
