"""Segments compared with baselines, out of time: adjusted R² and stability on two retailers, recovery on planted needs.

usage: python benchmarks/segments.py [--data DIR] [--fits 20] [--count N] [--only NAME] [--published]
DIR holds online_retail.parquet (../shared/data by default); without it that set is skipped with the reason.
--published: only the test of a published study of Complete Journey: stability of 7 segments in 100 samples of 80 %.
"""

import argparse
import time
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

from segkit.customers.anticipation import anticipate
from segkit.customers.days import Days, build_days
from segkit.data import sources
from segkit.period import Period
from segkit.segments.ablation import ablation
from segkit.segments.clustering import Budget
from segkit.segments.fit import (
    Fit,
    FitData,
    build_fit_data,
    build_training_windows,
    fit_segments,
    fit_space,
    select_customers,
)
from segkit.segments.model import nearest_centre
from segkit.segments.validation import (
    REFIT_SHARE,
    attribute_groups,
    backtest,
    baseline_table,
    stability,
    structure,
)

HOME = Path(__file__).resolve().parents[1]
SETS = {  # name -> source, as_of of the segments, lookback, horizon
    "complete_journey": ("complete_journey", date(2017, 10, 1), 183, 92),
    "online_retail": (str(HOME / "notebooks/sources/online_retail.yaml"), date(2011, 10, 1), 190, 70),
}


def load(source: str, data: str | None) -> tuple[Days, sources.Source, pd.DataFrame | None]:
    opened = sources.open_source(source, data_dir=data)
    con = sources.connect()
    people = sources.read_customers(opened, con=con)
    built = build_days(sources.read_events(opened, con=con), kinds=opened.kinds)
    kept = {name: con.create_table(f"kept_{name}", table) for name, table in vars(built).items() if table is not None}
    return Days(**{**vars(built), **kept}), opened, None if people is None else people.to_pandas()


def kmeans_stability(windows: FitData, fit: Fit, *, fits: int, seed: int = 7) -> float:
    """The same refits, with KMeans in the same space in place of the search; the needs are held."""
    everyone = windows.now.features.index.union(windows.then.features.index)
    labels, count = [], len(fit.segmentation.centres)
    for i in range(fits):
        rng = np.random.default_rng([seed, 1000 + i])
        keep = everyone[np.sort(rng.permutation(len(everyone))[: int(REFIT_SHARE * len(everyone))])]
        seen = select_customers(windows, keep)
        space = fit_space(seen, needs=fit.needs, seed=seed)
        centres = KMeans(count, n_init=10, random_state=i).fit(anticipate(space, seen.now).axes).cluster_centers_
        labels.append(nearest_centre(anticipate(space, windows.now).axes.to_numpy(), centres))
    pairs = [adjusted_rand_score(labels[i], labels[j]) for i in range(fits) for j in range(i)]
    return float(np.mean(pairs))


def published(*, count: int = 7, samples: int = 100) -> None:
    """Print the agreement of segments found in samples of 80 % of the households, needs learnt again in each."""
    source, as_of, lookback, horizon = SETS["complete_journey"]
    days, opened, _ = load(source, None)
    period = Period(as_of, lookback_days=lookback, horizon_days=horizon)
    windows = build_fit_data(days, period=period, kinds=opened.kinds)
    fit = fit_segments(windows, budget=Budget(min_segments=count, max_segments=count))
    ari = stability(windows, fit, n_refits=samples).ari[np.triu_indices(samples, 1)]
    family = fit.segmentation.family
    print(
        f"{count} segments ({family}), {samples} samples of 80 %: {ari.mean():.3f} +- {ari.std():.3f}; published .767"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=str(HOME.parent / "shared" / "data"))
    parser.add_argument("--fits", type=int, default=20)
    parser.add_argument("--count", type=int, default=None)
    parser.add_argument("--only", default=None)
    parser.add_argument("--published", action="store_true")
    given = parser.parse_args()
    if given.published:
        published()
        return
    budget = Budget(min_segments=given.count, max_segments=given.count) if given.count else Budget()
    for name, (source, as_of, lookback, horizon) in SETS.items():
        if given.only and given.only != name:
            continue
        data = None if name == "complete_journey" else given.data
        if data and not (Path(data) / f"{name}.parquet").is_file():
            print(f"{name}: left out, no {name}.parquet in {data}")
            continue
        days, opened, people = load(source, data)
        period = Period(as_of + timedelta(horizon), lookback_days=lookback, horizon_days=horizon)
        start = time.process_time()
        groups = attribute_groups(people, roles=opened.roles)
        past = build_training_windows(days, period=period, kinds=opened.kinds)
        windows = past.earlier_fit_data(days=days, period=period)
        fit = fit_segments(windows, budget=budget)
        table = baseline_table(backtest(past, earlier=fit, groups=groups))
        steady = stability(windows, fit, n_refits=given.fits).metrics()
        count = len(fit.segmentation.centres)
        other = kmeans_stability(windows, fit, fits=given.fits)
        customers, family, axes = len(fit.segment_number), fit.segmentation.family, fit.axes.shape[1]
        print(f"\n{name}: {customers:,} customers, {count} segments ({family}), {axes} axes")
        low, high = steady["stability.ari_mean.low"], steady["stability.ari_mean.high"]
        print(f"stability {steady['stability.ari_mean']:.3f} [{low:.3f}, {high:.3f}]; KMeans {other:.3f}")
        shown = ["label", "segments", "customers", "spend_r2", "need_r2", "mix_r2", "active_r2", "verdict"]
        print(table[shown].round(4).to_string())
        print(structure(fit).metrics())
        print(ablation(windows, fit).round(3).to_string(index=False))
        print(f"{time.process_time() - start:.0f} CPU-s")


if __name__ == "__main__":
    main()
