"""Customers by need and level: the segments of two retailers and of the made-up worlds, as a table one can read.

usage: python benchmarks/matrix.py [--data DIR] [--customers 3000]
A cell is a segment; a level that is whole has its customers in the last row. In a made-up world each cell also shows
the planted need that most of its customers have, with their share, and so does the name of the need.
DIR holds online_retail.parquet (../shared/data by default); without it that set is skipped with the reason.
"""

import argparse
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from planted import PERIOD
from segments import HOME, SETS, load

from segkit.data.synth import write_scenario
from segkit.notebook.profiling import name_learnt_needs
from segkit.period import Period
from segkit.personas.naming import NO_NEED, level_names, member_stages
from segkit.segments.fit import build_fit_data, fit_segments

CASES = {
    "complete_journey": Period(date(2018, 1, 1), lookback_days=182, horizon_days=91),
    "online_retail": Period(date(2011, 12, 1), lookback_days=190, horizon_days=70),
}


def main() -> None:
    """Print one matrix for each data set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HOME.parent / "shared" / "data")
    parser.add_argument("--customers", type=int, default=3000)
    given = parser.parse_args()
    for name, period in CASES.items():
        data = None if name == "complete_journey" else str(given.data)
        if data and not (given.data / f"{name}.parquet").is_file():
            print(f"{name}: left out, no {name}.parquet in {data}")
            continue
        _print_matrix(name, SETS[name][0], data, period=period, truth=None)
    for scenario in ("retail", "saas"):
        with tempfile.TemporaryDirectory() as held:
            write_scenario(scenario, customers=given.customers, out=held, seed=7)
            truth = pd.read_parquet(Path(held) / "truth.parquet").set_index("customer_id")["need"]
            _print_matrix(scenario, str(Path(held) / "source.yaml"), None, period=PERIOD, truth=truth)


def _print_matrix(name: str, source: str, data: str | None, *, period: Period, truth: pd.Series | None) -> None:
    days, opened, _ = load(source, data)
    windows = build_fit_data(days, period=period, kinds=opened.kinds)
    fit = fit_segments(windows)
    model, index = fit.model, fit.axes.index
    names = {} if fit.needs is None else name_learnt_needs(fit.needs, previous=None, labels=opened.labels)["name"]
    segment = pd.Series(np.array(model.segments, dtype=object)[fit.segment_number], index=index)
    table = pd.DataFrame({"segment": model.segments, "macro_segment": model.macro, "need": model.need})
    table["customers"] = table["segment"].map(segment.value_counts()).fillna(0).astype(int)
    table["level"] = level_names(table, stages=member_stages(windows.now.features, segment)).to_numpy()
    table["need"] = [names[need] if need else NO_NEED for need in table["need"]]
    table["cell"] = [_cell(row.segment, row.customers, segment=segment, truth=truth) for row in table.itertuples()]
    wide = table.pivot_table(index="need", columns="macro_segment", values="cell", aggfunc="first").fillna("-")
    order = table.groupby("need")["customers"].sum().drop(NO_NEED, errors="ignore").sort_values(ascending=False)
    wide = wide.loc[[*order.index, *(n for n in wide.index if n == NO_NEED)]]
    wide.columns = [f"{macro} {table.set_index('macro_segment').loc[[macro], 'level'].iloc[0]}" for macro in wide]
    print(f"\n{name}, as of {period.as_of}: {len(index):,} customers, {len(table)} segments\n")
    print(wide.rename_axis(None).to_string(), flush=True)


def _cell(segment_id: str, customers: int, *, segment: pd.Series, truth: pd.Series | None) -> str:
    if truth is None:
        return f"{customers:,}"
    shares = truth.reindex(segment.index[segment == segment_id]).value_counts(normalize=True)
    return f"{customers:,} ({shares.index[0]} {shares.iloc[0]:.0%})"


if __name__ == "__main__":
    main()
