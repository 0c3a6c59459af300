"""What it costs that customers at a border keep their segment: who keeps it, and what is predicted, by margin.

usage: python benchmarks/staying.py [--data DIR]
Segments found at one date; everyone assigned a month later under them, with several margins (the product's are
`BORDER_WIDTH` within a level and `LEVEL_BORDER` between levels, of `segkit.segments.model`; both grow together), and
scored on what they did from then to the end of the data. A cost is in adjusted R2, compared with assigning to the level
and the nearest centre in it, with its 95 % interval (customers resampled in pairs).
DIR holds online_retail.parquet (../shared/data by default); without it that set is skipped with the reason.
"""

import argparse
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
from segments import HOME, SETS, load

from segkit.customers.features import customer_data, customer_outcomes
from segkit.period import Period
from segkit.segments import model
from segkit.segments.fit import build_fit_data, fit_segments
from segkit.segments.lineage import align_to_model
from segkit.segments.model import assign_points, assign_segments
from segkit.segments.scoring import compare_segmentations, scoring_outcomes
from segkit.segments.validation import scoring_terms

MARGINS = ((0.0, 0.0), (0.05, 0.075), (0.1, 0.15), (0.15, 0.225), (0.2, 0.3), (0.3, 0.45), (0.1, 0.0), (0.0, 0.15))
CASES = (  # source, found, placed, lookback and horizon that are learnt with, days scored
    ("complete_journey", date(2017, 10, 1), date(2017, 11, 1), 182, 91, 61),
    ("online_retail", date(2011, 9, 1), date(2011, 10, 1), 190, 70, 69),
)


def main() -> None:
    """Print a row for each margin and data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HOME.parent / "shared" / "data")
    given = parser.parse_args()
    print(
        "| data | margins | kept | cost in spend [95 %] | in need [95 %] | in mix [95 %] |\n|---|---|---|---|---|---|"
    )
    for name, *case in CASES:
        data = None if name == "complete_journey" else str(given.data)
        if data and not (given.data / f"{name}.parquet").is_file():
            print(f"{name}: left out, no {name}.parquet in {data}")
            continue
        _print_case(name, *case, data=data)


def _print_case(
    name: str, found: date, placed: date, lookback: int, horizon: int, scored_days: int, *, data: str | None
) -> None:
    days, opened, _ = load(SETS[name][0], data)
    period = Period(found, lookback_days=lookback, horizon_days=horizon)
    windows = build_fit_data(days, period=period, kinds=opened.kinds)
    fit = fit_segments(windows)
    home = assign_points(fit.model, fit.axes)["segment"]
    now = align_to_model(fit.model, customer_data(days, period=replace(period, as_of=placed), kinds=opened.kinds))
    labels = {}
    for model.BORDER_WIDTH, model.LEVEL_BORDER in MARGINS:
        labels[f"{model.BORDER_WIDTH:.2f}, {model.LEVEL_BORDER:.3f}"] = assign_segments(
            fit.model, now, previous_segment=home
        )["segment"].to_numpy()
    observed = customer_outcomes(days, start=placed, horizon_days=scored_days, index=now.features.index)
    words = fit.model.space.words
    truth = scoring_outcomes(observed, needs=fit.needs, terms=scoring_terms(now, words=words), words=words)
    table = compare_segmentations(labels, truth, reference=next(iter(labels))).set_index(["baseline", "measure"])
    both = now.features.index.isin(home.index)
    before = home.reindex(now.features.index).to_numpy()
    for margin, label in labels.items():
        kept = np.mean(label[both] == before[both])
        costs = [_cost(table.loc[(margin, measure)]) for measure in ("spend", "need", "mix")]
        print(f"| {name}, {both.sum():,} customers | {margin} | {kept:.3f} | {' | '.join(costs)} |", flush=True)


def _cost(row: object) -> str:
    return f"{row['lead']:.4f} [{row['lead_low']:.4f}, {row['lead_high']:.4f}]"


if __name__ == "__main__":
    main()
