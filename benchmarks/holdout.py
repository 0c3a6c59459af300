"""Simulated programmes with a known worth: do all intervals against the holdout hold at once, and what is seen?

usage: python benchmarks/holdout.py [--programmes 500] [--seed 7] [--only NAME]
Customers, what they did in the half year before and in the two quarters after are real (Complete Journey) or made up
(`segkit synth`, and one in which 95 of 100 spend nothing in a quarter and the others by a heavy tail). For each
programme customers are drawn with replacement, a few of 100 are held out by the hash of their id, as the product does,
and everyone else is given a lift, in turn none and a tenth of their spend. The truth is the mean lift over all.
"""

import argparse
import tempfile
import time
from datetime import date, timedelta

import numpy as np
import pandas as pd
from measure import HORIZON, LOOKBACK, load
from scipy import stats

from segkit.data.holdout import Holdout
from segkit.experiments.estimate import COVARIATES, covariates, kpi_values, with_simultaneous_intervals
from segkit.experiments.programme import lift_over_holdout
from segkit.period import Period

SHARES = (0.03, 0.1)
LIFTS = (0.0, 0.1)
SIZES = {"Complete Journey": 2400, "synth retail": 20_000, "95 of 100 spend nothing": 60_000}


def population(name: str, folder: str, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return what is known before the start (customers x columns) and spend (customers x two quarters)."""
    if name not in ("Complete Journey", "synth retail"):
        rng = np.random.default_rng(seed)
        liking = rng.gamma(0.3, 1, 100_000)
        spent = [rng.poisson(liking * 0.17) * rng.lognormal(3, 1.3, len(liking)) for _ in range(4)]
        return np.column_stack([spent[0] + spent[1], spent[1], np.log1p(liking)]), np.column_stack(spent[2:])
    days, _, as_of = load(name, folder)
    start = as_of - timedelta(days=HORIZON)
    period = Period(start, lookback_days=LOOKBACK, horizon_days=HORIZON)
    index = pd.Index(days.rows.filter(days.rows.day < start).customer_id.execute().unique())
    past = covariates(days, kpi="spend", period=period, index=index)[list(COVARIATES)].to_numpy()
    later = [kpi_values(days, kpi="spend", start=at, window_days=HORIZON, index=index) for at in (start, as_of)]
    return past, np.column_stack(later)


def programme(past: np.ndarray, spend: np.ndarray, *, size: int, share: float, number: int, seed: int) -> dict:
    """One programme: whether all its intervals hold, whether a lift was seen, and whether one was seen in vain."""
    rng = np.random.default_rng([seed, number])
    rows = rng.integers(0, len(past), size)
    holdout = Holdout(share, start=date(2026, 1, 1), end=date(2026, 12, 31))
    ids = [f"{seed}-{number}-{n}" for n in range(size)]
    treated = ~pd.Index(ids).isin(holdout.members(ids))
    lift = LIFTS[number % 2]
    given = np.where(treated[:, None], spend[rows] * (1 + lift), spend[rows])
    windows = [given[:, 0], given[:, 1], given.sum(axis=1)]
    truth = lift * np.append(spend.mean(axis=0), spend.sum(axis=1).mean())
    lifts = with_simultaneous_intervals(
        [lift_over_holdout(values, held=~treated, covariate_values=past[rows]) for values in windows]
    )
    return {
        "all hold": all(one.low <= true <= one.high for one, true in zip(lifts, truth, strict=True)),
        "seen": np.nan if not lift else lifts[-1].low > 0,
        "in vain": np.nan if lift else any(one.low > 0 for one in lifts),
        "width": lifts[-1].high - lifts[-1].lift,
        "mean": spend.sum(axis=1).mean(),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--programmes", type=int, default=500)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    heads = ["customers", "drawn", "held out", "all three intervals hold", "[95 %]", "a gain seen in vain"]
    heads += ["a tenth more spend seen", "half width, of mean spend", "CPU-s"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    with tempfile.TemporaryDirectory() as folder:
        for name, size in SIZES.items():
            if given.only not in name:
                continue
            past, spend = population(name, folder, seed=given.seed)
            for share in SHARES:
                started = time.process_time()
                options = {"size": size, "share": share, "seed": given.seed}
                made = [programme(past, spend, number=n, **options) for n in range(given.programmes)]
                table = pd.DataFrame(made).astype(float)
                mean, held = table.mean(), int(table["all hold"].sum())
                low, high = stats.binomtest(held, len(table)).proportion_ci(method="wilson")
                print(
                    f"| {name} | {size:,} | {share:.0%} | {mean['all hold']:.3f} | {low:.3f}-{high:.3f} | "
                    f"{mean['in vain']:.3f} | {mean['seen']:.2f} | {mean['width'] / mean['mean']:.2f} | "
                    f"{time.process_time() - started:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
