"""Design a test: power, stratified randomisation, ranked targets."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from statsmodels.stats.power import normal_sample_size_one_tail

from segkit.customers.days import Days
from segkit.data.io import read_json, unescape_formula
from segkit.errors import InputError
from segkit.experiments.estimate import ALPHA, COVARIATES, KPIS, Price, covariates, first_active_day, kpi_values
from segkit.format import FLOOR
from segkit.period import Period
from segkit.stats import least_squares, usable_covariates
from segkit.vocabulary import EVERYONE

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
    """One segment's KPI over a past window: customers, mean, standard deviation, and the same less what was
    foretold.
    """

    segment: str
    customers: int
    mean: float
    sd: float
    residual_sd: float


def spreads(days: Days, *, kpi: str, segment: pd.Series, period: Period, together: bool = False) -> list[Spread]:
    """The spread of a KPI in each segment, over the last horizon before `as_of`, foretold from the lookback before it.

    Takes  segment: by customer_id
    Gives  Spreads by segment

    Parameters
    ----------
    period : its horizon is as long as the pilot
    together : adds one of all customers, called "all"

    Raises
    ------
    InputError : the history does not hold the horizon and as much again before it
    """
    window_days, before = period.horizon_days, period.one_horizon_back()
    history_days = (period.as_of - first_active_day(days, before=period.as_of)).days
    if history_days < 2 * window_days:
        raise InputError(
            f"a window of {window_days} days needs {2 * window_days} days of history to be sized; there are {history_days}. "
            f"Give fewer --weeks ({history_days // 14} at most)."
        )
    values = kpi_values(days, kpi=kpi, start=before.as_of, window_days=window_days, index=segment.index)
    before = replace(before, lookback_days=min(period.lookback_days, history_days - window_days))
    past = covariates(days, kpi=kpi, period=before, index=segment.index)
    found = [
        _segment_spread(str(name), values[rows.index], past.loc[rows.index]) for name, rows in segment.groupby(segment)
    ]
    return [*found, _segment_spread(EVERYONE, values, past)] if together else found


def smallest_effect(spread: Spread, *, treated: int, control: int, compared: int = 1) -> float:
    """The smallest lift per customer that a pilot of this size sees.

    Parameters
    ----------
    compared : how many segments are read at once (Bonferroni); more need a larger effect
    """
    if min(treated, control) < 2:
        return np.nan
    df = treated + control - 2
    reach = stats.t.ppf(1 - ALPHA / (2 * compared), df) + stats.t.ppf(POWER, df)
    return float(reach * spread.residual_sd * np.sqrt(1 / treated + 1 / control))


def size_needed(spread: Spread, *, effect: float, share_control: float = 0.5, compared: int = 1) -> int | None:
    """Customers, treated and control together, that seeing an effect takes; None where there is no effect to see."""
    if not effect > 0 or not np.isfinite(effect):
        return None
    each = normal_sample_size_one_tail(effect, POWER, ALPHA / (2 * compared), std_null=spread.residual_sd)
    return int(np.ceil(each / (share_control * (1 - share_control))))


def weeks_table(days: Days, *, kpi: str, segment: pd.Series, period: Period) -> pd.DataFrame:
    """The smallest relative effect that each segment, and all together, can show by weeks, half of it held out.

    Gives  segment, weeks, mean, smallest_effect (per customer), smallest_share (of the mean; null where that is zero);
           windows that the history cannot size are left out
    """
    history_days = (period.as_of - first_active_day(days, before=period.as_of)).days
    rows = []
    for weeks in [w for w in CANDIDATE_WEEKS if 14 * w <= history_days]:
        long = replace(period, horizon_days=7 * weeks)
        for one in spreads(days, kpi=kpi, segment=segment, period=long, together=True):
            control = one.customers // 2
            effect = smallest_effect(one, treated=one.customers - control, control=control)
            rows.append((one.segment, weeks, one.mean, effect, effect / one.mean if one.mean > 0 else np.nan))
    return pd.DataFrame(rows, columns=["segment", "weeks", "mean", "smallest_effect", "smallest_share"])


def weeks_needed(table: pd.DataFrame, *, wanted: pd.Series) -> pd.Series:
    """The fewest weeks at which a segment can show the relative effect wanted.

    Takes  weeks_table; wanted: share of the mean by segment
    Gives  weeks by segment; missing where none of the windows tried is enough
    """
    enough = table[table["smallest_share"] <= table["segment"].map(wanted)]
    return enough.groupby("segment")["weeks"].min().reindex(wanted.index)


def candidate_pilots(
    days: Days,
    *,
    kpi: str,
    segment: pd.Series,
    reachable: pd.Series,
    period: Period,
) -> pd.DataFrame:
    """What a pilot of each segment alone, and of all together, could show, half of it held out.

    Takes  segment: by customer_id; reachable: relative change by segment that the history shows ("all" among them)
    Gives  segment ("all" last), customers, kpi, unit, mean, smallest_effect, smallest_share, the same in 4, 8 and 13
           weeks (share_4, ...), reachable, size_needed (customers, to show the reachable), weeks_needed (missing: none
           of the windows tried); nulls where the history cannot size a window or an arm would be below the floor
    """
    history_days = (period.as_of - first_active_day(days, before=period.as_of)).days
    sizes = pd.concat([segment.value_counts().sort_index(), pd.Series({EVERYONE: len(segment)})])
    table = sizes.rename("customers").rename_axis("segment").reset_index()
    table = table.assign(reachable=lambda t: t["segment"].map(reachable).astype(float))
    asked = {"kpi": kpi, "segment": segment, "period": period}
    found = spreads(days, together=True, **asked) if history_days >= 2 * period.horizon_days else []
    by_segment = {one.segment: one for one in found if one.customers >= 2 * FLOOR}
    rows = [_candidate(by_segment.get(name), reachable=w) for name, w in table[["segment", "reachable"]].to_numpy()]
    table[["mean", "smallest_effect", "smallest_share", "size_needed"]] = np.array(rows, dtype=float).reshape(-1, 4)
    tried = weeks_table(days, **asked)
    tried = tried[tried["segment"].isin(by_segment)]
    table["weeks_needed"] = weeks_needed(tried, wanted=table.set_index("segment")["reachable"]).to_numpy(dtype=float)
    for weeks in SHOWN_WEEKS:
        of = tried[tried["weeks"] == weeks].set_index("segment")["smallest_share"]
        table[f"share_{weeks}"] = table["segment"].map(of).astype(float)
    return table.assign(kpi=kpi, unit=KPIS[kpi].unit)[list(CANDIDATES)]


def _candidate(spread: Spread | None, *, reachable: float) -> tuple[float, float, float, float]:
    """Mean, smallest effect, the same as a share of the mean, and the customers that showing the reachable takes."""
    if spread is None:
        return (np.nan,) * 4
    control = spread.customers // 2
    effect = smallest_effect(spread, treated=spread.customers - control, control=control)
    needed = size_needed(spread, effect=reachable * spread.mean)
    share = effect / spread.mean if spread.mean > 0 else np.nan
    return spread.mean, effect, share, np.nan if needed is None else float(needed)


def _segment_spread(name: str, values: pd.Series, before: pd.DataFrame) -> Spread:
    y = values.to_numpy(dtype=float)
    fit = least_squares(y, usable_covariates(before[list(COVARIATES)].to_numpy(dtype=float)))
    free = len(y) - len(fit.slopes)
    left = np.sqrt(np.sum(fit.residuals**2) / free) if free > 0 else np.nan
    return Spread(name, len(y), float(y.mean()), float(y.std(ddof=1)) if len(y) > 1 else np.nan, float(left))


BASELINE_BANDS = 4  # of pre-period value within a segment
MIN_IN_BAND = 20
TREATMENT, CONTROL = "treatment", "control"


def strata_of(segment: pd.Series, pre: pd.Series) -> pd.Series:
    """The stratum of each customer: their segment, and a band of what they did before the pilot; equal values, equal
    band.

    Takes  segment, pre: by customer_id, same index
    Gives  text such as S03/2, band 1 the lowest
    """
    found = pd.Series("", index=segment.index, name="stratum")
    for name, rows in pre.groupby(segment, sort=True):
        bands = max(1, min(BASELINE_BANDS, len(rows) // MIN_IN_BAND))
        edges = np.unique(np.quantile(rows, np.arange(1, bands) / bands, method="lower"))
        number = 1 + np.searchsorted(edges, rows.to_numpy(), side="left")
        found.loc[rows.index] = [f"{name}/{n}" for n in number]
    return found


def draw_treatment(stratum: pd.Series, *, treated_share: Mapping[str, float], seed: int, salt: str) -> pd.Series:
    """Who is treated.

    Takes  stratum: by customer_id; treated_share: segment -> share of its customers to treat
    Gives  treatment or control by customer_id, in the same order

    Parameters
    ----------
    seed : another seed draws others
    salt : what makes this draw another than the last one (its start), so that not the same customers are always held
    out
    """
    arm = pd.Series(CONTROL, index=stratum.index, name="arm", dtype=object)
    for name, rows in stratum.groupby(stratum, sort=True):
        order = sorted(rows.index, key=lambda customer: _hash_number(f"{seed}|{salt}|{customer}"))
        wanted = len(order) * treated_share[name.rsplit("/", 1)[0]]
        fraction = int(_hash_number(f"{seed}|{salt}|{name}")[:8], 16) / 16**8
        arm.loc[order[: int(np.floor(wanted + fraction))]] = TREATMENT
    return arm


def imbalance(units: pd.DataFrame, *, columns: tuple[str, ...]) -> pd.DataFrame:
    """How alike treated and control were before: standardised differences of means, beside what chance gives.

    Takes  units: segment, arm, and the columns known before
    Gives  segment, column, difference (in standard deviations), chance (95 of 100 draws leave all of them below it)
    """
    rows = []
    for segment, group in units.groupby("segment", sort=True):
        treated = group["arm"] == TREATMENT
        counts = treated.sum(), (~treated).sum()
        scale = np.sqrt(1 / counts[0] + 1 / counts[1]) if min(counts) else np.nan
        for column in columns:
            spread = group[column].std()
            gap = group.loc[treated, column].mean() - group.loc[~treated, column].mean()
            rows.append((segment, column, gap / spread if spread > 0 else 0.0, scale))
    table = pd.DataFrame(rows, columns=["segment", "column", "difference", "chance"])
    table["chance"] *= stats.norm.ppf(1 - 0.05 / (2 * max(len(table), 1)))
    return table


def _hash_number(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


PILOT_FILES = ("treatment.csv", "control.csv")


def excluded_ids(places: tuple[str, ...]) -> set[str]:
    """The customers that other pilots hold, or that files list.

    Takes  pilot folders, or CSV files with a column customer_id

    Raises
    ------
    InputError : not there, or without customer_id
    """
    found: set[str] = set()
    for place in places:
        path = Path(place)
        files = [path / name for name in PILOT_FILES] if path.is_dir() else [path]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            raise InputError(
                f"--exclude {place}: no {' or '.join(missing)} there. Give a pilot's folder, or a CSV file."
            )
        for file in files:
            found |= set(read_ids(file)["customer_id"])
    return found


def read_ids(path: Path) -> pd.DataFrame:
    """A CSV with a column customer_id, all as text.

    Raises
    ------
    InputError : it cannot be read, or has no such column
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path.name}: it cannot be read as CSV ({str(error).splitlines()[0]}).") from None
    if "customer_id" not in table:
        raise InputError(f"{path.name}: there is no column customer_id. It has {', '.join(map(str, table.columns))}.")
    return table.assign(customer_id=table["customer_id"].map(unescape_formula))


