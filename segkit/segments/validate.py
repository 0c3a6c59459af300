"""Forward validity: segments made one horizon ago, judged beside their rivals on what customers did since."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from segkit.customers.days import Days
from segkit.customers.features import Signals
from segkit.customers.terms import common_terms
from segkit.data.store import Run
from segkit.period import Period
from segkit.segments.cuts import make_cut
from segkit.segments.fit import Fit, first_active_day, fit_segments, reaches_back
from segkit.segments.judge import MEASURES, MIX_TERMS, compare, forward_truth, verdict
from segkit.segments.past import Past
from segkit.segments.place import nearest
from segkit.segments.rivals import LABELS, rivals
from segkit.segments.search import Budget

KNOWN_SHARE = 0.05  # a rival known for fewer customers than this is left out


def earlier_fit(training: Past, *, budget: Budget | None = None, seed: int = 7) -> Fit | None:
    """Segments as they would have been made one horizon ago; nothing that came since is looked at.

    Gives  Fit; None where history is too short (lookback + 2 horizons)
    """
    windows = training.earlier_fit_data()
    return None if windows is None else fit_segments(windows, budget=budget, seed=seed)


def preferred_cut(previous: Run | None, earlier: Fit | None) -> tuple[str, int] | None:
    """The family and number of segments that stay where no other is better beyond noise: those of the run before, or
    else those that were best one horizon ago.
    """
    if previous is not None and previous.has("frontier"):
        table = previous.table("frontier")
        if "family" in table:
            return tuple(table.loc[table["chosen"], ["family", "segments"]].iloc[0])
    return earlier.segmentation.shape if earlier else None


def backtest(
    training: Past,
    *,
    earlier: Fit | None,
    today: Fit | None = None,
    groups: Mapping[str, pd.Series] | None = None,
    labels: Mapping[str, str] | None = None,
    seed: int = 7,
) -> pd.DataFrame | None:
    """Judge segments of one horizon ago and their rivals on what customers did since.

    Takes  past: what was known one and two horizons ago, and what came; earlier: the segments of `earlier_fit`
    Gives  as `judge.compare`, with `label` and `verdict`; None where there are no earlier segments

    Parameters
    ----------
    today : today's fit; where it has another number of segments, those of then cut into as many are a rival
    groups : further rivals: name -> group by customer_id (demographics, the segments used today, those of the run
        before); missing where unknown
    labels : words for rivals, beside the usual ones
    """
    if earlier is None or training.last is None:
        return None
    now, words = training.last.customers, earlier.model.space.words
    truth = forward_truth(training.last.outcomes, terms=judged_terms(now, words=words), words=words)
    found = {"ours": earlier.segment_number}
    if today is not None and today.segmentation.shape != earlier.segmentation.shape:
        found["as_today"] = _cut_as(today, earlier)
    found |= rivals(now, axes=earlier.axes, count=len(earlier.segmentation.centres), seed=seed)
    for name, group in (groups or {}).items():
        codes = group.reindex(now.features.index)
        if codes.notna().mean() >= KNOWN_SHARE:
            found[name] = codes.to_numpy(dtype=object)
    table = compare(found, truth, reference="ours", seed=seed)
    words_of = LABELS | dict(labels or {})
    table["label"] = [words_of.get(name, name.replace("_", " ")) for name in table["baseline"]]
    table["verdict"] = [verdict(low, high) for low, high in zip(table["lead_low"], table["lead_high"], strict=True)]
    return table


def _cut_as(today: Fit, earlier: Fit) -> np.ndarray:
    """What was found one horizon ago, cut into as many segments as today; the number alone comes from later."""
    points = earlier.axes.to_numpy()
    family, segments = today.segmentation.shape
    cut = make_cut(points[earlier.in_sample], earlier.subsamples, family=family, segments=segments)
    return nearest(points, cut.centres)


def rivals_table(compared: pd.DataFrame) -> pd.DataFrame:
    """One row per segmentation: baseline, label, segments, customers; r2, low, high and verdict (ours against it) by
    measure.

    Takes  a table of `backtest`; a measure that the source lacks is null
    """
    columns = {}
    for measure in MEASURES:
        part = compared[compared["measure"] == measure].set_index("baseline")
        for name in ("r2", "low", "high", "lead", "lead_low", "lead_high", "verdict"):
            columns[f"{measure}_{name}"] = part[name]
    head = compared.drop_duplicates("baseline").set_index("baseline")[["label", "segments", "customers"]]
    table = head.join(pd.DataFrame(columns).reindex(head.index)).reset_index()
    table["verdict"] = [_sentence(row) for row in table.to_dict("records")]
    return table


def proof_figures(compared: pd.DataFrame | None, *, reason: str) -> dict[str, object]:
    """The headline numbers of the backtest, flat: forward.spend_r2 and .low, .high, forward.rfm25.spend_r2, ...;
    null with the reason.
    """
    if compared is None:
        return {f"forward.{m}_r2{part}": None for m in MEASURES for part in ("", ".low", ".high")} | {
            "forward.reason": reason
        }
    count = compared.loc[compared["baseline"] == "ours", "segments"].max()
    figures: dict[str, object] = {"forward.reason": None, "forward.segments": count}
    for row in compared.to_dict("records"):
        of = "" if row["baseline"] == "ours" else f"{row['baseline']}."
        name = f"forward.{of}{row['measure']}_r2"
        figures |= {name: row["r2"], f"{name}.low": row["low"], f"{name}.high": row["high"]}
        if row["baseline"] != "ours":
            lead = f"forward.{row['baseline']}.{row['measure']}_lead"
            figures |= {lead: row["lead"], f"{lead}.low": row["lead_low"], f"{lead}.high": row["lead_high"]}
    return figures


def _sentence(row: dict[str, object]) -> str:
    """Ours against a rival in words, measure by measure."""
    if row["baseline"] == "ours":
        return "these segments"
    verdicts = [f"{row[f'{m}_verdict']} on {m}" for m in MEASURES if isinstance(row[f"{m}_verdict"], str)]
    return ", ".join(verdicts)


def history_reason(days: Days, *, period: Period) -> str:
    """Why there is no backtest, or "" where there can be one."""
    if reaches_back(days, period=period.one_horizon_back().one_horizon_back()):
        return ""
    needed = period.lookback_days + 2 * period.horizon_days
    available_days = (period.as_of - (first_active_day(days) or period.as_of)).days
    return f"the proof needs {needed} days of history (lookback and two horizons); there are {available_days}"


def judged_terms(now: Signals, *, words: bool) -> list[str] | None:
    """The categories, or their words, that most customers had in the lookback: what the mix is judged on."""
    if now.weights is None:
        return None
    return common_terms(now.weights, now.categories, words=words, most=MIX_TERMS, rarest=1)[-1]
