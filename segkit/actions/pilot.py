"""A pilot: segments, a KPI, a window, and the draw of who is treated and who is held out, frozen before it starts."""

from dataclasses import dataclass, replace
from datetime import date, timedelta
from hashlib import sha256
from typing import Any

import pandas as pd

from segkit.actions.holdout import CONTROL, TREATMENT, draw, imbalance, strata_of
from segkit.actions.kpi import COVARIATES, KPIS, covariates
from segkit.actions.power import Spread, size_needed, smallest_effect, spreads
from segkit.actions.targets import (
    excluded_ids,
    expected_total,
    measured_by,
    ranked,
    treated_shares,
)
from segkit.actions.verdict import Price, price_of
from segkit.customers.consent import may_contact
from segkit.customers.days import Days, load_days
from segkit.data import sources
from segkit.data.run_source import refuse_pseudonyms
from segkit.data.store import Run
from segkit.errors import InputError
from segkit.small_groups import FLOOR

FORM = 1  # of pilot.json


@dataclass(frozen=True)
class Pilot:
    """A frozen design. `facts`: all of pilot.json but the hashes of its files; `units`: by customer_id, segment,
    stratum, arm and what was known before; `targets`: the treated in the order to contact them.
    """

    facts: dict[str, Any]
    units: pd.DataFrame
    targets: pd.DataFrame


def design_pilot(
    run: Run,
    *,
    segments: tuple[str, ...],
    kpi: str = "spend",
    share_control: float = 0.5,
    weeks: int | None = None,
    start: str = "",
    seed: int = 7,
    exclude: tuple[str, ...] = (),
    budget: float | None = None,
    contact_cost: float | None = None,
    margin: float | None = None,
    lift_from: str = "",
) -> Pilot:
    """Design a pilot on a finished run; nothing is written.

    Takes  a run with its days and assignments
    Gives  Pilot; the same arguments give the same pilot, whatever the order of the rows of the run

    Parameters
    ----------
    segments : one or more ids; more need larger effects, as all are read at once
    kpi : spend, orders or active
    share_control : of the customers held out; .5 sees the smallest effects
    weeks : how long the outcome is counted; None is the horizon of the run
    start : ISO date the treatment begins; empty is the as_of of the run
    seed : another draws others
    exclude : folders of running pilots, or CSV files of customers, who must not be in this one
    budget, contact_cost, margin : money for all contacts; money per contact; what one unit of the KPI earns
    lift_from : an earlier read-out, from which alone an expected return can be stated

    Raises
    ------
    InputError : a segment, KPI, share, date, cost or file that cannot be used, or too few customers
    """
    refuse_pseudonyms(run, what="a pilot says whom to contact")
    price = price_of(contact_cost, margin, kpi=kpi)
    if budget is not None and not budget > 0:
        raise InputError(f"--budget {budget}: money for contacts, above zero.")
    window = _window(run, weeks=weeks, start=start)
    if not 0 < share_control < 1:
        raise InputError(
            f"--share-control {share_control}: a share between 0 and 1. Without a holdout nothing is learnt."
        )
    measured = measured_by(lift_from, kpi=kpi) if lift_from else None
    days = load_days(run)
    chosen = _chosen(run, segments)
    eligible, left_out = _eligible(run, chosen, exclude=exclude)
    sizes = eligible.groupby(eligible).size()
    shares = treated_shares(sizes, share_control=share_control, budget=budget, price=price, measured=measured)
    _refuse_small(chosen, sizes=sizes, shares=shares)
    eligible = eligible[eligible.map(shares) > 0]
    units = _units(run, days, eligible=eligible, shares=shares, kpi=kpi, window=window, seed=seed)
    facts = {
        "form": FORM,
        **_of_run(run),
        "segments": sorted(eligible.unique().tolist()),
        "kpi": kpi,
        "share_control": share_control,
        "seed": seed,
        **{name: value.isoformat() if isinstance(value, date) else value for name, value in window.items()},
        "contact_cost": price.contact_cost,
        "margin": price.margin,
        "budget": budget,
        "left_out": left_out | {"no return was measured or no budget was left": int(sizes.sum() - len(units))},
        **_said(run, days, units=units, kpi=kpi, window=window, price=price, measured=measured),
    }
    treated = units[units["arm"] == TREATMENT]
    targets = ranked(treated, value=units["pre"], measured=measured, price=price)
    return Pilot(facts=facts, units=units, targets=targets)


def _window(run: Run, *, weeks: int | None, start: str) -> dict[str, Any]:
    """When the outcome is counted, and the baseline before it."""
    period = run.period
    as_of = period.as_of
    try:
        first = date.fromisoformat(start) if start else as_of
    except ValueError:
        raise InputError(f"--start {start}: not a date. Write it as YYYY-MM-DD.") from None
    if first < as_of:
        raise InputError(f"--start {start}: before the as_of of the run, {as_of}: outcomes would be known already.")
    if weeks is not None and weeks < 1:
        raise InputError(f"--weeks {weeks}: at least one.")
    window_days = 7 * weeks if weeks else period.horizon_days
    return {
        "start": first,
        "end": first + timedelta(days=window_days - 1),
        "window_days": window_days,
        "baseline_start": period.lookback_start,
        "baseline_end": period.last_day,
    }