def lifts_from_readout(readout: str | Path, *, kpi: str) -> pd.DataFrame:
    """The lifts that a read-out measured.

    Takes  readout.json, or the folder that holds it

    Raises
    ------
    InputError : no read-out there, or one of another KPI
    """
    path = Path(readout)
    file = next((p for p in (path, path / "readout.json", path / "readout" / "readout.json") if p.is_file()), None)
    if file is None:
        raise InputError(f"--lift-from {readout}: no readout.json there. `segkit readout` writes one.")
    content = read_json(file)
    if content.get("kpi") != kpi:
        raise InputError(f"--lift-from {readout}: it read {content.get('kpi')}, and this pilot is of {kpi}.")
    table = pd.DataFrame(content["segments"]).set_index("segment")
    return table.astype({c: float for c in ("lift", "low", "high", "se", "df")})


def treated_shares(
    sizes: pd.Series, *, share_control: float, budget: float | None, price: Price, measured: pd.DataFrame | None
) -> dict[str, float]:
    """The share of each segment to treat: all but the held-out, or as many as the budget pays for.

    Takes  sizes: eligible customers by segment
    Gives  segment -> share. With a read-out the segments are paid for in the order of what a contact brought there, and
           those where it brought nothing are left out; without one all are thinned alike. Within a segment it is by
           lot.

    Raises
    ------
    InputError : a budget without the cost of a contact, or for fewer than the floor
    """
    full = {str(name): 1 - share_control for name in sizes.index}
    if measured is not None and price.is_complete:
        gain = (measured["lift"].reindex(sizes.index) * price.margin - price.contact_cost).fillna(0)
        full = {name: share if gain[name] > 0 else 0.0 for name, share in full.items()}
        order = gain.sort_values(ascending=False, kind="stable").index
    else:
        order = sizes.index
    if budget is None:
        return full
    if price.contact_cost is None or price.contact_cost <= 0:
        raise InputError("--budget: how many contacts it pays for needs --contact-cost above zero.")
    contacts = int(budget / price.contact_cost)
    wanted = sum(full[name] * sizes[name] for name in sizes.index)
    if contacts >= wanted:
        return full
    if measured is None:
        return {name: share * contacts / wanted for name, share in full.items()}
    left, shares = float(contacts), {}
    for name in order:
        taken = min(full[name] * sizes[name], left)
        shares[name] = taken / sizes[name] if taken >= FLOOR else 0.0
        left -= taken if taken >= FLOOR else 0.0
    return shares


