"""Simulated pilots with a known lift: do the intervals of all segments hold together, and how often is "scale" false?

usage: python benchmarks/measure.py [--part pilots|arms] [--experiments 500] [--seed 7] [--only NAME]
With --part arms: experiments made anywhere, see measure_arms.py. Without it, pilots:
Customers, what they did before, and what they did in the horizon that followed are real (Complete Journey) or made up
by `segkit synth`. For each experiment customers are drawn with replacement, randomised as the product does, and
those treated are given a lift: their spend times 1 + lift, orders by chance around theirs times 1 + lift, or a chance
to come. The truth is the mean lift over all customers of the segment. A contact costs exactly what the true lift
earns, so that every "scale" is false, by the narrowest margin there is.
"""

import argparse
import tempfile
import time
from datetime import date, timedelta
from functools import partial

import measure_arms
import numpy as np
import pandas as pd
from scipy import stats

from segkit.customers.days import Days, build_days
from segkit.data import sources
from segkit.data.synth import write_scenario
from segkit.experiments.design import TREATMENT, draw_treatment, strata_of
from segkit.experiments.estimate import COVARIATES, Price, covariates, estimate_lifts, kpi_values, verdict_of
from segkit.period import Period
from segkit.segments.clustering import Budget
from segkit.segments.fit import build_fit_data, fit_segments

LOOKBACK, HORIZON = 182, 91
SETS = {"Complete Journey": date(2017, 10, 1), "synth retail": None}
LIFTS = (0.0, 0.0, 0.1, 0.2)  # of the four segments of an experiment
SHARES = (0.5, 0.3)  # held out, by turns


def load(name: str, folder: str) -> tuple[Days, dict[str, str], date]:
    text = "complete_journey" if name == "Complete Journey" else write_scenario("retail", customers=4000, out=folder)
    opened = sources.open_source(text)
    con = sources.connect()
    built = build_days(sources.read_events(opened, con=con), kinds=opened.kinds)
    kept = {part: con.create_table(f"kept_{part}", table) for part, table in vars(built).items() if table is not None}
    as_of = SETS[name] or date.fromisoformat(sources.default_as_of(opened, con=con)) - timedelta(days=HORIZON)
    return Days(**{**vars(built), **kept}), opened.kinds, as_of


def population(days: Days, kinds: dict[str, str], as_of: date, *, kpi: str) -> pd.DataFrame:
    period = Period(as_of, lookback_days=LOOKBACK, horizon_days=HORIZON)
    windows = build_fit_data(days, period=period, kinds=kinds)
    fit = fit_segments(windows, budget=Budget())
    index = windows.now.features.index
    past = covariates(days, kpi=kpi, period=period, index=index)
    observed = kpi_values(days, kpi=kpi, start=as_of, window_days=HORIZON, index=index)
    return past.assign(segment=[fit.model.segments[n] for n in fit.segment_number], observed=observed)


def truth_of(group: pd.DataFrame, *, kpi: str, lift: float) -> float:
    """The mean effect of treatment over all customers of a segment."""
    return lift * (1 - group["observed"].mean() if kpi == "active" else group["observed"].mean())


def treat(observed: np.ndarray, *, kpi: str, lift: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if kpi == "spend":
        return observed * (1 + lift)
    if kpi == "orders":
        return rng.poisson(observed * (1 + lift))
    return np.maximum(observed, rng.random(len(observed)) < lift)


def experiment(people: pd.DataFrame, *, kpi: str, number: int, seed: int) -> dict[str, float]:
    """One pilot in four segments: whether all intervals hold, whether a scale was false, and how wide they are."""
    rng = np.random.default_rng([seed, number])
    names = rng.permutation(sorted(people["segment"].unique()))[: len(LIFTS)]
    parts = [people[people["segment"] == name].sample(frac=1, replace=True, random_state=rng) for name in names]
    units = pd.concat(parts)
    units.index = pd.Index([f"c{i}" for i in range(len(units))], name="customer_id")
    units["stratum"] = strata_of(units["segment"], units["steady" if kpi == "active" else "pre"])
    share = SHARES[number % len(SHARES)]
    units["arm"] = draw_treatment(
        units["stratum"], treated_share=dict.fromkeys(names, 1 - share), seed=number, salt=f"{seed}"
    )
    lift = dict(zip(names, LIFTS, strict=True))
    true = {n: truth_of(people[people["segment"] == n], kpi=kpi, lift=lift[n]) for n in names}
    treated = (units["arm"] == TREATMENT).to_numpy()
    given = treat(units["observed"].to_numpy(), kpi=kpi, lift=units["segment"].map(lift).to_numpy(), rng=rng)
    values = pd.Series(np.where(treated, given, units["observed"]), index=units.index)
    lifts = estimate_lifts(units, values, columns=COVARIATES)
    plain = estimate_lifts(units, values, columns=())
    sizes = units["segment"].value_counts()
    true["all"] = sum(true[n] * sizes[n] for n in names) / len(units)
    # a contact costs exactly what the lift of its segment earns, so that any scale or stop would be false
    even = [(one, verdict_of(one, price=Price(true[one.segment], 1.0))[0]) for one in lifts]
    return {
        "all hold": all(one.low <= true[one.segment] <= one.high for one in lifts),
        "plain": all(one.low <= true[one.segment] <= one.high for one in plain),
        "false scale": any(verdict == "scale" for _, verdict in even),
        "false stop": any(verdict == "stop" for _, verdict in even),
        "seen": np.mean([one.low > 0 for one in lifts if lift.get(one.segment, 0) == max(LIFTS)]),
        "width": np.mean([a.se for a in lifts[:-1]]) / np.mean([b.se for b in plain[:-1]]),
        "one by one": np.mean([one.low <= true[one.segment] <= one.high for one in lifts]),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--experiments", type=int, default=500)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", default=None)
    parser.add_argument("--part", choices=("pilots", "arms"), default="pilots")
    given = parser.parse_args()
    if given.part == "arms":
        measure_arms.report(partial(print, flush=True), times=given.experiments, seed=given.seed, only=given.only or "")
        return
    heads = ["customers, KPI", "pilots", "all intervals hold", "[95 %]", "without the past", "false scale"]
    heads += ["false stop", "20 % lift seen", "error, of plain", "CPU-s"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    with tempfile.TemporaryDirectory() as folder:
        for name in SETS:
            if given.only and given.only not in name:
                continue
            days, kinds, as_of = load(name, folder)
            for kpi in ("spend", "orders", "active"):
                started = time.process_time()
                people = population(days, kinds, as_of, kpi=kpi)
                table = pd.DataFrame(
                    [experiment(people, kpi=kpi, number=n, seed=given.seed) for n in range(given.experiments)]
                )
                mean = table.mean()
                held = int(table["all hold"].sum())
                low, high = stats.binomtest(held, len(table)).proportion_ci(method="wilson")
                print(
                    f"| {name}, {kpi} | {len(table)} | {mean['all hold']:.3f} | {low:.3f}-{high:.3f} | "
                    f"{mean['plain']:.3f} "
                    f"| {mean['false scale']:.3f} | {mean['false stop']:.3f} | {mean['seen']:.2f} | "
                    f"{mean['width']:.2f} "
                    f"| {time.process_time() - started:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
