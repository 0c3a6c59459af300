"""Compare a run with the previous one: data, forecasts, personas, moves."""

from dataclasses import dataclass
from datetime import date

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from segkit.customers.days import Days
from segkit.customers.features import Customers
from segkit.data.runs import Run
from segkit.errors import RunError
from segkit.experiments.estimate import KPIS, kpi_values, main_kpi
from segkit.format import FLOOR, formatter_for, interval, masked_count
from segkit.period import Period
from segkit.refresh.decisions import (
    decide_campaigns,
    decide_run,
    decide_segments,
    decisions_table,
    empty_decisions,
    run_tests,
)
from segkit.refresh.drift import DRIFT, confidence_drift, feature_drift, share_drift
from segkit.segments.lineage import MOVE_COLUMNS, assign_under_model, customer_moves, fitted_as_of, previous_run
from segkit.segments.model import model_from_arrays
from segkit.stats import Estimate, mean_interval
from segkit.tables import needed_of_last_run
from segkit.vocabulary import EVERYONE

WINDOW_DAYS = 14  # whole weeks, so that each window holds the same weekdays
MIN_DATA_WINDOWS = 4  # to know what is usual
MIN_EVENT_RATIO = 0.5  # of the emptiest window before; less than that of it is a fall
MIN_EVENTS = 10  # events in the emptiest window; none at all after so many is no chance (e to the -10)
MIN_NEW_SHARE, MIN_NEW_RATIO = (
    0.1,
    2.0,
)  # a share that is so much more, and so many times more, than in any window before
NEW_CUSTOMERS, NEW_CATEGORIES = "customers never seen before", "lines in categories never seen before"
CHECKS = ["check", "item", "last", "least", "most", "windows", "broken", "words"]


def check_data(days: Days, *, period: Period, kinds: dict[str, str]) -> pd.DataFrame:
    """Hold the last two weeks before `as_of` against the lookback before them.

    Takes  days: the state; rows at or after `as_of` are not looked at
    Gives  check (events, kind, share), item, last, least and most (of the windows before), windows, broken, words;
           empty where fewer than four windows are known

    Parameters
    ----------
    kinds : each kind of event -> 'customer' or 'company'
    """
    as_of = period.as_of
    history_days = _history_days(days, as_of=as_of)
    count = min(period.lookback_days, history_days) // WINDOW_DAYS
    if count < MIN_DATA_WINDOWS + 1:
        return pd.DataFrame([], columns=CHECKS)
    rows = days.rows.filter((days.rows.day < ibis.literal(as_of)) & (days.rows.until < ibis.literal(as_of)))
    aggregates = {"events": rows.own_events.sum(), **{kind: rows[f"n_{kind}"].sum() for kind in sorted(kinds)}}
    by_window = (
        rows.mutate(window=_window_number(rows, as_of=as_of))
        .group_by("window")
        .aggregate(**{name: rows_sum.cast("float64") for name, rows_sum in _safe_column_names(aggregates).items()})
    )
    table = by_window.to_pandas().set_index("window").reindex(range(count)).fillna(0.0)
    found = [
        _check_fall(table[name], item=item)
        for name, item in zip(_safe_column_names(aggregates), aggregates, strict=True)
    ]
    usable_windows = history_days // WINDOW_DAYS // 2  # of the older half of history everything is new
    for item, parts in (
        (NEW_CUSTOMERS, _new_share(rows.filter(rows.own_events > 0), "customer_id", None, as_of=as_of)),
        (NEW_CATEGORIES, _new_category_share(days, as_of=as_of)),
    ):
        if parts is not None and min(count, usable_windows) > MIN_DATA_WINDOWS:
            found.append(_check_jump(parts.reindex(range(min(count, usable_windows))).fillna(0.0), item=item))
    return pd.DataFrame(found, columns=CHECKS)


def failed_checks(checks: pd.DataFrame) -> list[str]:
    """What looks broken, a sentence each."""
    return checks.loc[checks["broken"].astype(bool), "words"].tolist()


def _safe_column_names(aggregates: dict[str, ir.Value]) -> dict[str, ir.Value]:
    """Columns that no kind of event can be called like."""
    return {f"sum_{number}": value for number, value in enumerate(aggregates.values())}


def _history_days(days: Days, *, as_of: date) -> int:
    first = days.rows.filter(days.rows.day < ibis.literal(as_of)).day.min().to_pandas()
    return 0 if pd.isna(first) else (as_of - pd.Timestamp(first).date()).days