def rank_targets(
    treated: pd.DataFrame, *, value: pd.Series, measured: pd.DataFrame | None, price: Price
) -> pd.DataFrame:
    """The customers to contact, the first first: by measured return of their segment, then by what they are worth now.

    Takes  treated: by customer_id; segment; value: what each did before (the KPI over the lookback)
    Gives  rank, customer_id, segment, value_at_stake, expected_return, expected_low, expected_high (per contact, after
           its cost; null where nothing measured it)
    """
    table = treated[["segment"]].assign(value_at_stake=value.reindex(treated.index).round(2))
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
    """What contacting the list should bring after its cost, with a 95 % interval; nulls and the reason where none can
    be stated.

    Takes  treated: contacts by segment
    """
    nothing = {"value": None, "low": None, "high": None}
    if measured is None:
        return {**nothing, "reason": "no return can be stated: no read-out was given (--lift-from)"}
    if not price.is_complete:
        return {**nothing, "reason": "no return can be stated: it needs --contact-cost and --margin"}
    treated_counts = treated[treated > 0]
    unknown = sorted(set(treated_counts.index) - set(measured.index))
    if unknown:
        return {**nothing, "reason": f"no return can be stated: the read-out did not measure {', '.join(unknown)}"}
    table = measured.loc[treated_counts.index]
    middle = float((treated_counts * (table["lift"] * price.margin - price.contact_cost)).sum())
    se = float(np.sqrt(((treated_counts * price.margin * table["se"]) ** 2).sum()))
    half = float(stats.t.ppf(1 - ALPHA / 2, max(table["df"].min(), 1.0))) * se
    return {
        "value": middle,
        "low": middle - half,
        "high": middle + half,
        "reason": "from the lifts of the read-out given",
    }
