"""Design a test: power, stratified randomisation, ranked targets."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.power import normal_sample_size_one_tail

from segkit.customers.days import Days
from segkit.data.io import read_customer_csv, read_json
from segkit.errors import InputError
from segkit.experiments.estimate import (
    ALPHA,
    COVARIATES,
    KPIS,
    Price,
    covariate_spans,
    first_active_day,
    known_before,
    kpi_spans,
)
from segkit.format import FLOOR
from segkit.period import Period
from segkit.stats import least_squares, usable_covariates
from segkit.vocabulary import EVERYONE

History = tuple[pd.Series, pd.DataFrame]  # a KPI of each customer, and the covariates that were known before
POWER = 0.8
CANDIDATE_WEEKS = (2, 4, 6, 8, 13, 26)  # tried in turn
SHOWN_WEEKS = (4, 8, 13)
CANDIDATES = (
    "segment",
    "customers",
    "kpi",
    "unit",
    "mean",
    "smallest_effect",
    "smallest_share",
    "share_4",
    "share_8",
    "share_13",
    "reachable",
    "size_needed",
    "weeks_needed",
)


@dataclass(frozen=True)
class Spread:
    """The KPI of one segment over a past window: mean, standard deviation, and the residual one after prediction."""

    segment: str
    customers: int
    mean: float
    sd: float
    residual_sd: float


def spreads(days: Days, *, kpi: str, segment: pd.Series, period: Period, include_all: bool = False) -> list[Spread]:
    """Measure how a KPI varies in each segment over the last horizon, before and after prediction from the lookback.

    Parameters
    ----------
    segment
        By ``customer_id``.
    period
        Its horizon is as long as the pilot.
    include_all
        Add one of all customers, called "all".

    Raises
    ------
    InputError
        The history is shorter than two horizons.
    """
    known = _days_known(days, period=period)
    if known < 2 * period.horizon_days:
        raise InputError(
            f"a window of {period.horizon_days} days needs {2 * period.horizon_days} days of history, and there are "
            f"{known}. Give fewer --weeks ({known // 14} at most)."
        )
    history = _histories(days, kpi=kpi, index=segment.index, periods=[period], known=known)[0]
    return _spreads_of(history, segment=segment, include_all=include_all)


def _spreads_of(history: History, *, segment: pd.Series, include_all: bool) -> list[Spread]:
    values, before = history
    found = [
        spread_of(str(name), values=values[rows.index], before=before.loc[rows.index])
        for name, rows in segment.groupby(segment)
    ]
    return [*found, spread_of(EVERYONE, values=values, before=before)] if include_all else found


def kpi_by_weeks(days: Days, *, kpi: str, index: pd.Index, period: Period, weeks: Sequence[int]) -> dict[int, History]:
    """Compute a KPI of each customer over the last weeks, and what was known of them before these.

    Parameters
    ----------
    index
        The customers.
    weeks
        Lengths of the windows, as of pilots.

    Returns
    -------
    dict
        By weeks; windows for which the history is too short are left out.
    """
    known = _days_known(days, period=period)
    chosen = [number for number in weeks if 14 * number <= known]
    periods = [replace(period, horizon_days=7 * number) for number in chosen]
    return dict(zip(chosen, _histories(days, kpi=kpi, index=index, periods=periods, known=known), strict=True))


def _days_known(days: Days, *, period: Period) -> int:
    return (period.as_of - first_active_day(days, before=period.as_of)).days


def _histories(days: Days, *, kpi: str, index: pd.Index, periods: Sequence[Period], known: int) -> list[History]:
    """Compute a KPI over the last horizon of several periods and what was known before each, in one pass over days.

    `known`: days of history, which must hold two horizons.
    """
    spans = []
    for period in periods:
        before, most = period.one_horizon_back(), known - period.horizon_days
        spans += [(before.as_of, period.horizon_days)]
        spans += covariate_spans(replace(before, lookback_days=min(period.lookback_days, most)))
    found = iter(kpi_spans(days, spans, kpi=kpi, index=index) if spans else ())
    return [(now["kpi"].rename(kpi), known_before(*earlier)) for now, *earlier in zip(found, found, found, strict=True)]


def smallest_effect(spread: Spread, *, treated: int, control: int, comparisons: float = 1) -> float:
    """Compute the smallest lift per customer that a pilot of this size detects.

    `comparisons`: segments and arms tested at once (Bonferroni); more need a larger effect.
    """
    if min(treated, control) < 2:
        return np.nan
    df = treated + control - 2
    reach = stats.t.ppf(1 - ALPHA / (2 * comparisons), df) + stats.t.ppf(POWER, df)
    return float(reach * spread.residual_sd * np.sqrt(1 / treated + 1 / control))


def size_needed(spread: Spread, *, effect: float, share_control: float = 0.5, comparisons: float = 1) -> int | None:
    """Compute the customers, treated and control together, needed to detect an effect; None if there is none."""
    if not effect > 0 or not np.isfinite(effect):
        return None
    each = normal_sample_size_one_tail(effect, POWER, ALPHA / (2 * comparisons), std_null=spread.residual_sd)
    return int(np.ceil(each / (share_control * (1 - share_control))))


def _weeks_table(days: Days, *, kpi: str, segment: pd.Series, period: Period) -> pd.DataFrame:
    """Compute the smallest relative effect that each segment, and all together, can show by weeks, half held out.

    Returns ``segment``, ``weeks``, ``mean``, ``smallest_effect`` (per customer), ``smallest_share`` (of the mean; null
    where that is zero); without windows for which the history is too short.
    """
    histories = kpi_by_weeks(days, kpi=kpi, index=segment.index, period=period, weeks=CANDIDATE_WEEKS)
    rows = []
    for weeks, history in histories.items():
        for one in _spreads_of(history, segment=segment, include_all=True):
            control = one.customers // 2
            effect = smallest_effect(one, treated=one.customers - control, control=control)
            rows.append((one.segment, weeks, one.mean, effect, effect / one.mean if one.mean > 0 else np.nan))
    return pd.DataFrame(rows, columns=["segment", "weeks", "mean", "smallest_effect", "smallest_share"])


def candidate_pilots(
    days: Days,
    *,
    kpi: str,
    segment: pd.Series,
    reachable: pd.Series,
    period: Period,
) -> pd.DataFrame:
    """Compute what a pilot of each segment alone, and of all together, could show, half held out.

    Parameters
    ----------
    segment
        By ``customer_id``.
    reachable
        Relative change by segment that the history shows, "all" included.

    Returns
    -------
    DataFrame
        `CANDIDATES`, "all" last: ``share_4`` and so on are the smallest share by weeks, ``size_needed`` the customers
        and ``weeks_needed`` the weeks to show the reachable change; null if the history is too short or an arm is below
        the floor.
    """
    history_days = _days_known(days, period=period)
    sizes = pd.concat([segment.value_counts().sort_index(), pd.Series({EVERYONE: len(segment)})])
    table = sizes.rename("customers").rename_axis("segment").reset_index()
    table = table.assign(reachable=lambda t: t["segment"].map(reachable).astype(float))
    arguments = {"kpi": kpi, "segment": segment, "period": period}
    found = spreads(days, include_all=True, **arguments) if history_days >= 2 * period.horizon_days else []
    by_segment = {one.segment: one for one in found if one.customers >= 2 * FLOOR}
    rows = [_candidate(by_segment.get(name), reachable=w) for name, w in table[["segment", "reachable"]].to_numpy()]
    table[["mean", "smallest_effect", "smallest_share", "size_needed"]] = np.array(rows, dtype=float).reshape(-1, 4)
    tried = _weeks_table(days, **arguments)
    tried = tried[tried["segment"].isin(by_segment)]
    enough = tried[tried["smallest_share"] <= tried["segment"].map(table.set_index("segment")["reachable"])]
    table["weeks_needed"] = table["segment"].map(enough.groupby("segment")["weeks"].min()).astype(float)
    for weeks in SHOWN_WEEKS:
        shares = tried[tried["weeks"] == weeks].set_index("segment")["smallest_share"]
        table[f"share_{weeks}"] = table["segment"].map(shares).astype(float)
    return table.assign(kpi=kpi, unit=KPIS[kpi].unit)[list(CANDIDATES)]


def _candidate(spread: Spread | None, *, reachable: float) -> tuple[float, float, float, float]:
    """Compute mean, smallest effect, its share of the mean, and the customers needed for the reachable change."""
    if spread is None:
        return (np.nan,) * 4
    control = spread.customers // 2
    effect = smallest_effect(spread, treated=spread.customers - control, control=control)
    needed = size_needed(spread, effect=reachable * spread.mean)
    share = effect / spread.mean if spread.mean > 0 else np.nan
    return spread.mean, effect, share, np.nan if needed is None else float(needed)


def spread_of(name: str, *, values: pd.Series, before: pd.DataFrame) -> Spread:
    """Measure how a KPI varies between some customers, before and after prediction from what was known before."""
    y = values.to_numpy(dtype=float)
    fit = least_squares(y, usable_covariates(before[list(COVARIATES)].to_numpy(dtype=float)))
    df = len(y) - len(fit.slopes)
    residual_sd = np.sqrt(np.sum(fit.residuals**2) / df) if df > 0 else np.nan
    return Spread(name, len(y), float(y.mean()), float(y.std(ddof=1)) if len(y) > 1 else np.nan, float(residual_sd))


PRE_BANDS = 4  # of the KPI before the pilot, within a segment
MIN_IN_BAND = 20
TREATMENT, CONTROL = "treatment", "control"
ARM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,29}")
RESERVED_ARMS = {CONTROL, "targets", "all", "pilot", "units", "plan"}
MOST_ARMS = 8
MISSES = 0.04  # of read-outs with several arms in which an interval may miss; small samples add nearly a hundredth
JOINED = "+"  # between the ids of segments that are tested as one


def strata_of(segment: pd.Series, pre: pd.Series) -> pd.Series:
    """Assign each customer to a stratum: segment and band of the KPI before the pilot.

    Equal values are in the same band.

    `segment`, `pre`: by ``customer_id``, same index. Returns text such as S03/2; band 1 is the lowest.
    """
    found = pd.Series("", index=segment.index, name="stratum")
    for name, rows in pre.groupby(segment, sort=True):
        bands = max(1, min(PRE_BANDS, len(rows) // MIN_IN_BAND))
        edges = np.unique(np.quantile(rows, np.arange(1, bands) / bands, method="lower"))
        number = 1 + np.searchsorted(edges, rows.to_numpy(), side="left")
        found.loc[rows.index] = [f"{name}/{n}" for n in number]
    return found


def check_arms(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the treatment arms of a pilot, one where none is given.

    Raises `InputError`: a name is given twice, cannot be that of a file, or has another meaning.
    """
    found = tuple(name.strip() for name in names) or (TREATMENT,)
    for name in found:
        if not ARM_NAME.fullmatch(name) or name.lower() in RESERVED_ARMS:
            raise InputError(
                f"--arms {','.join(found)}: '{name}' cannot be the name of an arm. Give letters and digits, such as "
                "mail,app; the control group is drawn without being named."
            )
    if len({name.lower() for name in found}) < len(found):
        raise InputError(f"--arms {','.join(found)}: an arm is named twice. Name each once.")
    if len(found) > MOST_ARMS:
        raise InputError(f"--arms: {len(found)} arms, and {MOST_ARMS} at most can be compared. Give fewer.")
    return found


