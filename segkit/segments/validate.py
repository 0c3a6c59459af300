"""The proof: stability under resampling, and forward validity out of time beside the rivals."""

from dataclasses import dataclass
from datetime import date, timedelta
from itertools import combinations

import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

from segkit.customers.days import Days
from segkit.customers.features import Signals
from segkit.customers.outcomes import customer_outcomes
from segkit.customers.terms import most_common, term_weights
from segkit.segments.fit import Fit, Windows, fit_segments, reaches_back, windows_at
from segkit.segments.judge import MEASURES, MIX_TERMS, compare, forward_truth, verdict
from segkit.segments.rivals import LABELS, rivals
from segkit.segments.search import Budget

FITS = {"quick": 5, "full": 20}  # refits for stability
SUBSAMPLE = 0.8
UNSTABLE_BELOW, REPRODUCIBLE_FROM = 0.5, 0.6  # Jaccard (Hennig 2007; Dolnicar & Leisch 2010)
KNOWN_SHARE = 0.05  # a rival known for fewer customers than this is left out


@dataclass(frozen=True)
class Stability:
    """Agreement of refits: `ari` of each pair; per segment the mean Jaccard with its best match, low and high
    over refits.
    """

    ari: np.ndarray
    segments: pd.DataFrame

    def figures(self) -> dict[str, float]:
        """stability.ari_mean with its range over the pairs, and the number of refits' pairs."""
        low, high = np.percentile(self.ari, [2.5, 97.5])
        return {
            "stability.ari_mean": self.ari.mean(),
            "stability.ari_mean.low": low,
            "stability.ari_mean.high": high,
            "stability.pairs": len(self.ari),
        }


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
    truth = forward_truth(came, terms=_judged_terms(windows.now, words=fit.model.space.words))
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


def stability(windows: Windows, fit: Fit, *, fits: int = FITS["quick"], seed: int = 7) -> Stability:
    """Refit everything on subsamples of customers, place everyone, and see who stays together.

    Takes  windows; number: the segments to be tested, of everyone in `windows.now`
    Gives  Stability, for the same count of segments: adjusted Rand index of each pair of refits; Jaccard of each
           segment with its best match in each refit

    Parameters
    ----------
    fits : refits; more narrow the interval
    """
    count = len(fit.cut.centres)
    budget = Budget(fewest=count, most=count, smallest_share=0.0, families=(fit.cut.family,))
    everyone = windows.now.features.index
    if windows.then is not None:
        everyone = everyone.union(windows.then.features.index)
    labels = []
    for i in range(fits):
        rng = np.random.default_rng([seed, 1000 + i])
        keep = everyone[np.sort(rng.permutation(len(everyone))[: int(SUBSAMPLE * len(everyone))])]
        labels.append(fit_segments(windows, keep=keep, budget=budget, seed=seed + 101 * (i + 1)).number)
    ari = np.array([adjusted_rand_score(a, b) for a, b in combinations(labels, 2)])
    best = np.array([best_jaccard(fit.number, other) for other in labels])
    table = pd.DataFrame(
        {"stability": best.mean(axis=0), "stability_low": best.min(axis=0), "stability_high": best.max(axis=0)}
    )
    return Stability(ari=ari, segments=table)


def best_jaccard(number: np.ndarray, other: np.ndarray) -> np.ndarray:
    """For each group, intersection over union with the group of another segmentation that matches it best."""
    table = pd.crosstab(number, other).to_numpy()
    union = table.sum(axis=1)[:, None] + table.sum(axis=0)[None, :] - table
    return (table / union).max(axis=1)


def stability_verdict(jaccard: float) -> str:
    """Unstable below .5, reproducible from .6, constructed between; natural needs the structure test."""
    if np.isnan(jaccard):
        return "not tested"
    if jaccard < UNSTABLE_BELOW:
        return "unstable"
    return "reproducible" if jaccard >= REPRODUCIBLE_FROM else "constructed"


def history_reason(days: Days, *, as_of: date, lookback_days: int, horizon_days: int) -> str:
    """Why there is no backtest, or "" where there can be one."""
    start = as_of - timedelta(days=lookback_days + 2 * horizon_days)
    if reaches_back(days, start=start, span_days=lookback_days):
        return ""
    first = pd.Timestamp(days.rows.day.min().to_pandas()).date()
    needed, held = lookback_days + 2 * horizon_days, (as_of - first).days
    return f"the proof needs {needed} days of history (lookback and two horizons); there are {held}"


def _judged_terms(now: Signals, *, words: bool) -> list[str] | None:
    """The categories, or words, that most customers had in the lookback."""
    if now.weights is None:
        return None
    weights, names = term_weights(now.weights, list(now.categories), words=words)
    return most_common(weights, names, most=MIX_TERMS, rarest=1)
