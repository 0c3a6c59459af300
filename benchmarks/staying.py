"""What it costs that customers at a border keep their segment: who keeps it, whose move lasts, and what is predicted.

usage: python benchmarks/staying.py [--data DIR]
Segments found at one date; everyone assigned a month later under them, and a month after that, with several margins
(the product's are `BORDER_WIDTH` within a level and `LEVEL_BORDER` between levels, of `segkit.segments.model`).
*Moves that last*: of those who moved in the first month, the share that is still where they moved to in the second.
Customers are scored on what they did from the first month to the end of the data. A cost is in adjusted R2, compared
with assigning to the level and the nearest centre in it, with its 95 % interval (customers resampled in pairs).
DIR holds online_retail.parquet (../shared/data by default); without it that set is skipped with the reason.
"""

import argparse
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from segments import HOME, SETS, load

from segkit.customers.features import customer_data, customer_outcomes
from segkit.period import Period
from segkit.segments import model
from segkit.segments.fit import build_fit_data, fit_segments
from segkit.segments.lineage import align_to_model
from segkit.segments.model import assign_points, assign_segments
from segkit.segments.moves import customer_moves, segment_places
from segkit.segments.scoring import compare_segmentations, scoring_outcomes
from segkit.segments.validation import scoring_terms

MARGINS = ((0.0, 0.0), (0.1, 0.1), (0.25, 0.1), (0.1, 0.13), (0.25, 0.13), (0.4, 0.13), (0.25, 0.15), (0.25, 0.3))
CASES = (  # source, found, a month later, two months later, lookback and horizon that are learnt with, days scored
    ("complete_journey", date(2017, 10, 1), date(2017, 11, 1), date(2017, 12, 1), 182, 91, 61),
    ("online_retail", date(2011, 9, 1), date(2011, 10, 1), date(2011, 11, 1), 190, 70, 69),
)


def main() -> None:
    """Print a row for each margin and data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HOME.parent / "shared" / "data")
    given = parser.parse_args()
    print(
        "| data | margins | kept | change of level / need alone | moves that last | cost in spend [95 %] "
        "| in need [95 %] | in mix [95 %] |\n|---|---|---|---|---|---|---|---|"
    )
    for name, *case in CASES:
        data = None if name == "complete_journey" else str(given.data)
        if data and not (given.data / f"{name}.parquet").is_file():
            print(f"{name}: left out, no {name}.parquet in {data}")
            continue
        _print_case(name, *case, data=data)


def _print_case(
    name: str, found: date, month: date, later: date, lookback: int, horizon: int, scored_days: int, *, data: str | None
) -> None:
    days, opened, _ = load(SETS[name][0], data)
    period = Period(found, lookback_days=lookback, horizon_days=horizon)
    fit = fit_segments(build_fit_data(days, period=period, kinds=opened.kinds))
    home, places = assign_points(fit.model, fit.axes)["segment"], segment_places(fit.model)
    now, then = (
        align_to_model(fit.model, customer_data(days, period=replace(period, as_of=day), kinds=opened.kinds))
        for day in (month, later)
    )
    labels, rows = {}, {}
    for model.BORDER_WIDTH, model.LEVEL_BORDER in MARGINS:
        margin = f"{model.BORDER_WIDTH:.2f}, {model.LEVEL_BORDER:.2f}"
        placed = assign_segments(fit.model, now, previous_segment=home)["segment"]
        last = assign_segments(fit.model, then, previous_segment=placed)["segment"]
        labels[margin], rows[margin] = placed.to_numpy(), _moves(home, placed, last, places=places)
    observed = customer_outcomes(days, start=month, horizon_days=scored_days, index=now.features.index)
    words = fit.model.space.words
    truth = scoring_outcomes(observed, needs=fit.needs, terms=scoring_terms(now, words=words), words=words)
    table = compare_segmentations(labels, truth, reference=next(iter(labels))).set_index(["baseline", "measure"])
    both = home.index.intersection(now.features.index)
    for margin, row in rows.items():
        costs = [_cost(table.loc[(margin, measure)]) for measure in ("spend", "need", "mix")]
        print(f"| {name}, {len(both):,} customers | {margin} | {row} | {' | '.join(costs)} |", flush=True)


def _moves(home: pd.Series, placed: pd.Series, last: pd.Series, *, places: pd.DataFrame) -> str:
    """Share who keep their segment, moves by what changed, and the share of moves that last."""
    moves = customer_moves(home, placed, placed, places=places)
    moves = moves[~moves["cause"].isin(("joined", "left"))].set_index("customer_id")
    moved = moves[moves["cause"] == "customer"]
    level = moved["level_change"].notna()
    lasts = share_that_lasts(home, placed, last)
    return f"{1 - len(moved) / len(moves):.3f} | {level.sum()} / {(~level).sum()} | {lasts:.3f}"


def share_that_lasts(before: pd.Series, now: pd.Series, later: pd.Series) -> float:
    """Share of those who moved, and are still there a month later, who are where they moved to."""
    there = before.index.intersection(now.index).intersection(later.index)
    moved = there[(before[there] != now[there]).to_numpy()]
    return float(np.mean(now[moved] == later[moved])) if len(moved) else float("nan")


def _cost(row: pd.Series) -> str:
    return f"{row['lead']:.4f} [{row['lead_low']:.4f}, {row['lead_high']:.4f}]"


if __name__ == "__main__":
    main()