def default_share_control(arms: int) -> float:
    """Return the share held out that detects the smallest effects of each of some arms (Dunnett 1955)."""
    return 0.5 if arms == 1 else round(1 / (1 + arms**0.5), 2)


def count_comparisons(segments: int, *, arms: int) -> float:
    """Count what a read-out tests at once: each arm in each segment and in all, and the arms against each other.

    With several arms it is a little more, as their read-out lets fewer intervals miss; see `effects.MISSES`.
    """
    if arms == 1:
        return segments + (segments > 1)
    return (arms * (segments + (segments > 1)) + arms * (arms - 1) / 2) * ALPHA / MISSES


def draw_treatment(
    stratum: pd.Series, *, treated_share: Mapping[str, float], seed: int, salt: str, arms: Sequence[str] = (TREATMENT,)
) -> pd.Series:
    """Draw the treated customers at random within strata.

    Parameters
    ----------
    stratum
        By ``customer_id``.
    arms
        Names of the treatment arms, which share the treated equally.
    seed
        Another seed draws other customers.
    salt
        Differs between pilots (their start), so that the same customers are not held out each time.

    Returns
    -------
    Series
        An arm or control, same index and order.
    """
    arm = pd.Series(CONTROL, index=stratum.index, name="arm", dtype=object)
    for name, rows in stratum.groupby(stratum, sort=True):
        order = sorted(rows.index, key=lambda customer: _hash_hex(f"{seed}|{salt}|{customer}"))
        wanted = len(order) * treated_share[name.rsplit("/", 1)[0]]
        fraction = int(_hash_hex(f"{seed}|{salt}|{name}")[:8], 16) / 16**8
        begin = 0
        for number, one in enumerate(arms, start=1):
            end = int(np.floor(wanted * number / len(arms) + fraction))
            arm.loc[order[begin:end]] = one
            begin = end
    return arm


