"""Refresh: everyone placed anew under the standing model, what moved and drifted since the last run, and what to do."""

from dataclasses import dataclass
from datetime import date

import pandas as pd

from segkit.actions.decide import (
    decide_run,
    decide_segments,
    decisions_table,
    empty_decisions,
    run_tests,
)
from segkit.actions.decide_campaigns import decide_campaigns
from segkit.actions.drift import DRIFT, confidence_drift, feature_drift, share_drift
from segkit.actions.kpi import main_kpi
from segkit.actions.refresh_data import CHECKS, broken, check_data
from segkit.actions.refresh_promises import PROMISES, promises
from segkit.customers.days import Days
from segkit.customers.features import Customers
from segkit.data.store import Run
from segkit.errors import RunError
from segkit.segments.carried import fitted_as_of
from segkit.segments.ledger import MOVES, customer_moves, previous_run, standing_places
from segkit.segments.place import model_from
from segkit.tables import needed_of_last_run
from segkit.vocabulary import EVERYONE

THIS = "07_refresh"
FLOW = ["before", "standing", "after", "cause", "customers"]


@dataclass(frozen=True)
class Standing:
    """Today's customers under the model of the last run, and what that says of it: `placed` (segment, macro_segment,
    confidence by customer_id), `drift`, `checks` of the data, `promises` kept, `tests` and the decision on the run.
    """

    placed: pd.DataFrame
    drift: pd.DataFrame
    checks: pd.DataFrame
    promises: pd.DataFrame
    tests: pd.DataFrame
    decision: str
    reason: str
    since: str


@dataclass(frozen=True)
class Refresh:
    """All that the page of the refresh holds: `moves` of customers and their `flow`; `added`: the decisions of this
    run; `decisions`: the whole log; `refitted`: whether there is a new definition; `acted`: what was done by itself.
    """

    standing: Standing
    moves: pd.DataFrame
    flow: pd.DataFrame
    added: pd.DataFrame
    decisions: pd.DataFrame
    refitted: bool
    acted: str
    figures: dict[str, object]


def refresh(
    run: Run,
    previous: Run | None,
    days: Days,
    found: Standing,
    *,
    assignments: pd.DataFrame,
) -> Refresh:
    """Hold a run against the one before it.

    Takes  run: with its segments made; previous: of `last_run`; days, assignments: of this run; found: of `stand`
    Gives  Refresh; of a first run its tables have no row
    """
    if previous is None:
        nothing = pd.DataFrame([], columns=MOVES)
        log = empty_decisions()
        return Refresh(found, nothing, flow(nothing), log, log, False, "", {"refresh.decision": None})
    before = previous.table("assignments").set_index("customer_id")["segment"]
    after = assignments.set_index("customer_id")["segment"]
    moves = customer_moves(before, found.placed["segment"], after)
    acted = str(run.record().get("acted") or "")
    added = decisions_of(found, days, run=run, previous=previous)
    added = added.assign(acted=[acted if scope == "run" else "" for scope in added["scope"]])
    log = pd.concat([part for part in (earlier_decisions(previous), added) if len(part)], ignore_index=True)
    figures = refresh_figures(found, moves, added)
    return Refresh(found, moves, flow(moves), added, log, acted != "kept", acted, figures)


def names_of(run: Run, previous: Run | None) -> dict[str, str]:
    """The names of segments by id: of this run, and of those that are gone."""
    found: dict[str, str] = {}
    for one in (previous, run):
        if one is not None:
            found |= one.table("segments").set_index("segment")["name"].to_dict()
    return found


def last_run(path: str, *, of: Run) -> Run | None:
    """The run that this one is held against; None for an empty path.

    Raises
    ------
    RunError : not a run, one of another source, one that is not strictly earlier, or without the tables needed
    """
    found = previous_run(path, of=of)
    if found is None:
        return None
    missing = [name for name in needed_of_last_run(THIS) if not found.has(name)]
    if missing:
        raise RunError(
            f"previous run: {found.path.name} holds no {', '.join(missing)}, so nothing can be held against it. "
            f"Give a run of all steps with --previous, or --previous none."
        )
    dates = [run.parameters()["as_of"] for run in (found, of)]
    if dates[0] >= dates[1]:
        raise RunError(
            f"previous run: {found.path.name} is as of {dates[0]}, which is not before {dates[1]}. "
            f"Give an earlier run with --previous, or --previous none."
        )
    return found