def _chosen(run: Run, segments: tuple[str, ...]) -> pd.Series:
    """The customers of the segments asked for: segment by customer_id, sorted."""
    assignments = run.table("assignments").sort_values("customer_id").set_index("customer_id")["segment"]
    unknown = sorted(set(segments) - set(assignments))
    if unknown or not segments:
        there = ", ".join(sorted(assignments.unique()))
        raise InputError(f"--segment {', '.join(unknown) or 'is not given'}: the segments of this run are {there}.")
    return assignments[assignments.isin(segments)]


def _eligible(run: Run, chosen: pd.Series, *, exclude: tuple[str, ...]) -> tuple[pd.Series, dict[str, int]]:
    """Those who may be in the pilot; how many were left out, by reason."""
    parameters = run.parameters()
    roles = sources.open_source(parameters["source"], data_dir=parameters.get("data_dir") or None).roles
    people = run.table("people") if run.has("people") else None
    consents = may_contact(people, roles=roles, index=chosen.index)
    in_other_pilot = pd.Series(chosen.index.isin(excluded_ids(exclude)), index=chosen.index)
    left_out = {"no consent": int((~consents).sum()), "in another pilot": int((in_other_pilot & consents).sum())}
    return chosen[consents & ~in_other_pilot], left_out


def _refuse_small(chosen: pd.Series, *, sizes: pd.Series, shares: dict[str, float]) -> None:
    """Every arm of every segment holds at least the privacy floor."""
    for name in sorted(chosen.unique()):
        size, share = int(sizes.get(name, 0)), shares.get(name, 0.5)
        if size and share == 0.0:
            continue
        smaller = min(share, 1 - share) * size
        if smaller < FLOOR:
            raise InputError(
                f"{name}: {size} of {int((chosen == name).sum())} customers can be in the pilot, so its smaller "
                f"arm has "
                f"{int(smaller)}; each arm needs {FLOOR}. Take a larger segment, another share, or a larger budget."
            )
    if not any(shares.values()):
        raise InputError("no segment is left to treat: the read-out measured no return above zero in any of them.")


def _units(
    run: Run,
    days: Days,
    *,
    eligible: pd.Series,
    shares: dict[str, float],
    kpi: str,
    window: dict[str, Any],
    seed: int,
) -> pd.DataFrame:
    covariate_table = covariates(
        days,
        kpi=kpi,
        period=replace(run.period, horizon_days=window["window_days"]),
        index=eligible.index,
    ).round(6)
    stratum = strata_of(eligible, covariate_table["steady"] if kpi == "active" else covariate_table["pre"])
    arm = draw(stratum, treated_share=shares, seed=seed, salt=window["start"].isoformat())
    return pd.DataFrame({"segment": eligible, "stratum": stratum, "arm": arm, **covariate_table})


def _of_run(run: Run) -> dict[str, Any]:
    """Which run the pilot was drawn from, and how its source reads time and kinds of event."""
    parameters = run.parameters()
    source = sources.open_source(parameters["source"], data_dir=parameters.get("data_dir") or None)
    assigned = (run.path / "tables" / "assignments.parquet").read_bytes()
    names = ("as_of", "lookback_days", "horizon_days", "source_name", "source_fingerprint")
    about = {name: parameters.get(name) for name in names} | {"assignments": sha256(assigned).hexdigest()}
    return {"run": about, "timezone": source.timezone, "kinds": dict(sorted(source.kinds.items()))}


def _said(
    run: Run,
    days: Days,
    *,
    units: pd.DataFrame,
    kpi: str,
    window: dict[str, Any],
    price: Price,
    measured: pd.DataFrame | None,
) -> dict[str, Any]:
    """What is known of the pilot before it starts: counts, power, balance, and the expected return or why there is
    none.
    """
    period = replace(run.period, horizon_days=window["window_days"])
    found = spreads(days, kpi=kpi, segment=units["segment"], period=period)
    counts = units.groupby(["segment", "arm"]).size().unstack(fill_value=0)
    names = run.table("segments").set_index("segment")["name"].to_dict()
    compared = len(found) + (len(found) > 1)
    power = [
        _power(one, counts=counts, name=names.get(one.segment, ""), compared=compared, price=price) for one in found
    ]
    balance = imbalance(units, columns=COVARIATES)
    worst = balance.loc[balance["difference"].abs().idxmax()]
    strata = (
        units.groupby(["stratum", "arm"])
        .size()
        .unstack(fill_value=0)
        .reindex(columns=[TREATMENT, CONTROL], fill_value=0)
    )
    return {
        "unit": KPIS[kpi].unit,
        "strata": {name: {arm: int(n) for arm, n in row.items()} for name, row in strata.to_dict("index").items()},
        "power": power,
        "imbalance": {**worst.to_dict(), "beyond_chance": bool(abs(worst["difference"]) > worst["chance"])},
        "expected": expected_total(counts[TREATMENT], measured=measured, price=price),
    }


def _power(spread: Spread, *, counts: pd.DataFrame, name: str, compared: int, price: Price) -> dict[str, Any]:
    """One segment's size and what it can show."""
    treated, control = (int(counts.loc[spread.segment, arm]) for arm in (TREATMENT, CONTROL))
    effect = smallest_effect(spread, treated=treated, control=control, compared=compared)
    share = control / (treated + control)
    needed = size_needed(spread, effect=price.break_even or 0.0, share_control=share, compared=compared)
    return {
        "segment": spread.segment,
        "name": name,
        "treatment": treated,
        "control": control,
        "baseline_mean": spread.mean,
        "sd": spread.sd,
        "sd_left": spread.residual_sd,
        "smallest_effect": effect,
        "smallest_share": effect / spread.mean if spread.mean > 0 else None,
        "break_even": price.break_even,
        "size_for_break_even": needed,
    }
