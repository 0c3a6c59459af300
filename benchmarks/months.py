"""Who keeps their segment from month to month, whose move lasts, and which names stay: segments kept, and after refits.

Segments of the first month are kept for a whole horizon, as `segkit run --auto` does at most; customers are assigned to
the nearest centre, and by the product's rule, under which customers near a border keep their segment. Then segments are
searched again each month, with the needs, ids and names of the month before.

usage: python benchmarks/months.py [--data DIR] [--months 4] [--free]
DIR holds online_retail.parquet (../shared/data by default); without it that set is skipped with the reason.
--free: each refit chooses its family and number of segments again, rather than keeping them where that is as good.
"""

import argparse
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from segments import HOME, SETS, load
from staying import share_that_lasts

from segkit.customers.days import Days
from segkit.customers.features import CustomerData, customer_data
from segkit.customers.needs import Needs
from segkit.data.sources import Source
from segkit.notebook.profiling import name_learnt_needs
from segkit.period import Period
from segkit.personas.naming import earlier_names, level_names, member_stages, name_segments
from segkit.segments.clustering import Budget
from segkit.segments.fit import Fit, build_fit_data, fit_needs, fit_segments
from segkit.segments.lineage import inherit_names, match_segments, segments_under_model
from segkit.segments.model import SegmentModel

CASES = {  # source -> months, lookback and horizon
    "complete_journey": ((date(2017, 10, 1), date(2017, 11, 1), date(2017, 12, 1), date(2018, 1, 1)), 182, 91),
    "online_retail": ((date(2011, 9, 1), date(2011, 10, 1), date(2011, 11, 1), date(2011, 12, 1)), 190, 70),
}


@dataclass(frozen=True)
class Month:
    """Segments at one date: the fit with its final ids, each customer's segment, and the table of names."""

    fit: Fit
    segment: pd.Series
    named: pd.DataFrame


def main() -> None:
    """Print one table of kept segments and one of refits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=HOME.parent / "shared" / "data")
    parser.add_argument("--months", type=int, default=4)
    parser.add_argument("--free", action="store_true")
    given = parser.parse_args()
    for name, (months, lookback, horizon) in CASES.items():
        data = None if name == "complete_journey" else str(given.data)
        if data and not (given.data / f"{name}.parquet").is_file():
            print(f"{name}: left out, no {name}.parquet in {data}")
            continue
        days, opened, _ = load(SETS[name][0], data)
        period = Period(months[0], lookback_days=lookback, horizon_days=horizon)
        first = _refit(days, opened, period=period, before=None, free=given.free)
        print(f"\n{name}, segments of {months[0]} kept ({first.fit.segmentation.shape[1]})\n")
        print(
            "| as of | nearest, since last month | as assigned | since the first | moves that last | names that stay |"
        )
        print("|---|---|---|---|---|---|")
        _print_kept(days, opened, first, months=months[1 : given.months], period=period)
        print(f"\n{name}, searched again each month\n")
        print("| as of | cut | same segment | ids kept | of these, same name | same need | needs that continue |")
        print("|---|---|---|---|---|---|---|")
        before = first
        for month in months[1 : given.months]:
            now = _refit(days, opened, period=replace(period, as_of=month), before=before, free=given.free)
            print(f"| {month} | {_compare(before, now)} |", flush=True)
            before = now


def _print_kept(days: Days, opened: Source, first: Month, *, months: tuple[date, ...], period: Period) -> None:
    model, chain, nearest, named = first.fit.model, [first.segment], first.segment, first.named
    for month in months:
        now = customer_data(days, period=replace(period, as_of=month), kinds=opened.kinds)
        chain.append(segments_under_model(model, now, previous_segment=chain[-1]))
        nearest, before = segments_under_model(model, now), nearest
        lasts = f"{share_that_lasts(*chain[-3:]):.3f}" if len(chain) > 2 else ""
        table = _name(model, now, chain[-1], needs=first.fit.needs, opened=opened, earlier=named)
        stay = (table["name"] == named["name"].reindex(table.index)).mean()
        row = kept(before, nearest), kept(chain[-2], chain[-1]), kept(chain[0], chain[-1]), lasts, f"{stay:.2f}"
        print(f"| {month} | {' | '.join(row)} |", flush=True)
        named = table


def _refit(days: Days, opened: Source, *, period: Period, before: Month | None, free: bool) -> Month:
    windows = build_fit_data(days, period=period, kinds=opened.kinds)
    shape = before.fit.segmentation.shape if before and not free else None
    needs = fit_needs(windows, previous=before.fit.needs if before else None)
    fit = fit_segments(windows, budget=Budget(prefer=shape), needs=needs)
    if before:
        used = max(int(s[1:]) for s in [*before.named.index, *before.fit.model.segments])
        about = {"used": used, "as_of": period.as_of.isoformat(), "previous_segment": before.segment}
        fit = match_segments(fit, now=windows.now, old=before.fit.model, **about)[0]
    segment = pd.Series(np.array(fit.model.segments, dtype=object)[fit.segment_number], index=fit.axes.index)
    earlier = before.named if before else None
    return Month(fit, segment, _name(fit.model, windows.now, segment, needs=needs, opened=opened, earlier=earlier))


def _name(
    model: SegmentModel,
    now: CustomerData,
    segment: pd.Series,
    *,
    needs: Needs,
    opened: Source,
    earlier: pd.DataFrame | None,
) -> pd.DataFrame:
    """Name, level, need and need_name by segment, as a run names them; habits set no names apart here."""
    texts = name_learnt_needs(needs, previous=None, labels=opened.labels)["name"].to_dict()
    if earlier is not None:
        texts |= {need: text for need, text in zip(earlier["need"], earlier["need_name"], strict=True) if need in texts}
    table = pd.DataFrame({"segment": model.segments, "macro_segment": model.macro, "need": model.need})
    table["customers"] = table["segment"].map(segment.value_counts()).fillna(0)
    levels = level_names(table, stages=member_stages(now.features, segment))
    named = name_segments(levels, table.set_index("segment")["need"].map(texts))
    named["level"], named["need"] = levels, table.set_index("segment")["need"].replace("", None)
    old = None if earlier is None else earlier.reset_index()
    named["name"] = named.index.map(inherit_names(named["name"].to_dict(), earlier_names(old, now=named)))
    return named


def _compare(before: Month, now: Month) -> str:
    both = now.named.index.intersection(before.named.index)
    old, new = before.named.loc[both], now.named.loc[both]
    same_name = (old["name"] == new["name"]).mean()
    same_need = (old["need"].fillna("") == new["need"].fillna("")).mean()
    stay = np.mean([need in now.fit.needs.ids for need in before.fit.needs.ids])
    shape = now.fit.segmentation.shape
    ids = f"{len(both)} of {len(before.named)}"
    cells = kept(before.segment, now.segment), ids, f"{same_name:.2f}", f"{same_need:.2f}", f"{stay:.2f}"
    return f"{shape[1]} {shape[0]} | {' | '.join(cells)}"


def kept(before: pd.Series, after: pd.Series) -> str:
    """Share of those there at both dates whose segment is the same."""
    both = before.index.intersection(after.index)
    return f"{(before[both] == after[both]).mean():.3f} of {len(both):,}"


if __name__ == "__main__":
    main()
