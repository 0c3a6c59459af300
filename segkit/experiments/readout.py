"""Read out a pilot: outcomes, lift, uplift by segment."""

import json
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import ibis
import numpy as np
import pandas as pd

from segkit.customers.days import build_days
from segkit.data import sources
from segkit.data.io import read_json
from segkit.data.spec import CONTRACT, Source, parse_source
from segkit.errors import InputError, RunError
from segkit.experiments.design import CONTROL, TREATMENT
from segkit.experiments.estimate import (
    COVARIATES,
    KPIS,
    Lift,
    Price,
    estimate_lifts,
    kpi_values,
    returns_of,
    verdict_of,
)
from segkit.experiments.pilot import Pilot
from segkit.format import day
from segkit.stats import Z95, least_squares

LATE_DAYS = 7  # without any event at the end of a window, before it counts as unfinished


def read_outcomes(
    outcomes: str, *, facts: dict[str, Any], index: pd.Index, data_dir: str = ""
) -> tuple[pd.Series, dict[str, Any]]:
    """Read the KPI of each customer of a pilot over its window.

    Parameters
    ----------
    outcomes
        A source (complete_journey, or a YAML file), or a table (csv, parquet): events with ``customer_id`` and
        ``timestamp``, or one row per customer with ``customer_id`` and the KPI.
    facts
        From pilot.json.
    data_dir
        Folder of a source's files; empty for that of its YAML.

    Returns
    -------
    tuple
        Values by ``customer_id``, and where they were read from (``how``, ``fingerprint``).

    Raises
    ------
    InputError
        There is no outcome, outcomes are dated before the treatment, the window is not over, or customers are missing.
    """
    if outcomes in sources.BUILT_IN or outcomes.endswith((".yaml", ".yml")):
        source = sources.open_source(outcomes, data_dir=data_dir or None)
        return _kpi_from_events(source, facts=facts, index=index), {
            "how": "source",
            "fingerprint": sources.fingerprint(source),
        }
    path = Path(outcomes)
    if not path.is_file():
        raise InputError(
            f"{outcomes}: no such file, and no source of that name. Give a YAML source, or a CSV of outcomes."
        )
    about = {"how": "file", "fingerprint": sha256(path.read_bytes()).hexdigest()}
    columns = _read_table(path, rows=0).columns.tolist()
    if "customer_id" not in columns:
        raise InputError(f"{path.name}: no column customer_id, only {', '.join(map(str, columns))}.")
    if "timestamp" in columns:
        source = _as_source(path, columns=columns, facts=facts)
        return _kpi_from_events(source, facts=facts, index=index), about
    if facts["kpi"] not in columns:
        raise InputError(
            f"{path.name}: there is no outcome. Give a column '{facts['kpi']}' for each customer, or events with a "
            f"timestamp. It has {', '.join(map(str, columns))}."
        )
    return _kpi_from_table(_read_table(path), name=path.name, facts=facts, index=index), about


def _kpi_from_events(source: Source, *, facts: dict[str, Any], index: pd.Index) -> pd.Series:
    """Compute the KPI from the events of the window."""
    con = sources.connect()
    events = sources.read_events(source, con=con)
    start, end = date.fromisoformat(facts["start"]), date.fromisoformat(facts["end"]) + timedelta(days=1)
    span = events.aggregate(first=events.day.min(), last=events.day.max()).to_pandas().iloc[0]
    last = pd.Timestamp(span["last"]).date()
    if last < start:
        raise InputError(
            f"{source.name}: the outcomes end on {last}, before the treatment began on {start}. Give events "
            f"of the window."
        )
    if last < end - timedelta(days=LATE_DAYS + 1):
        raise InputError(
            f"{source.name}: the outcomes end on {last}, and the window runs to {facts['end']}. An early look finds "
            f"effects that are not there: wait for the end, or plan fewer --weeks next time."
        )
    days = build_days(events.filter(events.day < ibis.literal(end)), kinds=source.kinds, aggregate=False)
    values = kpi_values(days, kpi=facts["kpi"], start=start, window_days=int(facts["window_days"]), index=index)
    if not values.any():
        raise InputError(
            f"{source.name}: no outcome: none of the {len(index):,} customers of the pilot did anything from {start} "
            f"on. Check that the customer ids are those of the run."
        )
    return values


