"""Design a pilot on a finished run, and write and load its frozen files."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segkit.customers.days import Days, load_days
from segkit.customers.profile import may_contact
from segkit.data import sources
from segkit.data.alone import refuse_customers_only
from segkit.data.holdout import Holdout
from segkit.data.io import (
    csv_quoting,
    escape_formula,
    read_customer_csv,
    read_json,
    to_json_value,
    unescape_formula,
    write_bytes,
    write_json,
)
from segkit.data.runs import Run, load_run, publish_run, refuse_pseudonyms, stage_run
from segkit.errors import InputError, RunError
from segkit.experiments.design import (
    CONTROL,
    JOINED,
    Spread,
    arms_of,
    check_arms,
    count_comparisons,
    default_share_control,
    draw_treatment,
    excluded_ids,
    expected_total,
    imbalance,
    lifts_from_readout,
    rank_targets,
    size_needed,
    smallest_effect,
    spreads,
    strata_of,
    treated_shares,
)
from segkit.experiments.estimate import COVARIATES, KPIS, Price, covariates, price_of
from segkit.format import FLOOR, joined
from segkit.period import parse_day

FORM_VERSION = 1  # of pilot.json


@dataclass(frozen=True)
class Pilot:
    """A frozen design.

    `facts`: pilot.json without the hashes of its files; `units`: by customer_id, segment, stratum, arm and covariates;
    `targets`: the treated in the order to contact them.
    """

    facts: dict[str, Any]
    units: pd.DataFrame
    targets: pd.DataFrame

    @property
    def arms(self) -> tuple[str, ...]:
        """The treatment arms; "treatment" where there is only one and it has no name."""
        return arms_of(self.facts)

    def price(self, *, contact_cost: float | None = None, margin: float | None = None) -> Price:
        """Return the cost of a contact and the margin; None is what the pilot was designed with."""
        given = {"contact_cost": contact_cost, "margin": margin}
        chosen = {name: self.facts[name] if value is None else value for name, value in given.items()}
        return price_of(**chosen, kpi=self.facts["kpi"])


def design_pilot(
    run: Run,
    *,
    segments: tuple[str, ...] = (),
    opportunity: str = "",
    join: bool = False,
    arms: tuple[str, ...] = (),
    kpi: str = "spend",
    share_control: float | None = None,
    weeks: int | None = None,
    start: str = "",
    seed: int = 7,
    exclude: tuple[str, ...] = (),
    budget: float | None = None,
    contact_cost: float | None = None,
    margin: float | None = None,
    lift_from: str = "",
) -> Pilot:
    """Design a pilot on a finished run, without writing anything.

    The same arguments give the same pilot, whatever the order of the run's rows.

    Parameters
    ----------
    segments
        One or more ids; more need larger effects, as all are tested at once.
    opportunity
        An opportunity of the run, such as A01: its segments are joined, only customers it concerns are drawn, and the
        kind of action is recorded.
    join
        Test the segments as one group, which detects smaller effects.
    arms
        Names of the treatments to compare with the control and each other, such as mail and app; by default one.
    kpi
        spend, orders or active.
    share_control
        Share of customers held out; None is the one that detects the smallest effects: .5, with several arms less.
    weeks
        Length of the outcome window; None is the run's horizon.
    start
        ISO date on which the treatment begins; empty is the run's `as_of`.
    seed
        Another seed draws other customers.
    exclude
        Folders of running pilots, or CSV files of customers, to leave out.
    budget, contact_cost, margin
        Money for all contacts; money per contact; what one unit of the KPI earns.
    lift_from
        An earlier read-out; without it no expected return can be computed.

    Raises
    ------
    InputError
        A segment, KPI, share, date, cost or file cannot be used, or there are too few customers.
    """
    _refuse_run(run)
    price = price_of(contact_cost, margin, kpi=kpi)
    if budget is not None and not budget > 0:
        raise InputError(f"--budget {budget}: not above zero. Give the money for all contacts.")
    window = _outcome_window(run, weeks=weeks, start=start)
    arms = check_arms(arms)
    share_control = default_share_control(len(arms)) if share_control is None else share_control
    if not 0 < share_control < 1:
        raise InputError(
            f"--share-control {share_control}: not between 0 and 1. Without a control group no effect can be measured."
        )
    measured = _measured_lifts(arms, lift_from=lift_from, price=price, kpi=kpi)
    days = load_days(run)
    action = _action(run, opportunity)
    chosen = _customers_in_segments(run, segments or action["segments"], join=join or bool(opportunity))
    eligible, left_out = _eligible(run, chosen, exclude=exclude, window=window, opportunity=opportunity)
    sizes = eligible.groupby(eligible).size()
    shares = treated_shares(sizes, share_control=share_control, budget=budget, price=price, measured=measured)
    _refuse_small(chosen, sizes=sizes, shares=shares, arms=len(arms))
    eligible = eligible[eligible.map(shares) > 0]
    units = _units(run, days, eligible=eligible, shares=shares, kpi=kpi, window=window, seed=seed, arms=arms)
    facts = {
        "form": FORM_VERSION,
        **_run_facts(run),
        "segments": sorted(eligible.unique().tolist()),
        "action": {name: value for name, value in action.items() if name != "segments"},
        "arms": list(arms),
        "kpi": kpi,
        "share_control": share_control,
        "seed": seed,
        **{name: value.isoformat() if isinstance(value, date) else value for name, value in window.items()},
        "contact_cost": price.contact_cost,
        "margin": price.margin,
        "budget": budget,
        "left_out": left_out | {"no return was measured or no budget was left": int(sizes.sum() - len(units))},
        **_design_facts(run, days, units=units, kpi=kpi, window=window, price=price, measured=measured),
    }
    treated = units[units["arm"] != CONTROL]
    targets = rank_targets(treated, value=units["pre"], measured=measured, price=price)
    return Pilot(facts=facts, units=units, targets=targets)


def _measured_lifts(arms: tuple[str, ...], *, lift_from: str, price: Price, kpi: str) -> pd.DataFrame | None:
    """Read what an earlier read-out measured; refuse what a pilot with several arms cannot use."""
    if len(arms) == 1:
        return lifts_from_readout(lift_from, kpi=kpi, arm=arms[0]) if lift_from else None
    if lift_from:
        raise InputError(
            f"--lift-from {lift_from}: it cannot say what each of {len(arms)} arms will bring. Leave it out, or repeat "
            "one arm with --arms NAME."
        )
    if kpi != "spend" and price.margin is not None:
        raise InputError(f"--margin: with several arms a return is computed of spend only, not of {kpi}. Leave it out.")
    return None


def _refuse_run(run: Run) -> None:
    """Refuse a run whose customers cannot be contacted, or whose outcomes cannot be measured."""
    refuse_customers_only(run, what="a pilot")
    refuse_pseudonyms(run, what="a pilot lists the customers to contact")


def _outcome_window(run: Run, *, weeks: int | None, start: str) -> dict[str, Any]:
    """Compute when outcomes are counted, and the baseline period before."""
    period = run.period
    as_of = period.as_of
    first = parse_day(start, name="--start") if start else as_of
    if first < as_of:
        raise InputError(f"--start {start}: before the as_of of the run, {as_of}: its outcomes would be known already.")
    if weeks is not None and weeks < 1:
        raise InputError(f"--weeks {weeks}: give at least 1.")
    window_days = 7 * weeks if weeks else period.horizon_days
    return {
        "start": first,
        "end": first + timedelta(days=window_days - 1),
        "window_days": window_days,
        "baseline_start": period.lookback_start,
        "baseline_end": period.last_day,
    }


def _action(run: Run, opportunity: str) -> dict[str, Any]:
    """Return id, type, need and segments of an opportunity; no segments without one."""
    if not opportunity:
        return {"segments": ()}
    table = run.table("actions").set_index("action") if run.has("actions") else pd.DataFrame()
    if opportunity not in table.index:
        available = ", ".join(table.index) or "none"
        raise InputError(f"--opportunity {opportunity}: the opportunities of this run are {available}.")
    row = table.loc[opportunity]
    need = row["need"] if isinstance(row["need"], str) else ""
    return {"id": opportunity, "type": row["type"], "need": need, "segments": tuple(row["joined"].split())}


def _customers_in_segments(run: Run, segments: tuple[str, ...], *, join: bool = False) -> pd.Series:
    """Select the customers of the segments: segment by customer_id, sorted; one name for all if they are joined."""
    assignments = run.table("assignments").sort_values("customer_id").set_index("customer_id")["segment"]
    unknown = sorted(set(segments) - set(assignments))
    if unknown or not segments:
        available = ", ".join(sorted(assignments.unique()))
        raise InputError(f"--segment {', '.join(unknown) or 'is not given'}: the segments of this run are {available}.")
    chosen = assignments[assignments.isin(segments)]
    return pd.Series(JOINED.join(sorted(set(segments))), index=chosen.index, name="segment") if join else chosen


def _eligible(
    run: Run, chosen: pd.Series, *, exclude: tuple[str, ...], window: dict[str, Any], opportunity: str
) -> tuple[pd.Series, dict[str, int]]:
    """Select the customers who may be in the pilot; count the others by reason."""
    parameters = run.parameters()
    source = sources.open_source(parameters["source"], data_dir=parameters.get("data_dir") or None)
    people = run.table("people") if run.has("people") else None
    concerned = _concerned(run, opportunity)
    reasons = {} if concerned is None else {f"{opportunity} does not concern them": ~chosen.index.isin(concerned)}
    reasons |= {
        "no consent": ~may_contact(people, roles=source.roles, index=chosen.index).to_numpy(),
        "in another pilot": chosen.index.isin(excluded_ids(exclude)),
    }
    holdout = Holdout.of(source)
    if holdout is not None and holdout.covers(window["start"], window["end"]):
        reasons[f"held out of the whole programme until {holdout.end}"] = chosen.index.isin(
            holdout.members(chosen.index)
        )
    left_out, allowed = {}, np.ones(len(chosen), dtype=bool)
    for reason, excluded in reasons.items():
        left_out[reason] = int((allowed & excluded).sum())
        allowed &= ~excluded
    return chosen[allowed], left_out


def _concerned(run: Run, opportunity: str) -> pd.Index | None:
    """Return the customers that an opportunity concerns; None without one, and where it concerns all of its segments.

    The members of its segments differ: one who already buys the need that is offered would only blur the result.
    """
    if not opportunity or not run.has("action_customers"):
        return None
    table = run.table("action_customers").set_index("customer_id")["actions"]
    concerned = table.index[[opportunity in one.split() for one in table]]
    return concerned if len(concerned) else None


def _refuse_small(chosen: pd.Series, *, sizes: pd.Series, shares: dict[str, float], arms: int) -> None:
    """Refuse a pilot in which an arm of a segment is below the privacy floor."""
    for name in sorted(chosen.unique()):
        size, share = int(sizes.get(name, 0)), shares.get(name, 0.5)
        if size and share == 0.0:
            continue
        smaller = min(share / arms, 1 - share) * size
        if smaller < FLOOR:
            raise InputError(
                f"{name}: {size} of {int((chosen == name).sum())} customers can be in the pilot, so its smaller arm "
                f"has {int(smaller)}; each arm needs {FLOOR}. Take a larger segment, another share, or a larger budget."
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
    arms: tuple[str, ...],
) -> pd.DataFrame:
    covariate_table = covariates(
        days,
        kpi=kpi,
        period=replace(run.period, horizon_days=window["window_days"]),
        index=eligible.index,
    ).round(6)
    stratum = strata_of(eligible, covariate_table["steady"] if kpi == "active" else covariate_table["pre"])
    arm = draw_treatment(stratum, treated_share=shares, seed=seed, salt=window["start"].isoformat(), arms=arms)
    return pd.DataFrame({"segment": eligible, "stratum": stratum, "arm": arm, **covariate_table})


def _run_facts(run: Run) -> dict[str, Any]:
    """Record the run that the pilot is drawn from, with its time zone and kinds of event."""
    parameters = run.parameters()
    source = sources.open_source(parameters["source"], data_dir=parameters.get("data_dir") or None)
    assigned = (run.path / "tables" / "assignments.parquet").read_bytes()
    names = ("as_of", "lookback_days", "horizon_days", "source_name", "source_fingerprint")
    about = {name: parameters.get(name) for name in names} | {"assignments": sha256(assigned).hexdigest()}
    kinds = dict(sorted(source.kinds.items()))
    return {"run": about, "timezone": source.timezone, "currency": source.currency, "kinds": kinds}


def _design_facts(
    run: Run,
    days: Days,
    *,
    units: pd.DataFrame,
    kpi: str,
    window: dict[str, Any],
    price: Price,
    measured: pd.DataFrame | None,
) -> dict[str, Any]:
    """Compute counts, power, balance, and the expected return or why there is none."""
    period = replace(run.period, horizon_days=window["window_days"])
    found = spreads(days, kpi=kpi, segment=units["segment"], period=period)
    arms = [one for one in units["arm"].unique() if one != CONTROL]
    counts = units.groupby(["segment", "arm"]).size().unstack(fill_value=0)
    names = run.table("segments").set_index("segment")["name"].to_dict()
    comparisons = count_comparisons(len(found), arms=len(arms))
    power = [
        _power(one, counts=counts.loc[one.segment], arm=arm, comparisons=comparisons, price=price)
        | {"name": _name_of(one.segment, names=names)}
        | ({"arm": arm} if len(arms) > 1 else {})
        for one in found
        for arm in sorted(arms)
    ]
    balance = imbalance(units, columns=COVARIATES)
    worst = balance.loc[balance["difference"].abs().idxmax()]
    strata = (
        units.groupby(["stratum", "arm"])
        .size()
        .unstack(fill_value=0)
        .reindex(columns=[*sorted(arms), CONTROL], fill_value=0)
    )
    return {
        "unit": KPIS[kpi].unit,
        "strata": {name: {arm: int(n) for arm, n in row.items()} for name, row in strata.to_dict("index").items()},
        "power": power,
        "imbalance": {**worst.to_dict(), "beyond_chance": bool(abs(worst["difference"]) > worst["chance"])},
        "expected": expected_total(counts[arms].sum(axis=1), measured=measured, price=price),
    }


def _name_of(segment: str, *, names: dict[str, str]) -> str:
    """Return the name of a segment, or those of joined ones."""
    return joined([names.get(one, "") for one in segment.split(JOINED)])


def _power(spread: Spread, *, counts: pd.Series, arm: str, comparisons: float, price: Price) -> dict[str, Any]:
    """Compute the size of one arm of a segment and the effect it can show."""
    treated, control = int(counts[arm]), int(counts[CONTROL])
    effect = smallest_effect(spread, treated=treated, control=control, comparisons=comparisons)
    share = control / (treated + control)
    needed = size_needed(spread, effect=price.break_even or 0.0, share_control=share, comparisons=comparisons)
    return {
        "segment": spread.segment,
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


UNITS_FILE, TARGETS_FILE = "units.parquet", "targets.csv"
IGNORED = b"*\n"  # of .gitignore: a pilot lists customers, and must not get into a repository


def write_pilot(pilot: Pilot, out: str | Path, *, pages: Mapping[str, str] | None = None) -> Path:
    """Write a design into a folder of its own and return the folder.

    `out`: a folder that is missing or empty; `pages`: file name to the HTML that goes with it. Raises `RunError`: the
    folder is not empty.
    """
    out = Path(out)
    if (out / "pilot.json").is_file():
        raise RunError(f"{out}: there is a pilot already, and a design is never overwritten. Give another --out.")
    if out.is_dir() and any(out.iterdir()):
        raise RunError(f"{out}: the folder holds something else. Give another --out.")
    with stage_run(out) as building:
        hashes = {}
        write_bytes(building / ".gitignore", IGNORED)
        for name, content in _pilot_tables(pilot).items():
            write_bytes(building / name, content)
            hashes[name] = sha256(content).hexdigest()
        for name, page in (pages or {}).items():
            write_bytes(building / name, page.encode("utf-8"))
        write_json(building / "pilot.json", to_rounded_json({**pilot.facts, "files": hashes}))
        publish_run(building, out)
    return out


def load_pilot(folder: str | Path) -> Pilot:
    """Load a frozen pilot and check its files.

    Raises
    ------
    RunError
        The folder is no pilot, or its frozen units were changed.
    InputError
        treatment.csv and control.csv differ from the draw.
    """
    folder = Path(folder)
    if not (folder / "pilot.json").is_file():
        raise RunError(f"{folder}: no pilot.json, so it is no pilot. `segkit pilot` makes one.")
    facts = read_json(folder / "pilot.json")
    if facts.get("form") != FORM_VERSION or not (folder / UNITS_FILE).is_file():
        raise RunError(
            f"{folder}: this pilot was made by another version, or its {UNITS_FILE} is missing. Make a new one."
        )
    content = (folder / UNITS_FILE).read_bytes()
    if sha256(content).hexdigest() != facts["files"][UNITS_FILE]:
        raise RunError(
            f"{folder / UNITS_FILE}: it was changed after the draw. A design that was changed proves nothing."
        )
    units = pd.read_parquet(io.BytesIO(content)).set_index("customer_id")
    _refuse_altered(folder, units=units, arms=arms_of(facts))
    targets = None
    if (folder / TARGETS_FILE).is_file():
        targets = pd.read_csv(folder / TARGETS_FILE, converters={"customer_id": unescape_formula})
    return Pilot(facts=facts, units=units, targets=pd.DataFrame() if targets is None else targets)


def default_pilot_folder(run: Run, *, facts: Mapping[str, Any]) -> Path:
    """Return the default folder of a pilot: in pilots/ next to the run, as a finished run is read-only."""
    arms = facts["arms"] if len(facts["arms"]) > 1 else []
    name = "-".join([run.path.resolve().name, *facts["segments"], *arms, facts["kpi"]])
    return run.path.resolve().parent / "pilots" / name


def find_pilot(run_dir: str | Path, *, pilot: str = "") -> Path:
    """Find the pilot of a run.

    It is the folder given, the run's folder if that is a pilot, or the only pilot drawn from the run.

    Raises `RunError`: no pilot was drawn from this run, or several were.
    """
    run_dir = Path(run_dir)
    if not pilot and (run_dir / "pilot.json").is_file():
        return run_dir
    run = load_run(run_dir)
    refuse_customers_only(run, what="a read-out of a pilot")
    drawn = (
        sha256((run.path / "tables" / "assignments.parquet").read_bytes()).hexdigest() if run.has("assignments") else ""
    )
    places = (
        [Path(pilot)]
        if pilot
        else sorted(p.parent for p in (run.path.resolve().parent / "pilots").glob("*/pilot.json"))
    )
    if pilot and not (places[0] / "pilot.json").is_file():
        raise RunError(f"--pilot {pilot}: no pilot.json, so it is no pilot. `segkit pilot` makes one.")
    drawn = {drawn, *run.record().get("forgotten", {}).get("assignments", [])}  # also before customers were erased
    mine = [place for place in places if read_json(place / "pilot.json")["run"]["assignments"] in drawn]
    if pilot and not mine:
        raise RunError(
            f"--pilot {pilot}: it was drawn from another run than {run_dir}. Give the run it was drawn from."
        )
    if len(mine) != 1:
        names = ", ".join(place.name for place in mine) or "none"
        raise RunError(f"{run_dir}: the pilots drawn from this run are: {names}. Choose one with --pilot DIR.")
    return mine[0]


def _refuse_altered(folder: Path, *, units: pd.DataFrame, arms: tuple[str, ...]) -> None:
    """Refuse a pilot whose files differ from the draw.

    Raises `InputError`: an arm is empty or missing, a customer is in both, treatment depends on the segment, or
    customers differ from the draw.
    """
    now = {}
    for arm in (*arms, CONTROL):
        path = folder / f"{arm}.csv"
        if not path.is_file():
            raise InputError(f"{path}: there is no {arm} file. Put back the one that was drawn.")
        now[arm] = pd.Index(read_customer_csv(path)["customer_id"])
        if now[arm].empty:
            who = "treated, so nothing was tried" if arm != CONTROL else "held out, so there is nothing to compare with"
            raise InputError(f"{path.name}: no customer is {who}. Put back the file that was drawn.")
    files = " and ".join(f"{name}.csv" for name in now)
    ids = pd.Index([one for arm in now.values() for one in arm.unique()])
    both = ids[ids.duplicated()].unique().sort_values()
    if len(both):
        raise InputError(f"{files}: {len(both)} customers are in both, '{both[0]}' first. Put back the drawn files.")
    arm = pd.concat([pd.Series(name, index=ids.unique(), dtype=object) for name, ids in now.items()])
    _refuse_other_counts(arm, units=units)
    moved = int((arm.reindex(units.index) != units["arm"]).sum()) + int((~arm.index.isin(units.index)).sum())
    if moved:
        raise InputError(
            f"{files}: {moved} customers are not in the arm they were drawn for. A pilot "
            f"is read out by its draw, whoever was contacted in the end: put back the files as they were written."
        )


def to_rounded_json(value: Any) -> Any:
    """Convert nested values to what JSON can hold: floats rounded, missing numbers null."""
    if isinstance(value, dict):
        return {str(name): to_rounded_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [to_rounded_json(one) for one in value]
    return to_json_value(value)


def _refuse_other_counts(arm: pd.Series, *, units: pd.DataFrame) -> None:
    """Refuse other counts by stratum than drawn: if treatment depends on the segment, it is no experiment."""
    stratum = units["stratum"].reindex(arm.index)
    for name, drawn in units.groupby("stratum")["arm"]:
        in_stratum = arm[stratum == name]
        now, then = (one.value_counts().reindex(sorted(set(arm)), fill_value=0) for one in (in_stratum, drawn))
        if (now != then).any():
            raise InputError(
                f"{', '.join(f'{one}.csv' for one in now.index)}: in stratum {name} they hold "
                f"{', '.join(map(str, now))} customers; {', '.join(map(str, then))} were drawn. Treatment now depends "
                "on the segment, so a difference proves nothing: put back the files as they were written."
            )


def _pilot_tables(pilot: Pilot) -> dict[str, bytes]:
    """Encode the tables of a pilot, sorted by customer."""
    units = pilot.units.rename_axis("customer_id").reset_index().sort_values("customer_id", ignore_index=True)
    files = {}
    for arm in (*pilot.arms, CONTROL):
        rows = units.loc[units["arm"] == arm, ["customer_id", "segment"]]
        files[f"{arm}.csv"] = _csv_bytes(rows)
    files[TARGETS_FILE] = _csv_bytes(pilot.targets)
    buffer = io.BytesIO()
    units.to_parquet(buffer, index=False, compression="zstd")
    files[UNITS_FILE] = buffer.getvalue()
    return files


def _csv_bytes(rows: pd.DataFrame) -> bytes:
    """Encode a table for spreadsheets."""
    safe_rows = rows.assign(customer_id=rows["customer_id"].map(escape_formula)) if "customer_id" in rows else rows
    return safe_rows.to_csv(index=False, lineterminator="\n", quoting=csv_quoting(safe_rows)).encode("utf-8")