def stand(customers: Customers, features: pd.DataFrame, *, previous: Run | None, seed: int = 7) -> Standing:
    """Place everyone under the standing model, and test whether it still stands.

    Takes  customers: of today; features: as a run keeps them, by customer_id; previous: of `last_run`
    Gives  Standing; of a first run its tables have no row

    Raises
    ------
    RunError : the standing model needs features that this source does not carry
    """
    if previous is None:
        return no_standing()
    model = model_from(*previous.load_model())
    own = [name for name in model.space.features if name in features]
    before = previous.table("assignments").set_index("customer_id")[["segment", "confidence"]]
    placed = standing_places(model, customers.signals, previous_segment=before["segment"])
    drift = pd.concat(
        [
            feature_drift(previous.table("features").set_index("customer_id"), features[own], seed=seed),
            share_drift(before["segment"], placed["segment"], seed=seed),
            confidence_drift(before, placed, seed=seed),
        ],
        ignore_index=True,
    )
    period, then = customers.period, previous.period
    checks = check_data(customers.days, period=period, kinds=customers.kinds)
    tests = run_tests(
        drift,
        broken=broken(checks),
        sizes=placed["segment"].value_counts(),
        age_days=(period.as_of - date.fromisoformat(fitted_as_of(previous))).days,
        horizon_days=then.horizon_days,
    )
    decision, reason = decide_run(tests)
    accuracy = promises(customers.days, previous=previous, as_of=period.as_of)
    return Standing(placed, drift, checks, accuracy, tests, decision, reason, since=then.as_of.isoformat())


def decisions_of(found: Standing, days: Days, *, run: Run, previous: Run) -> pd.DataFrame:
    """What a run decides: of itself, of each standing segment, and of campaigns.

    Takes  found: of `stand`; days; run: with pilots and experiment where they were measured; previous
    Gives  rows of the table decisions
    """
    tables = {name: run.table(name) if run.has(name) else None for name in ("pilots", "experiment")}
    pilots = _or_empty(
        tables["pilots"], ["segment", "customers", "smallest_share", "weeks_needed", "reachable", "mean"]
    )
    experiment = _or_empty(tables["experiment"], ["segment", "verdict", "lift", "lift_low", "lift_high"])
    segments = decide_segments(found.drift, sizes=found.placed["segment"].value_counts())
    campaigns = decide_campaigns(
        found.promises if found.decision != "look" else found.promises.iloc[:0],
        pilots=pilots,
        experiment=experiment,
        log=earlier_decisions(previous),
        kpi=main_kpi(days),
        period=run.period,
        reachable=found.decision != "look",
    )
    about = {"as_of": run.period.as_of.isoformat(), "since": found.since}
    return decisions_table((found.decision, found.reason), found.tests, segments, campaigns, **about)


def earlier_decisions(previous: Run | None) -> pd.DataFrame:
    """The log as the last run kept it: what was decided is carried on and never changed."""
    if previous is None or not previous.has("decisions"):
        return empty_decisions()
    return previous.table("decisions")


def flow(moves: pd.DataFrame) -> pd.DataFrame:
    """How many customers went from where, by way of where, to where.

    Takes  moves: of `ledger.customer_moves`
    Gives  before, standing, after (missing: not there), cause, customers; the most first
    """
    groups = moves.groupby(FLOW[:4], dropna=False).size().rename("customers").reset_index()
    return groups.sort_values(["customers", *FLOW[:3]], ascending=[False, True, True, True], ignore_index=True)[FLOW]


def refresh_figures(found: Standing, moves: pd.DataFrame, decisions: pd.DataFrame) -> dict[str, object]:
    """The headline numbers of the page, flat."""
    both = moves[~moves["cause"].isin(["joined", "left"])]
    stood = both["before"] == both["standing"]
    features = found.drift[found.drift["what"] == "feature"]
    whole = found.promises[(found.promises["segment"] == EVERYONE)]
    figures: dict[str, object] = {
        "refresh.since": found.since,
        "refresh.decision": found.decision,
        "refresh.stayed_standing": stood.mean() if len(both) else None,
        "refresh.stayed": (both["cause"] == "stayed").mean() if len(both) else None,
        "refresh.features_beyond_chance": int(features["beyond"].sum()),
        "refresh.features_large": int((features["verdict"] == "large").sum()),
        "refresh.data_broken": int(found.checks["broken"].astype(bool).sum()),
        "refresh.decisions": len(decisions),
    }
    for row in whole.to_dict("records"):
        name = f"refresh.{row['kpi']}_observed_less_predicted"
        figures |= {name: row["gap"], f"{name}.low": row["gap_low"], f"{name}.high": row["gap_high"]}
    return figures


def no_standing() -> Standing:
    """What a first run has to say: tables without a row."""
    return Standing(
        placed=pd.DataFrame(columns=["segment", "macro_segment", "confidence"]),
        drift=pd.DataFrame([], columns=DRIFT),
        checks=pd.DataFrame([], columns=CHECKS),
        promises=pd.DataFrame([], columns=PROMISES),
        tests=run_tests(pd.DataFrame([], columns=DRIFT), broken=[], sizes=pd.Series(dtype=int), age_days=0,
                        horizon_days=1).iloc[:0],
        decision="first run",
        reason="There is no earlier run of this source: the next one will say what changed.",
        since="",
    )  # fmt: skip


def _or_empty(table: pd.DataFrame | None, columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame([], columns=columns) if table is None else table
