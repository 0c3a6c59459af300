"""Who keeps their segment from month to month on Complete Journey: under an unchanged model, and after refits.

Under the last model twice: assigned to the nearest centre, and by the product's rule, under which customers near a
border keep their segment.

usage: python benchmarks/months.py [--months 4] [--free]
--free: each refit chooses its family and number of segments again, rather than keeping them where that is as good.
"""

import argparse
from datetime import date

import numpy as np
import pandas as pd
from segments import load

from segkit.period import Period
from segkit.segments.clustering import Budget
from segkit.segments.fit import build_fit_data, fit_segments
from segkit.segments.lineage import match_segments, segments_under_model

MONTHS = (date(2017, 10, 1), date(2017, 11, 1), date(2017, 12, 1), date(2018, 1, 1))
DAYS = {"lookback_days": 182, "horizon_days": 91}


def kept(before: pd.Series, after: pd.Series) -> str:
    """Share of those there at both dates whose segment is the same."""
    both = before.index.intersection(after.index)
    return f"{(before[both] == after[both]).mean():.3f} of {len(both):,}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=len(MONTHS))
    parser.add_argument("--free", action="store_true")
    given = parser.parse_args()
    days, opened, _ = load("complete_journey", None)
    first, model, before, used, shape = None, None, None, 0, None
    print(
        "| as of | cut | under the first model, since then | under the last model, nearest | as placed "
        "| after the refit | ids kept |"
    )
    print("|---|---|---|---|---|---|---|")
    for day in MONTHS[: given.months]:
        windows = build_fit_data(days, period=Period(day, **DAYS), kinds=opened.kinds)
        fit = fit_segments(windows, budget=Budget(prefer=None if given.free else shape))
        row = [""] * 5
        if model is not None:
            since = kept(first[1], segments_under_model(first[0], windows.now))
            old = set(model.segments)
            nearest = kept(before, segments_under_model(model, windows.now))
            about = {
                "now": windows.now,
                "old": model,
                "previous_segment": before,
                "used": used,
                "as_of": day.isoformat(),
            }
            fit, standing, _ = match_segments(fit, **about)
            now = pd.Series(np.array(fit.model.segments)[fit.segment_number], index=fit.axes.index)
            ids = f"{len(old & set(fit.model.segments))} of {len(old)}"
            row = [since, nearest, kept(before, standing), kept(before, now), ids]
        model, shape = fit.model, fit.segmentation.shape
        used = max(used, *(int(s[1:]) for s in model.segments))
        before = pd.Series(np.array(model.segments)[fit.segment_number], index=fit.axes.index)
        first = first or (model, before)
        print(f"| {day} | {shape[1]} {shape[0]} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