def _window_number(rows: ir.Table, *, as_of: date) -> ir.Value:
    """Number of the window back from `as_of`; the last one is 0."""
    return ((ibis.literal(as_of).delta(rows.day, unit="day") - 1) // WINDOW_DAYS).cast("int64")


def _new_category_share(days: Days, *, as_of: date) -> pd.Series | None:
    if days.categories is None:
        return None
    return _new_share(
        days.categories.filter(days.categories.day < ibis.literal(as_of)), "category", "lines", as_of=as_of
    )


def _new_share(rows: ir.Table, key: str, weight: str | None, *, as_of: date) -> pd.Series:
    """By window, the share of what is there that was never there before: of distinct names, or of their weight."""
    seen = rows.mutate(window=_window_number(rows, as_of=as_of), one=1 if weight is None else rows[weight])
    first_seen = seen.group_by("window", name=seen[key]).aggregate(weight=seen.one.sum().cast("float64")).to_pandas()
    if weight is None:
        first_seen["weight"] = 1.0
    first = first_seen.groupby("name")["window"].transform("max") == first_seen["window"]
    return (first_seen["weight"] * first).groupby(first_seen["window"]).sum() / first_seen["weight"].groupby(
        first_seen["window"]
    ).sum()


def _check_fall(series: pd.Series, *, item: str) -> tuple:
    last, before = float(series.iloc[0]), series.iloc[1:]
    least, most = float(before.min()), float(before.max())
    whole = item == "events"  # a kind may be rare; that customers do nothing at all is no habit
    gone = last == 0 and (most if whole else least) >= MIN_EVENTS
    is_broken = gone or (whole and last < MIN_EVENT_RATIO * least)
    what = "events of customers" if whole else f"events of the kind '{item.replace('_', ' ')}'"
    words = f"The last {WINDOW_DAYS} days hold {last:,.0f} {what}; windows before held {least:,.0f} to {most:,.0f}."
    check = "events" if whole else "kind"
    return check, item, last, least, most, len(before), bool(is_broken), words


def _check_jump(series: pd.Series, *, item: str) -> tuple:
    last, before = float(series.iloc[0]), series.iloc[1:]
    least, most = float(before.min()), float(before.max())
    is_broken = last > most + MIN_NEW_SHARE and last > MIN_NEW_RATIO * most
    words = (
        f"In the last {WINDOW_DAYS} days {np.round(100 * last):.0f} % are {item}; "
        f"in no window before more than {np.round(100 * most):.0f} %."
    )
    return "share", item, last, least, most, len(before), bool(is_broken), words


DIGITS = 6
MIN_OBSERVED_DAYS = 7  # fewest days that anything is read from
FORECAST_COLUMNS = {"active": "active_share", "orders": "orders", "spend": "spend"}
ACCURACY_COLUMNS = [
    "segment",
    "kpi",
    "unit",
    "customers",
    "days",
    "part",
    *(f"{name}{part}" for name in ("predicted", "observed", "gap", "against_all") for part in ("", "_low", "_high")),
    "verdict",
]


def compare_with_forecast(days: Days, *, previous: Run, as_of: date) -> pd.DataFrame:
    """Hold what the last run expected against what its customers did between it and `as_of`.

    Takes  days: the state of today; previous: a finished run with assignments and segments
    Gives  segment ("all" first), kpi, unit, customers, days and part (of the horizon that has passed), predicted,
           observed and gap (observed less predicted; per customer) with 95 % intervals, against_all (observed over
           predicted, less the same of all customers: what is left when a season moves everyone), verdict (short,
           above, as expected); empty where less than a week has passed, or nothing was expected
    """
    start, horizon_days = previous.period.as_of, previous.period.horizon_days
    passed = min((as_of - start).days, horizon_days)
    expected = _expected_kpis(previous)
    if passed < MIN_OBSERVED_DAYS or expected.empty:
        return pd.DataFrame([], columns=ACCURACY_COLUMNS)
    segment = previous.table("assignments").set_index("customer_id")["segment"].sort_index()
    rows = []
    for kpi in expected["kpi"].unique():
        if (kpi == "spend" and "amount" not in days.rows.columns) or (kpi == "active" and passed < horizon_days):
            continue
        observed = kpi_values(days, kpi=kpi, start=start, window_days=passed, index=segment.index)
        expected_by_segment = expected[expected["kpi"] == kpi].set_index("segment")
        rows += _kpi_accuracy(observed, segment, expected_by_segment, kpi=kpi, part=passed / horizon_days)
    table = pd.DataFrame(rows)
    return table.assign(days=passed, part=round(passed / horizon_days, DIGITS)).reindex(columns=ACCURACY_COLUMNS)


def _expected_kpis(previous: Run) -> pd.DataFrame:
    """What was expected of a customer: segment ("all" among them), kpi, value, low, high."""
    if previous.has("predicted_segments"):
        table = previous.table("predicted_segments").set_index("segment")
        parts = {kpi: _interval_values(table, name) for kpi, name in FORECAST_COLUMNS.items() if name in table}
        for kpi in set(parts) - {"active"}:
            parts[kpi] = parts[kpi].div(table["customers"], axis=0)
        if parts and any(part["value"].notna().any() for part in parts.values()):
            return _stack_kpis(parts)
    table = previous.table("segments").set_index("segment")
    names = {"active": "active_share_next", "spend": "spend_next"}
    parts = {kpi: _interval_values(table, name) for kpi, name in names.items() if name in table}
    weights = table["customers"] / table["customers"].sum()
    for kpi, part in parts.items():
        whole = part.mul(weights, axis=0).sum(min_count=len(part)).to_frame(EVERYONE).T  # of one mind: no narrower
        parts[kpi] = pd.concat([whole, part])
    return _stack_kpis(parts)


def _interval_values(table: pd.DataFrame, name: str) -> pd.DataFrame:
    return pd.DataFrame({"value": table[name], "low": table[f"{name}_low"], "high": table[f"{name}_high"]})


def _stack_kpis(parts: dict[str, pd.DataFrame]) -> pd.DataFrame:
    table = pd.concat({kpi: parts[kpi] for kpi in KPIS if kpi in parts}, names=["kpi", "segment"])
    return table.reset_index().dropna(subset=["value"])


def _kpi_accuracy(
    observed: pd.Series, segment: pd.Series, expected_by_segment: pd.DataFrame, *, kpi: str, part: float
) -> list[dict]:
    groups = {EVERYONE: observed} | {name: values for name, values in observed.groupby(segment)}
    rows = []
    for name, values in groups.items():
        if name not in expected_by_segment.index or len(values) < FLOOR:
            continue
        expected = [expected_by_segment.loc[name, side] * part for side in ("value", "low", "high")]
        at, low, high = mean_interval(values)
        spread = np.hypot((high - low) / 2, (expected[2] - expected[1]) / 2 if np.isfinite(expected[1]) else 0.0)
        row = {"segment": name, "kpi": kpi, "unit": KPIS[kpi].unit, "customers": len(values)}
        row |= Estimate(*expected).columns("predicted", digits=DIGITS)
        row |= Estimate(at, max(low, min(at, 0.0)), high).columns("observed", digits=DIGITS)
        gap = at - expected[0]
        row |= Estimate.around(gap, half=spread).columns("gap", digits=DIGITS)
        row["verdict"] = "short" if gap + spread < 0 else "above" if gap - spread > 0 else "as expected"
        rows.append(row | {"_spread": spread})
    return _compare_with_all(rows)


def _compare_with_all(rows: list[dict]) -> list[dict]:
    """Came over expected, less the same of all: what a season that moves everyone does not explain. The interval takes
    a segment and all customers for independent, which makes it a little wide.
    """
    whole = next((row for row in rows if row["segment"] == EVERYONE), None)
    for row in rows:
        spread = row.pop("_spread")
        row["_kept"] = (row["observed"] / row["predicted"], spread / row["predicted"]) if row["predicted"] > 0 else None
    for row in rows:
        if row is not whole and whole and row["_kept"] and whole["_kept"]:
            lead, half = row["_kept"][0] - whole["_kept"][0], float(np.hypot(row["_kept"][1], whole["_kept"][1]))
            row |= Estimate.around(lead, half=half).columns("against_all", digits=DIGITS)
    return [{name: value for name, value in row.items() if name != "_kept"} for row in rows]


MAX_SIGNS = 4  # of the strongest that are compared; far ones change places by chance
MAIN_KPIS = ("spend per customer", "active rate")  # of the baseline, the first that is known
CHANGES = [
    "segment",
    "name",
    "became",
    "customers_before",
    "customers_after",
    "kpi",
    *(f"{side}{part}" for side in ("kpi_before", "kpi_after") for part in ("", "_low", "_high")),
    "words",
]


def persona_changes(run: Run, previous: Run | None) -> pd.DataFrame:
    """Each segment of this run beside the last, and those that are gone.

    Takes  two runs with segments, needs, signals and ledger, and starting_values where measured; None at a first run
    Gives  segment, name, became (of the ledger), customers and the main figure with its 95 % interval then and now
           (null where a run lacks them), words: what changed, in sentences
    """
    if previous is None:
        return pd.DataFrame([], columns=CHANGES)
    before, after = (one.table("segments").set_index("segment") for one in (previous, run))
    ledger = run.table("ledger")
    became = ledger[ledger["as_of"] == run.parameters()["as_of"]].drop_duplicates("segment").set_index("segment")
    figures = [_main_kpis(one) for one in (previous, run)]
    signs = [_strongest_signs(one) for one in (previous, run)]
    rows = []
    for segment in sorted({*before.index, *after.index}):
        then, now = (_segment_row(table, segment) for table in (before, after))
        row = {"segment": segment, "name": (now or then)["name"], "became": _lineage_event(became, segment, now=now)}
        row["customers_before"], row["customers_after"] = ((one or {}).get("customers", 0) for one in (then, now))
        kpis = [_segment_row(table, segment) for table in figures]
        row["kpi"] = next((one["kpi"] for one in reversed(kpis) if one), "")
        for side, one in zip(("kpi_before", "kpi_after"), kpis, strict=True):
            same = one if one and one["kpi"] == row["kpi"] else {}
            row |= {f"{side}{part}": same.get(f"value{part}", np.nan) for part in ("", "_low", "_high")}
        words = _describe_change(then, now, kpis, [one.get(segment, []) for one in signs])
        rows.append(row | {"words": words})
    return pd.DataFrame(rows, columns=CHANGES)


def _segment_row(table: pd.DataFrame, segment: str) -> dict | None:
    return table.loc[segment].to_dict() if segment in table.index else None


def _lineage_event(became: pd.DataFrame, segment: str, *, now: dict | None) -> str:
    if segment in became.index:
        return str(became.loc[segment, "event"])
    return "same" if now else "died"


def _main_kpis(run: Run) -> pd.DataFrame:
    """The main figure of each segment, where it was measured."""
    if not run.has("starting_values"):
        return pd.DataFrame(columns=["kpi", "value", "value_low", "value_high", "unit"])
    table = run.table("starting_values")
    kpi = next((name for name in MAIN_KPIS if (table["kpi"] == name).any()), "")
    return table[table["kpi"] == kpi].set_index("segment")


def _strongest_signs(run: Run) -> dict[str, list[str]]:
    """The strongest signs of each segment, in words."""
    table = run.table("signals") if run.has("signals") else pd.DataFrame(columns=["segment", "words"])
    return {str(name): rows["words"].tolist() for name, rows in table.groupby("segment")}


def _describe_change(then: dict | None, now: dict | None, kpis: list[dict | None], signs: list[list[str]]) -> str:
    if now is None:
        return f"It is gone; it held {masked_count(then['customers'])} customers."
    if then is None:
        return f"It is new, with {masked_count(now['customers'])} customers."
    sentences = []
    if then["name"] != now["name"]:
        sentences.append(f"It was called {then['name']}.")
    for column, words in (("need", "Its need was: {}."), ("action", "Next action was: {}.")):
        if column in then and then[column] != now.get(column):
            sentences.append(words.format(str(then[column]).rstrip(".")))
    new_signs = [word for word in signs[1][:MAX_SIGNS] if word not in signs[0][: 2 * MAX_SIGNS]]
    went = [word for word in signs[0][:MAX_SIGNS] if word not in signs[1][: 2 * MAX_SIGNS]]
    sentences += [f"New sign: {', '.join(new_signs)}."] if new_signs else []
    sentences += [f"No longer a sign: {', '.join(went)}."] if went else []
    sentences += _describe_kpi_change(*kpis)
    return " ".join(sentences) or "As before."


def _describe_kpi_change(then: dict | None, now: dict | None) -> list[str]:
    """The main figure, where the two intervals do not touch."""
    if not then or not now or then["kpi"] != now["kpi"]:
        return []
    if then["value_low"] <= now["value_high"] and now["value_low"] <= then["value_high"]:
        return []
    form = formatter_for(now["unit"])
    ranges = [interval(one["value"], one["value_low"], one["value_high"], form=form) for one in (now, then)]
    way = "up" if now["value"] > then["value"] else "down"
    return [f"{now['kpi'].capitalize()} went {way}: {ranges[0]}, was {ranges[1]}."]


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


def compare_runs(
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
        nothing = pd.DataFrame([], columns=MOVE_COLUMNS)
        log = empty_decisions()
        return Refresh(found, nothing, count_flow(nothing), log, log, False, "", {"refresh.decision": None})
    before = previous.table("assignments").set_index("customer_id")["segment"]
    after = assignments.set_index("customer_id")["segment"]
    moves = customer_moves(before, found.placed["segment"], after)
    acted = str(run.record().get("acted") or "")
    added = decisions_of(found, days, run=run, previous=previous)
    added = added.assign(acted=[acted if scope == "run" else "" for scope in added["scope"]])
    log = pd.concat([part for part in (previous_decisions(previous), added) if len(part)], ignore_index=True)
    figures = refresh_metrics(found, moves, added)
    return Refresh(found, moves, count_flow(moves), added, log, acted != "kept", acted, figures)


def segment_names(run: Run, previous: Run | None) -> dict[str, str]:
    """The names of segments by id: of this run, and of those that are gone."""
    found: dict[str, str] = {}
    for one in (previous, run):
        if one is not None:
            found |= one.table("segments").set_index("segment")["name"].to_dict()
    return found


def load_previous_run(path: str, *, of: Run) -> Run | None:
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


def assign_with_previous_model(
    customers: Customers, features: pd.DataFrame, *, previous: Run | None, seed: int = 7
) -> Standing:
    """Place everyone under the standing model, and test whether it still stands.

    Takes  customers: of today; features: as a run keeps them, by customer_id; previous: of `last_run`
    Gives  Standing; of a first run its tables have no row

    Raises
    ------
    RunError : the standing model needs features that this source does not carry
    """
    if previous is None:
        return empty_standing()
    model = model_from_arrays(*previous.load_model())
    own = [name for name in model.space.features if name in features]
    before = previous.table("assignments").set_index("customer_id")[["segment", "confidence"]]
    placed = assign_under_model(model, customers.data, previous_segment=before["segment"])
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
        broken=failed_checks(checks),
        sizes=placed["segment"].value_counts(),
        age_days=(period.as_of - date.fromisoformat(fitted_as_of(previous))).days,
        horizon_days=then.horizon_days,
    )
    decision, reason = decide_run(tests)
    accuracy = compare_with_forecast(customers.days, previous=previous, as_of=period.as_of)
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
        log=previous_decisions(previous),
        kpi=main_kpi(days),
        period=run.period,
        reachable=found.decision != "look",
    )
    about = {"as_of": run.period.as_of.isoformat(), "since": found.since}
    return decisions_table((found.decision, found.reason), found.tests, segments, campaigns, **about)