def _kpi_from_table(table: pd.DataFrame, *, name: str, facts: dict[str, Any], index: pd.Index) -> pd.Series:
    """Read the KPI from a file with a row per customer, or per customer and day."""
    kpi = facts["kpi"]
    values = pd.to_numeric(table[kpi], errors="coerce")
    bad = int((values.isna() | ~np.isfinite(values)).sum())
    if bad:
        raise InputError(
            f"{name}: {bad} of {len(table)} values of {kpi} are not numbers. Give zero for those who did nothing."
        )
    if kpi == "active" and not values.isin((0, 1)).all():
        raise InputError(
            f"{name}: active has other values than 0 and 1. Give 1 for active customers and 0 for the others."
        )
    if "day" in table:
        _refuse_other_days(table["day"], name=name, facts=facts)
        by_customer = values.groupby(table["customer_id"]).agg("max" if kpi == "active" else "sum")
    elif table["customer_id"].duplicated().any():
        raise InputError(f"{name}: {int(table['customer_id'].duplicated().sum())} rows repeat a customer. Add them up.")
    else:
        by_customer = pd.Series(values.to_numpy(), index=table["customer_id"])
    missing = int((~index.isin(by_customer.index)).sum())
    if missing:
        raise InputError(
            f"{name}: no outcome for {missing:,} of the {len(index):,} customers of the pilot. Give each a row, with "
            f"zero for those who did nothing."
        )
    found = by_customer.reindex(index).astype(float).rename(KPIS[kpi].name)
    if not found.any():
        raise InputError(f"{name}: no outcome: {kpi} is zero for every customer of the pilot. Check the export.")
    return found


def _refuse_other_days(days: pd.Series, *, name: str, facts: dict[str, Any]) -> None:
    when = pd.to_datetime(days, errors="coerce")
    if when.isna().any():
        raise InputError(f"{name}: {int(when.isna().sum())} values of day are not dates. Write them as YYYY-MM-DD.")
    early = int((when < pd.Timestamp(facts["start"])).sum())
    late = int((when >= pd.Timestamp(facts["end"]) + pd.Timedelta(days=1)).sum())
    if early or late:
        where = (
            f"before the treatment began on {facts['start']}" if early else f"after the window ended on {facts['end']}"
        )
        raise InputError(f"{name}: {early or late} rows are dated {where}. Give the outcomes of the window only.")


def _as_source(path: Path, *, columns: list[str], facts: dict[str, Any]) -> Source:
    """Read a file of events with the contract's column names under the time zone and kinds of the run."""
    mapped = {name: f'"{name}"' for name in columns if name in CONTRACT}
    text = {
        "name": path.stem,
        "timezone": facts["timezone"],
        "kinds": facts["kinds"],
        "events": [{"path": path.name, "columns": mapped}],
    }
    return parse_source(json.dumps(text), label=path.name, base=path.parent.resolve())


def _read_table(path: Path, *, rows: int | None = None) -> pd.DataFrame:
    """Read a table of outcomes; ids stay text as written."""
    try:
        if path.suffix in (".parquet", ".pq"):
            table = pd.read_parquet(path, partitioning=None)
            return table.astype({"customer_id": str}) if "customer_id" in table else table
        return pd.read_csv(path, dtype={"customer_id": str, "day": str}, nrows=rows, keep_default_na=True)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name}: it cannot be read as a table ({str(error).splitlines()[0]}).") from None


FOLDS = 5
RESAMPLES = 300
# Each pair of folds counts twice, once to score and once to be scored: if strata do not differ, that doubles the
# variance that resampling under fixed scores shows.
INTERVAL_FACTOR = 2**0.5
MIN_SIGNAL = 0.1  # share of the noise: the least true variance between strata that is assumed
GRID = np.linspace(0, 1, 21)  # shares contacted at which the curve is stored