def imbalance(units: pd.DataFrame, *, columns: tuple[str, ...]) -> pd.DataFrame:
    """Compare treated and control before the pilot, by standardised differences of means.

    Parameters
    ----------
    units
        ``segment``, ``arm`` and the covariates.

    Returns
    -------
    DataFrame
        ``segment``, ``column``, ``difference`` (in standard deviations), ``chance`` (95 of 100 draws have all
        differences below it); a row for each arm, segment and column.
    """
    rows = []
    pairs = [
        (segment, rows[rows["arm"].isin((arm, CONTROL))], arm)
        for segment, rows in units.groupby("segment", sort=True)
        for arm in sorted(set(rows["arm"]) - {CONTROL})
    ]
    for segment, group, arm in pairs:
        treated = group["arm"] == arm
        counts = treated.sum(), (~treated).sum()
        scale = np.sqrt(1 / counts[0] + 1 / counts[1]) if min(counts) else np.nan
        for column in columns:
            spread = group[column].std()
            difference = group.loc[treated, column].mean() - group.loc[~treated, column].mean()
            rows.append((segment, column, difference / spread if spread > 0 else 0.0, scale))
    table = pd.DataFrame(rows, columns=["segment", "column", "difference", "chance"])
    table["chance"] *= stats.norm.ppf(1 - 0.05 / (2 * max(len(table), 1)))
    return table