def previous_decisions(previous: Run | None) -> pd.DataFrame:
    """The log as the last run kept it: what was decided is carried on and never changed."""
    if previous is None or not previous.has("decisions"):
        return empty_decisions()
    return previous.table("decisions")


def count_flow(moves: pd.DataFrame) -> pd.DataFrame:
    """How many customers went from where, by way of where, to where.

    Takes  moves: of `ledger.customer_moves`
    Gives  before, standing, after (missing: not there), cause, customers; the most first
    """
    groups = moves.groupby(FLOW[:4], dropna=False).size().rename("customers").reset_index()
    return groups.sort_values(["customers", *FLOW[:3]], ascending=[False, True, True, True], ignore_index=True)[FLOW]


def refresh_metrics(found: Standing, moves: pd.DataFrame, decisions: pd.DataFrame) -> dict[str, object]:
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


def empty_standing() -> Standing:
    """What a first run has to say: tables without a row."""
    return Standing(
        placed=pd.DataFrame(columns=["segment", "macro_segment", "confidence"]),
        drift=pd.DataFrame([], columns=DRIFT),
        checks=pd.DataFrame([], columns=CHECKS),
        promises=pd.DataFrame([], columns=ACCURACY_COLUMNS),
        tests=run_tests(pd.DataFrame([], columns=DRIFT), broken=[], sizes=pd.Series(dtype=int), age_days=0,
                        horizon_days=1).iloc[:0],
        decision="first run",
        reason="There is no earlier run of this source: the next one will say what changed.",
        since="",
    )  # fmt: skip


def _or_empty(table: pd.DataFrame | None, columns: list[str]) -> pd.DataFrame:
    return pd.DataFrame([], columns=columns) if table is None else table