@dataclass(frozen=True)
class Qini:
    """The Qini coefficient: the area between the uplift curve and contacting at random, with its 95 % interval.

    The unit is the KPI's per customer; `curve`: share contacted, gain (per customer of all), by_lot (at random).
    """

    value: float
    low: float
    high: float
    curve: pd.DataFrame


def compute_qini(units: pd.DataFrame, adjusted: pd.Series, *, seed: int = 7) -> Qini | None:
    """Measure how much better than at random customers can be ordered by the effect of contact.

    Customers are ordered within their fold only, and the folds' curves averaged: a fold that did well by chance has low
    scores from the others, so an order across folds would look worse than random.

    Parameters
    ----------
    units
        By ``customer_id``: ``segment``, ``stratum``, ``arm``.
    adjusted
        Outcome less what the covariates predict, same index.

    Returns
    -------
    Qini or None
        None if a fold has too few treated or control customers.
    """
    ordered = units.sort_index()
    y = adjusted.reindex(ordered.index).to_numpy(dtype=float)
    treated = (ordered["arm"] != CONTROL).to_numpy()
    share = pd.Series(treated, index=ordered.index).groupby(ordered["segment"]).transform("mean").to_numpy()
    weight = np.where(treated, 1 / np.maximum(share, 1e-9), 1 / np.maximum(1 - share, 1e-9))
    fold = ordered.groupby(["stratum", "arm"], sort=True).cumcount().to_numpy() % FOLDS
    parts = []
    for k in range(FOLDS):
        score = _stratum_scores(ordered["stratum"], y, treated=treated, training=fold != k)
        if score is None or not treated[fold == k].any() or treated[fold == k].all():
            return None
        order = np.flatnonzero(fold == k)[np.argsort(-score[fold == k], kind="stable")]
        ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
        parts.append((y[order], treated[order], weight[order], ends))
    gain = _mean_curve(parts, rng=None)
    rng = np.random.default_rng(seed)
    half = INTERVAL_FACTOR * Z95 * float(np.std([_area(_mean_curve(parts, rng=rng)) for _ in range(RESAMPLES)]))
    value = _area(gain)
    curve = pd.DataFrame({"share": GRID, "gain": gain, "by_lot": GRID * gain[-1]})
    return Qini(value=value, low=value - half, high=value + half, curve=curve)


def _stratum_scores(
    stratum: pd.Series, y: np.ndarray, *, treated: np.ndarray, training: np.ndarray
) -> np.ndarray | None:
    """Estimate the lift of each customer's stratum from the training folds, shrunk towards the mean."""
    cells = pd.DataFrame({"stratum": stratum.to_numpy()[training], "treated": treated[training], "y": y[training]})
    table = cells.groupby(["stratum", "treated"])["y"].agg(["mean", "var", "count"]).unstack("treated")
    if not {("count", True), ("count", False)} <= set(table.columns):
        return None
    effect = table["mean"][True] - table["mean"][False]
    noise = table["var"][True] / table["count"][True] + table["var"][False] / table["count"][False]
    shrunk = shrink_effects(effect, noise)
    return stratum.map(shrunk).fillna(shrunk.mean()).to_numpy()


def shrink_effects(effect: pd.Series, noise: pd.Series) -> pd.Series:
    """Shrink effects towards their mean by how noisy they are (empirical Bayes; Efron & Morris 1975)."""
    estimable = effect.notna() & noise.notna() & (noise > 0)
    if not estimable.any():
        return pd.Series(0.0, index=effect.index)
    mean = float(np.average(effect[estimable], weights=1 / noise[estimable]))
    signal = max(
        float(effect[estimable].var(ddof=0) - noise[estimable].mean()), MIN_SIGNAL * float(noise[estimable].mean())
    )
    return (mean + (effect - mean) * signal / (signal + noise)).where(estimable, mean).round(9)


