"""Forward validity: segments made one horizon ago, judged beside their rivals on what customers did since."""

from datetime import date, timedelta

import pandas as pd

from segkit.customers.days import Days
from segkit.customers.features import Signals
from segkit.customers.outcomes import customer_outcomes
from segkit.customers.terms import most_common, term_weights
from segkit.segments.fit import fit_segments, reaches_back, windows_at
from segkit.segments.judge import MEASURES, MIX_TERMS, compare, forward_truth, verdict
from segkit.segments.rivals import LABELS, rivals
from segkit.segments.search import Budget

KNOWN_SHARE = 0.05  # a rival known for fewer customers than this is left out


def backtest(
    days: Days,
    *,
    as_of: date,
    lookback_days: int,
    horizon_days: int,
    kinds: dict[str, str],
    groups: dict[str, pd.Series] | None = None,
    budget: Budget | None = None,
    seed: int = 7,
) -> pd.DataFrame | None:
    """Make segments as of one horizon ago, and judge them and their rivals on what came since.

    Takes  days: the state; nothing at or after `as_of` is looked at
    Gives  as `judge.compare`, with `label` and `verdict`; None where history is too short (lookback + 2 horizons)

    Parameters
    ----------
    groups : further rivals: name -> group by customer_id (demographics, the segments used today); missing where unknown
    """
    origin = as_of - timedelta(days=horizon_days)
    windows = windows_at(days, as_of=origin, lookback_days=lookback_days, horizon_days=horizon_days, kinds=kinds)
    if windows.then is None:
        return None
    fit = fit_segments(windows, budget=budget, seed=seed)
    came = customer_outcomes(days, start=origin, horizon_days=horizon_days, index=windows.now.features.index)
    words = fit.model.space.words
    truth = forward_truth(came, terms=judged_terms(windows.now, words=words), words=words)
    labels = {"ours": fit.number, **rivals(windows.now, axes=fit.axes, count=len(fit.cut.centres), seed=seed)}
    for name, group in (groups or {}).items():
        codes = group.reindex(windows.now.features.index)
        if codes.notna().mean() >= KNOWN_SHARE:
            labels[name] = codes.to_numpy(dtype=object)
    table = compare(labels, truth, ours="ours", seed=seed)
    table["label"] = [LABELS.get(name, name.replace("_", " ")) for name in table["rival"]]
    table["verdict"] = [verdict(low, high) for low, high in zip(table["lead_low"], table["lead_high"], strict=True)]
    return table


def rivals_table(compared: pd.DataFrame) -> pd.DataFrame:
    """One row per segmentation: rival, label, segments, customers; r2, low, high and verdict (ours against it) by
    measure.

    Takes  a table of `backtest`; a measure that the source lacks is null
    """
    columns = {}
    for measure in MEASURES:
        part = compared[compared["measure"] == measure].set_index("rival")
        for name in ("r2", "low", "high", "lead", "lead_low", "lead_high", "verdict"):
            columns[f"{measure}_{name}"] = part[name]
    head = compared.drop_duplicates("rival").set_index("rival")[["label", "segments", "customers"]]
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
    figures: dict[str, object] = {"forward.reason": None}
    for row in compared.to_dict("records"):
        name = (
            f"forward.{row['measure']}_r2" if row["rival"] == "ours" else f"forward.{row['rival']}.{row['measure']}_r2"
        )
        figures |= {name: row["r2"], f"{name}.low": row["low"], f"{name}.high": row["high"]}
        if row["rival"] != "ours":
            lead = f"forward.{row['rival']}.{row['measure']}_lead"
            figures |= {lead: row["lead"], f"{lead}.low": row["lead_low"], f"{lead}.high": row["lead_high"]}
    return figures


def _sentence(row: dict[str, object]) -> str:
    """Ours against a rival in words, measure by measure."""
    if row["rival"] == "ours":
        return "these segments"
    told = [f"{row[f'{m}_verdict']} on {m}" for m in MEASURES if isinstance(row[f"{m}_verdict"], str)]
    return ", ".join(told)


def history_reason(days: Days, *, as_of: date, lookback_days: int, horizon_days: int) -> str:
    """Why there is no backtest, or "" where there can be one."""
    start = as_of - timedelta(days=lookback_days + 2 * horizon_days)
    if reaches_back(days, start=start, span_days=lookback_days):
        return ""
    first = pd.Timestamp(days.rows.day.min().to_pandas()).date()
    needed, held = lookback_days + 2 * horizon_days, (as_of - first).days
    return f"the proof needs {needed} days of history (lookback and two horizons); there are {held}"


def judged_terms(now: Signals, *, words: bool) -> list[str] | None:
    """The categories, or their words, that most customers had in the lookback: what the mix is judged on."""
    if now.weights is None:
        return None
    weights, names = term_weights(now.weights, list(now.categories), words=words)
    return most_common(weights, names, most=MIX_TERMS, rarest=1)