def _hash_hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def pilot_files(folder: Path) -> tuple[str, ...]:
    """Return the names of the files of a pilot's folder that list its customers by arm, the control last."""
    facts = read_json(folder / "pilot.json") if (folder / "pilot.json").is_file() else {}
    return tuple(f"{name}.csv" for name in (*arms_of(facts), CONTROL))


def arms_of(facts: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the treatment arms of a pilot from its facts; pilots of older versions have one, without a name."""
    return tuple(one for one in facts.get("arms", (TREATMENT,)) if ARM_NAME.fullmatch(one))


def excluded_ids(places: tuple[str, ...]) -> set[str]:
    """Read the customers to exclude: those of other pilots, or of files.

    `places`: pilot folders, or CSV files with a column ``customer_id``. Raises `InputError`: a file is missing, or has
    no ``customer_id``.
    """
    found: set[str] = set()
    for place in places:
        path = Path(place)
        files = [path / name for name in pilot_files(path)] if path.is_dir() else [path]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise InputError(
                f"--exclude {place}: no {' or '.join(missing)} found. Give a pilot's folder, or a CSV file."
            )
        for file in files:
            found |= set(read_customer_csv(file)["customer_id"])
    return found


def lifts_from_readout(readout: str | Path, *, kpi: str, arm: str = TREATMENT) -> pd.DataFrame:
    """Read the lifts that a read-out measured: of a pilot, or of an experiment made anywhere.

    Parameters
    ----------
    readout
        readout.json, or its folder.
    arm
        The arm that is repeated; the only one of a read-out needs no name.

    Raises
    ------
    InputError
        There is no read-out, or it is of another KPI, of several arms or of no segments.
    """
    path = Path(readout)
    file = next((p for p in (path, path / "readout.json", path / "readout" / "readout.json") if p.is_file()), None)
    if file is None:
        raise InputError(f"--lift-from {readout}: no readout.json found. `segkit readout` writes one.")
    content, ends = read_json(file), {"lift_low": "low", "lift_high": "high"}
    measured = {content["kpi"]} if "kpi" in content else {one["name"] for one in content.get("outcomes", [])}
    if kpi not in measured:
        raise InputError(
            f"--lift-from {readout}: it measured {', '.join(sorted(measured)) or 'nothing'}, but the KPI of this pilot "
            f"is {kpi}."
        )
    rows = content["segments"] if "segments" in content else content["effects"]
    table = pd.DataFrame(rows).assign(kpi=kpi if "segments" in content else [one["kpi"] for one in rows])
    table = table.rename(columns={old: new for old, new in ends.items() if new not in table})
    table = table[table["kpi"] == kpi]
    arms = sorted(set(table["arm"])) if "arm" in table else []
    if len(arms) > 1 and arm not in arms:
        raise InputError(f"--lift-from {readout}: it measured {', '.join(arms)}. Name the arm to repeat with --arms.")
    table = table[table["arm"] == arm] if len(arms) > 1 else table
    if not {"se", "df"} <= set(table) or set(table["segment"]) == {EVERYONE}:
        raise InputError(
            f"--lift-from {readout}: it has no effects by the segments of a run. Make it again with --segment-by RUN."
        )
    return table.set_index("segment").astype({c: float for c in ("lift", "low", "high", "se", "df")})


def treated_shares(
    sizes: pd.Series, *, share_control: float, budget: float | None, price: Price, measured: pd.DataFrame | None
) -> dict[str, float]:
    """Compute the share of each segment to treat: all but the control group, or as many as the budget pays for.

    With a read-out, segments are funded in order of their measured return per contact, and those without a return are
    left out; without one, all shares are reduced alike.

    Raises `InputError`: a budget is given without the cost of a contact.
    """
    shares_without_budget = {str(name): 1 - share_control for name in sizes.index}
    if measured is not None and price.is_complete:
        gain = (measured["lift"].reindex(sizes.index) * price.margin - price.contact_cost).fillna(0)
        shares_without_budget = {
            name: share if gain[name] > 0 else 0.0 for name, share in shares_without_budget.items()
        }
        order = gain.sort_values(ascending=False, kind="stable").index
    else:
        order = sizes.index
    if budget is None:
        return shares_without_budget
    if price.contact_cost is None or price.contact_cost <= 0:
        raise InputError("--budget: it needs --contact-cost above zero.")
    contacts = int(budget / price.contact_cost)
    wanted = sum(shares_without_budget[name] * sizes[name] for name in sizes.index)
    if contacts >= wanted:
        return shares_without_budget
    if measured is None:
        return {name: share * contacts / wanted for name, share in shares_without_budget.items()}
    remaining, shares = float(contacts), {}
    for name in order:
        taken = min(shares_without_budget[name] * sizes[name], remaining)
        shares[name] = taken / sizes[name] if taken >= FLOOR else 0.0
        remaining -= taken if taken >= FLOOR else 0.0
    return shares


def rank_targets(
    treated: pd.DataFrame, *, value: pd.Series, measured: pd.DataFrame | None, price: Price
) -> pd.DataFrame:
    """Rank the customers to contact by the measured return of their segment, then by their value.

    Parameters
    ----------
    treated
        ``segment`` and ``arm`` by ``customer_id``.

    Returns
    -------
    DataFrame
        ``rank``, ``customer_id``, ``segment``, ``arm`` (of several), ``value_at_stake``, ``expected_return``,
        ``expected_low``, ``expected_high`` (per contact, after its cost; null without a read-out).
    """
    columns = ["segment", "arm"] if treated["arm"].nunique() > 1 else ["segment"]
    table = treated[columns].assign(value_at_stake=value.reindex(treated.index).round(2))
    for name, column in {"expected_return": "lift", "expected_low": "low", "expected_high": "high"}.items():
        if measured is not None and price.is_complete:
            per_contact = measured[column] * price.margin - price.contact_cost
            table[name] = table["segment"].map(per_contact).astype(float).round(4)
        else:
            table[name] = np.nan
    table = table.rename_axis("customer_id").reset_index()
    keys = ["expected_return", "value_at_stake", "customer_id"]
    table = table.sort_values(keys, ascending=[False, False, True], na_position="last", ignore_index=True)
    table.insert(0, "rank", np.arange(1, len(table) + 1))
    return table


def expected_total(treated: pd.Series, *, measured: pd.DataFrame | None, price: Price) -> dict[str, Any]:
    """Compute the expected total return of the contacts after their cost, with a 95 % interval.

    Returns ``value``, ``low``, ``high`` (null if there is no read-out or price) and ``reason``.
    """
    unknown_return = {"value": None, "low": None, "high": None}
    if measured is None:
        return {**unknown_return, "reason": "it needs an earlier read-out (--lift-from)"}
    if not price.is_complete:
        return {**unknown_return, "reason": "it needs --contact-cost and --margin"}
    treated_counts = treated[treated > 0]
    unknown = sorted(set(treated_counts.index) - set(measured.index))
    if unknown:
        return {
            **unknown_return,
            "reason": f"the read-out did not measure {', '.join(unknown)}",
        }
    table = measured.loc[treated_counts.index]
    middle = float((treated_counts * (table["lift"] * price.margin - price.contact_cost)).sum())
    se = float(np.sqrt(((treated_counts * price.margin * table["se"]) ** 2).sum()))
    half = float(stats.t.ppf(1 - ALPHA / 2, max(table["df"].min(), 1.0))) * se
    return {
        "value": middle,
        "low": middle - half,
        "high": middle + half,
        "reason": "from the lifts of an earlier read-out",
    }