def _mean_curve(parts: list[tuple[np.ndarray, ...]], *, rng: np.random.Generator | None) -> np.ndarray:
    """Average over folds the gain per customer at each share of GRID; resample customers if there is a generator."""
    curves = []
    for y, treated, weight, ends in parts:
        times = np.ones(len(y)) if rng is None else _resample(treated, rng=rng)
        curves.append(np.interp(GRID, *_curve(y, treated, weight, ends, times=times)))
    return np.mean(curves, axis=0)


def _curve(
    y: np.ndarray, treated: np.ndarray, weight: np.ndarray, ends: np.ndarray, *, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute share contacted and gain per customer at the ends of equal scores; `times`: draws of each customer."""
    w = weight * times
    up, down = np.cumsum(w * treated)[ends], np.cumsum(w * ~treated)[ends]
    with np.errstate(invalid="ignore", divide="ignore"):
        lift = np.cumsum(w * treated * y)[ends] / up - np.cumsum(w * ~treated * y)[ends] / down
    contacted = np.cumsum(times)[ends] / times.sum()
    gain = np.where((up > 0) & (down > 0), lift * contacted, 0.0)
    return np.append(0.0, contacted), np.append(0.0, gain)


def _area(gain: np.ndarray) -> float:
    return float(np.trapezoid(gain, GRID) - gain[-1] / 2)


def _resample(treated: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Count how often each customer is drawn, treated and control separately."""
    times = np.zeros(len(treated))
    for arm in (treated, ~treated):
        rows = np.flatnonzero(arm)
        times[rows] = np.bincount(rng.integers(len(rows), size=len(rows)), minlength=len(rows))
    return times


EXPERIMENT = (
    "segment",
    "arm",
    "name",
    "kpi",
    "unit",
    "currency",
    "start",
    "end",
    "treated",
    "control",
    "treated_mean",
    "control_mean",
    "lift",
    "lift_low",
    "lift_high",
    "return_total",
    "return_total_low",
    "return_total_high",
    "roi",
    "roi_low",
    "roi_high",
    "verdict",
    "reason",
)


@dataclass(frozen=True)
class Readout:
    """The result of a pilot.

    `experiment`: a row per segment, "all" last; `lifts`: the same with errors; `qini`: None if it cannot be computed;
    `price`: of a contact and a unit.
    """

    experiment: pd.DataFrame
    lifts: tuple[Lift, ...]
    qini: Qini | None
    price: Price
    facts: dict[str, Any]


def read_out(
    pilot: Pilot, values: pd.Series, *, contact_cost: float | None = None, margin: float | None = None
) -> Readout:
    """Compare treated and control customers by the draw, whoever was contacted in the end.

    Parameters
    ----------
    values
        The KPI of each customer over the window.
    contact_cost, margin
        None is what the pilot was designed with.

    Raises
    ------
    InputError
        A cost or margin cannot be used.
    """
    price = pilot.price(contact_cost=contact_cost, margin=margin)
    lifts = estimate_lifts(pilot.units, values, columns=COVARIATES)
    order = compute_qini(pilot.units, _adjust_outcomes(pilot.units, values), seed=int(pilot.facts["seed"]))
    table = _experiment(pilot, lifts, price=price)
    return Readout(experiment=table, lifts=tuple(lifts), qini=order, price=price, facts=pilot.facts)


def _adjust_outcomes(units: pd.DataFrame, values: pd.Series) -> pd.Series:
    """Subtract what the covariates predict within each segment, and leave the means of the arms in (CUPED)."""
    found = values.reindex(units.index).astype(float).copy()
    for _, rows in units.groupby("segment"):
        treated = (rows["arm"] != CONTROL).to_numpy(dtype=float)
        covariate_values = rows[list(COVARIATES)].to_numpy(dtype=float)
        covariate_values = covariate_values - covariate_values.mean(axis=0)
        found[rows.index] -= (
            covariate_values @ least_squares(found[rows.index].to_numpy(), treated, covariate_values).slopes[2:]
        )
    return found


def readout_json(found: Readout, *, about: dict[str, Any]) -> dict[str, Any]:
    """Collect a read-out for JSON, from which a later pilot takes its expected return."""
    facts = found.facts
    rows = found.experiment.to_dict("records")
    segments = [{**asdict(one), **row} for one, row in zip(found.lifts, rows, strict=True)]
    order = found.qini
    return {
        "kpi": facts["kpi"],
        "unit": facts["unit"],
        "currency": facts.get("currency", ""),
        "start": facts["start"],
        "end": facts["end"],
        "window_days": facts["window_days"],
        "run": facts["run"],
        "action": facts.get("action", {}),
        "contact_cost": found.price.contact_cost,
        "margin": found.price.margin,
        "outcomes": about,
        "segments": segments,
        "qini": None if order is None else {"value": order.value, "low": order.low, "high": order.high},
        "curve": [] if order is None else order.curve.to_dict("records"),
    }


def experiment_from_readout(content: dict[str, Any]) -> pd.DataFrame:
    """Build the table experiment from a readout.json."""
    return empty_experiment(content["segments"])


def load_experiment(folder: str | Path | None) -> pd.DataFrame:
    """Load the table experiment of a pilot's folder.

    It is the read-out, or the design if there is no read-out yet; empty without a folder.

    Raises `RunError`: the folder is no pilot.
    """
    if folder is None:
        return empty_experiment([])
    folder = Path(folder)
    if not (folder / "pilot.json").is_file():
        raise RunError(f"{folder}: no pilot.json, so it is no pilot. `segkit pilot` makes one.")
    result = folder / "readout" / "readout.json"
    return (
        experiment_from_readout(read_json(result))
        if result.is_file()
        else _experiment_from_design(read_json(folder / "pilot.json"))
    )


def _experiment_from_design(facts: dict[str, Any]) -> pd.DataFrame:
    """Build the table experiment of a pilot without outcomes from its design."""
    rows = [
        {
            "segment": one["segment"],
            "arm": one.get("arm", TREATMENT),
            "name": one["name"],
            "kpi": facts["kpi"],
            "unit": facts["unit"],
            "currency": facts.get("currency", ""),
            "start": facts["start"],
            "end": facts["end"],
            "treated": one["treatment"],
            "control": one["control"],
            "verdict": "not read yet",
            "reason": f"the test runs until {day(date.fromisoformat(facts['end']))}",
        }
        for one in facts["power"]
    ]
    return empty_experiment(rows)


def empty_experiment(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Build the typed table experiment from rows; none without a pilot."""
    table = pd.DataFrame([{"arm": TREATMENT} | row for row in rows], columns=list(EXPERIMENT))
    text = ("segment", "arm", "name", "kpi", "unit", "currency", "start", "end", "verdict", "reason")
    kinds = {
        name: object if name in text else "int64" if name in ("treated", "control") else float for name in EXPERIMENT
    }
    return table.astype(kinds)


def _experiment(pilot: Pilot, lifts: list[Lift], *, price: Price) -> pd.DataFrame:
    names = {one["segment"]: one["name"] for one in pilot.facts["power"]} | {"all": "all segments together"}
    table = pd.DataFrame([asdict(one) for one in lifts]).rename(columns={"low": "lift_low", "high": "lift_high"})
    returns = returns_of(lifts, price=price).rename(columns=lambda name: name.replace("total", "return_total"))
    verdicts = [verdict_of(one, price=price) for one in lifts]
    table = table.merge(returns, on="segment").assign(
        arm=pilot.arms[0],
        name=table["segment"].map(names),
        kpi=pilot.facts["kpi"],
        unit=KPIS[pilot.facts["kpi"]].unit,
        currency=pilot.facts.get("currency", ""),
        start=pilot.facts["start"],
        end=pilot.facts["end"],
        verdict=[verdict for verdict, _ in verdicts],
        reason=[reason for _, reason in verdicts],
    )
    return table[list(EXPERIMENT)]
