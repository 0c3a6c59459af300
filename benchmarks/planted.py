"""Planted needs: are they found, and is nothing found in a shuffled copy of the same customers?

usage: python benchmarks/planted.py [--customers 10000] [--seed 7] [--pairs 10]
For each made-up world: adjusted Rand index of the segments with the planted needs, of all assigned customers and of
those seen in the last third of the lookback (the lapsed buy nothing next, whatever they needed). The shuffled
copy gives each line the category and amount of a random line: how often customers come stays, what they need goes.
"""

import argparse
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from segments import load
from sklearn.metrics import adjusted_rand_score

from segkit.data.synth import write_scenario
from segkit.period import Period
from segkit.segments.fit import Fit, FitData, build_fit_data, fit_segments
from segkit.segments.validation import N_REFITS, segment_verdict, stability, structure

PERIOD = Period(date(2025, 3, 1), lookback_days=182, horizon_days=91)
RECENT_DAYS = 61  # days: the last third of the lookback
WHAT = ["item", "category", "amount", "quantity", "discount", "cost", "private_label", "channel"]


def shuffled(folder: Path, out: Path, *, seed: int) -> None:
    """The same company, what was bought in each line exchanged with another line of the same kind of event."""
    out.mkdir()
    events = pd.read_parquet(folder / "events.parquet")
    rng = np.random.default_rng(seed)
    for rows in events.groupby("event").indices.values():
        columns = [name for name in WHAT if name in events]
        events.loc[events.index[rows], columns] = events[columns].to_numpy()[rng.permutation(rows)]
    events.to_parquet(out / "events.parquet", index=False)
    for name in ("source.yaml", "customers.csv"):
        (out / name).write_bytes((folder / name).read_bytes())


def fitted(folder: Path) -> tuple[FitData, Fit]:
    days, opened, _ = load(str(folder / "source.yaml"), None)
    windows = build_fit_data(days, period=PERIOD, kinds=opened.kinds)
    return windows, fit_segments(windows)


def proof_text(windows: FitData, fit: Fit, *, pairs: int) -> str:
    """Stability, whether there is structure, and the verdicts."""
    steady = stability(windows, fit, n_refits=N_REFITS["quick"])
    reference = structure(fit, pairs=pairs)
    words = [segment_verdict(j, reference=reference) for j in steady.segments["stability"]]
    counted = pd.Series(words).value_counts()
    figures = reference.metrics()
    found, limit = figures["structure.ari"], figures["structure.reference_ari"]
    verdicts = ", ".join(f"{n} {word}" for word, n in counted.items())
    return f"{steady.mean:.3f} | {found:.3f} | {limit:.3f} | {'yes' if reference.found else 'no'} | {verdicts}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--customers", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--pairs", type=int, default=10)
    given = parser.parse_args()
    print(
        "| world | placed | needs | cut | ARI, all | ARI, recently active | stability | in one space | to beat "
        "| structure | verdicts | CPU |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for scenario in ("retail", "saas"):
        with tempfile.TemporaryDirectory() as held:
            folder = Path(held) / "as_is"
            write_scenario(scenario, customers=given.customers, out=str(folder), seed=given.seed)
            shuffled(folder, Path(held) / "shuffled", seed=given.seed)
            truth = pd.read_parquet(folder / "truth.parquet").set_index("customer_id")["need"]
            for name in ("as_is", "shuffled"):
                start = time.process_time()
                windows, fit = fitted(Path(held) / name)
                need, recent = truth[fit.axes.index], (windows.now.features["recency_days"] <= RECENT_DAYS).to_numpy()
                ari = [adjusted_rand_score(need[rows], fit.segment_number[rows]) for rows in (need == need, recent)]
                shape = f"{fit.segmentation.shape[1]} {fit.segmentation.family}"
                proof = proof_text(windows, fit, pairs=given.pairs)
                spent = time.process_time() - start
                count = 0 if fit.needs is None else len(fit.needs.ids)
                head = f"| {scenario}, {name} | {len(need):,} | {count} | {shape} | {ari[0]:.3f} | {ari[1]:.3f} |"
                print(f"{head} {proof} | {spent:.0f} |", flush=True)


if __name__ == "__main__":
    main()
