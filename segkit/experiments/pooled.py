"""Pool earlier read-outs into what is known of each type of action."""

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from segkit.data.io import read_json
from segkit.data.runs import Run
from segkit.errors import InputError
from segkit.experiments.design import TREATMENT
from segkit.experiments.estimate import ALPHA
from segkit.vocabulary import EVERYONE

NO_TYPE = ("", "none")  # an idea of one's own is of no type
USUAL_SPREAD = 0.04  # of relative effects of tests of one type, beyond chance, before any is known
USUAL_TESTS = 3  # that this assumption counts for
LEAST_SIGNAL = 1.0  # variance between types that is assumed at least, as a share of the noise of their means
WORKS, FAILS, OPEN = "works", "does not work", "open"
ORDER = {WORKS: 0, OPEN: 1, FAILS: 2}  # in which types are tried next
TESTS = ("pilot", "type", "kpi", "end", "customers", "effect", "error")
POOLED = ("type", "kpi", "tests", "customers", "effect", "effect_low", "effect_high", "verdict")


def pool_readouts(run: Run) -> pd.DataFrame:
    """Pool the read-outs of the pilots next to a run that had ended before its date; see `pool_tests`."""
    return pool_tests(past_tests(run.path.parent / "pilots", before=run.period.as_of))


def past_tests(folder: Path, *, before: date) -> pd.DataFrame:
    """Read the tests of opportunities in a folder of pilots that were read out.

    Parameters
    ----------
    folder
        It has a folder for each pilot; it may be missing.
    before
        Tests whose last day is this or later are left out: as of this date they were not known.

    Returns
    -------
    DataFrame
        `TESTS`: a row for each test, in the order of its folder: the effect as a share of the mean of the control, and
        its standard error.

    Raises
    ------
    InputError
        A file is no read-out.
    """
    rows = []
    for path in sorted(folder.glob("*/readout/readout.json")):
        try:
            rows.append(_test_of(read_json(path), design=read_json(path.parents[1] / "pilot.json")))
        except (KeyError, TypeError, ValueError, OSError):
            raise InputError(f"{path}: it is no read-out of a pilot. Remove it, or run segkit readout again.") from None
    found = pd.DataFrame([{"pilot": one.pop("pilot"), **one} for one in rows if one], columns=list(TESTS))
    return found[found["end"] < before.isoformat()].reset_index(drop=True)


def _test_of(content: dict[str, Any], *, design: dict[str, Any]) -> dict[str, Any]:
    """Return the row of a read-out; none where the type of its action or the size of its effect is not known."""
    type_, rows = design.get("action", {}).get("type", ""), pd.DataFrame(content["segments"])
    rows = rows[rows["segment"] == EVERYONE] if (rows["segment"] == EVERYONE).any() else rows
    lift, error, mean = (rows[name].astype(float).to_numpy() for name in ("lift", "se", "control_mean"))
    if type_ in NO_TYPE or not (np.isfinite(lift).all() and (error > 0).all() and (mean > 0).all()):
        return {}
    treated = rows["treated"].astype(int).sum() if rows.get("arm", pd.Series([TREATMENT])).nunique() > 1 else None
    size = int(rows["control"].max() + (rows["treated"].max() if treated is None else treated))
    return {
        "pilot": str(content["run"]["assignments"]),
        "type": type_,
        "kpi": content["kpi"],
        "end": content["end"],
        "customers": size,
        "effect": float(np.mean(lift / mean)),
        "error": float(np.max(error / mean)),  # arms share the control, so their mean is hardly more exact than one
    }


def by_segment(pooled: pd.DataFrame, *, actions: pd.DataFrame, kpi: str) -> dict[str, dict[str, Any]]:
    """Return for each segment what is known of the type of its best opportunity: the row of the pooled table.

    `actions`: the table ``actions``; a segment whose best opportunity was never tested is left out.
    """
    known = pooled[pooled["kpi"] == kpi].set_index("type").to_dict("index")
    best: dict[str, str] = {}
    for joined, type_ in actions[["joined", "type"]].to_numpy():
        for segment in joined.split():
            best.setdefault(segment, type_)
    return {segment: known[type_] for segment, type_ in best.items() if type_ in known}


def pool_tests(tests: pd.DataFrame) -> pd.DataFrame:
    """Pool tests into one effect for each type of action and KPI.

    Tests of a type differ by chance and by what was done (random effects; DerSimonian & Laird 1986): how much they do
    is estimated from all types together, as there are few tests of each, and from what is usual. The means of the types
    are then shrunk towards each other (empirical Bayes; Morris 1983).

    Parameters
    ----------
    tests
        As from `past_tests`.

    Returns
    -------
    DataFrame
        `POOLED`: effects as shares of the control, with 95 % intervals; the verdict says whether the interval lies
        above zero (works), at or below it (does not work), or neither (open).
    """
    rows = []
    for kpi, own in tests.groupby("kpi", sort=True):
        for type_, found in zip(sorted(own["type"].unique()), _pool(own), strict=True):
            mine = own[own["type"] == type_]
            low, high = found[1], found[2]
            verdict = WORKS if low > 0 else FAILS if high <= 0 else OPEN
            rows.append((type_, kpi, len(mine), int(mine["customers"].sum()), *found, verdict))
    table = pd.DataFrame(rows, columns=list(POOLED))
    kinds = dict.fromkeys(("tests", "customers"), "int64") | dict.fromkeys(("type", "kpi", "verdict"), object)
    return table.astype(kinds | dict.fromkeys(("effect", "effect_low", "effect_high"), float))


def _pool(tests: pd.DataFrame) -> list[tuple[float, float, float]]:
    """Return the effect of each type in alphabetical order, with its interval."""
    effect, error = tests["effect"].to_numpy(), tests["error"].to_numpy()
    type_ = pd.factorize(tests["type"], sort=True)[0]
    types, spare = int(type_.max()) + 1, len(tests) - int(type_.max()) - 1
    within = max(_spread_within(effect, error, type_=type_), 0.0)
    spread = (USUAL_TESTS * USUAL_SPREAD**2 + spare * within) / (USUAL_TESTS + spare)
    weight = 1 / (error**2 + spread)
    noise = 1 / np.bincount(type_, weight)
    mean = np.bincount(type_, weight * effect) * noise
    variance = noise
    if types > 1:
        signal = max(float(mean.var(ddof=1) - noise.mean()), LEAST_SIGNAL * float(noise.mean()))
        centre, kept = float(np.average(mean, weights=1 / noise)), signal / (signal + noise)
        moved = (1 - kept) ** 2 * (1 / (1 / noise).sum() + 3 * (mean - centre) ** 2 / (types - 1))
        mean, variance = centre + kept * (mean - centre), kept * noise + moved
    half = stats.t.isf(ALPHA / 2, USUAL_TESTS + spare) * np.sqrt(variance)
    return [(float(m), float(m - h), float(m + h)) for m, h in zip(mean, half, strict=True)]


def _spread_within(effect: np.ndarray, error: np.ndarray, *, type_: np.ndarray) -> float:
    """Return the variance of the effects of one type beyond chance, from all types, by the method of moments."""
    weight = 1 / error**2
    total = np.bincount(type_, weight)
    mean = np.bincount(type_, weight * effect) / total
    excess = (weight * (effect - mean[type_]) ** 2).sum() - (len(effect) - len(total))
    scale = (total - np.bincount(type_, weight**2) / total).sum()
    return float(excess / scale) if scale > 0 else 0.0
