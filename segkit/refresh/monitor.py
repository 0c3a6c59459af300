"""Compare a run with the previous one: data, forecasts, personas and moves of customers."""

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
from segkit.experiments.pooled import by_segment
from segkit.format import FLOOR, formatter_for, is_missing, masked_count, spread
from segkit.period import Period
from segkit.refresh.changes import count_changes, count_flow, level_labels, need_labels
from segkit.refresh.decisions import (
    LOOK,
    decide_campaigns,
    decide_run,
    decide_segments,
    decisions_table,
    empty_decisions,
    run_tests,
)
from segkit.refresh.drift import DRIFT, confidence_drift, feature_drift, share_drift
from segkit.segments.lineage import assign_under_model, fitted_as_of, previous_run
from segkit.segments.model import SegmentModel, assign_points, model_from_arrays
from segkit.segments.moves import MOVE_COLUMNS, customer_moves, segment_places
from segkit.stats import Estimate, mean_interval
from segkit.tables import needed_of_last_run
from segkit.vocabulary import EVERYONE

WINDOW_DAYS = 14  # whole weeks, so that each window has the same weekdays
MIN_DATA_WINDOWS = 4  # earlier windows needed to know what is usual
MIN_EVENT_RATIO = 0.5  # of the emptiest earlier window; fewer events are a fall
MIN_EVENTS = 10  # in the emptiest earlier window; none after so many is no chance (e to the -10)
MIN_NEW_SHARE, MIN_NEW_RATIO = 0.1, 2.0  # a share jumps if above every earlier window by both, added and multiplied
NEW_CUSTOMERS, NEW_CATEGORIES = "customers never seen before", "lines in categories never seen before"
CHECKS = ["check", "item", "last", "least", "most", "windows", "broken", "words"]


def check_data(days: Days, *, period: Period, kinds: dict[str, str]) -> pd.DataFrame:
    """Compare the last two weeks before ``as_of`` with the rest of the lookback, to find broken data.

    Parameters
    ----------
    days
        All customers by day; rows at or after ``as_of`` are ignored.
    kinds
        Kind of event -> 'customer' or 'company'.

    Returns
    -------
    DataFrame
        ``check`` (events, kind or share), ``item, last, least, most`` (of the earlier windows), ``windows, broken,
        words``; no rows where fewer than four earlier windows are known.
    """
    as_of = period.as_of
    first = days.rows.filter(days.rows.day < ibis.literal(as_of)).day.min().to_pandas()
    history_days = 0 if pd.isna(first) else (as_of - pd.Timestamp(first).date()).days
    count = min(period.lookback_days, history_days) // WINDOW_DAYS
    if count < MIN_DATA_WINDOWS + 1:
        return pd.DataFrame([], columns=CHECKS)
    rows = days.rows.filter((days.rows.day < ibis.literal(as_of)) & (days.rows.until < ibis.literal(as_of)))
    aggregates = {"events": rows.own_events.sum(), **{kind: rows[f"n_{kind}"].sum() for kind in sorted(kinds)}}
    sums = {f"sum_{number}": value.cast("float64") for number, value in enumerate(aggregates.values())}
    by_window = rows.mutate(window=_window_number(rows, as_of=as_of)).group_by("window").aggregate(**sums)
    table = by_window.to_pandas().set_index("window").reindex(range(count)).fillna(0.0)
    checks = [_check_fall(table[name], item=item) for name, item in zip(sums, aggregates, strict=True)]
    usable_windows = min(count, history_days // WINDOW_DAYS // 2)  # in the older half of history everything is new
    if usable_windows > MIN_DATA_WINDOWS:
        shares = {NEW_CUSTOMERS: _new_share(rows.filter(rows.own_events > 0), "customer_id", None, as_of=as_of)}
        if days.categories is not None:
            lines = days.categories.filter(days.categories.day < ibis.literal(as_of))
            shares[NEW_CATEGORIES] = _new_share(lines, "category", "lines", as_of=as_of)
        checks += [_check_jump(s.reindex(range(usable_windows)).fillna(0.0), item=item) for item, s in shares.items()]
    return pd.DataFrame(checks, columns=CHECKS)


def failed_checks(checks: pd.DataFrame) -> list[str]:
    """Return a sentence for each check that failed."""
    return checks.loc[checks["broken"].astype(bool), "words"].tolist()


def _window_number(rows: ir.Table, *, as_of: date) -> ir.Value:
    """Return the number of the window, counted back from ``as_of``; the last one is 0."""
    return ((ibis.literal(as_of).delta(rows.day, unit="day") - 1) // WINDOW_DAYS).cast("int64")


def _new_share(rows: ir.Table, key: str, weight: str | None, *, as_of: date) -> pd.Series:
    """Return by window the share of names, or of their weight, that had never appeared before."""
    rows = rows.mutate(window=_window_number(rows, as_of=as_of), part=1 if weight is None else rows[weight])
    table = rows.group_by("window", name=rows[key]).aggregate(weight=rows.part.sum().cast("float64")).to_pandas()
    if weight is None:
        table["weight"] = 1.0
    table["new"] = table["weight"].where(table.groupby("name")["window"].transform("max") == table["window"], 0.0)
    sums = table.groupby("window")[["new", "weight"]].sum()
    return sums["new"] / sums["weight"]


def _check_fall(series: pd.Series, *, item: str) -> tuple:
    last, before = float(series.iloc[0]), series.iloc[1:]
    least, most = float(before.min()), float(before.max())
    is_total = item == "events"  # a single kind of event may be rare, all of them together may not
    is_gone = last == 0 and (most if is_total else least) >= MIN_EVENTS
    is_broken = is_gone or (is_total and last < MIN_EVENT_RATIO * least)
    what = "events of customers" if is_total else f"events of the kind '{item.replace('_', ' ')}'"
    words = f"The last {WINDOW_DAYS} days hold {last:,.0f} {what}; earlier ones held {least:,.0f} to {most:,.0f}."
    check = "events" if is_total else "kind"
    return check, item, last, least, most, len(before), bool(is_broken), words


def _check_jump(series: pd.Series, *, item: str) -> tuple:
    last, before = float(series.iloc[0]), series.iloc[1:]
    least, most = float(before.min()), float(before.max())
    is_broken = last > most + MIN_NEW_SHARE and last > MIN_NEW_RATIO * most
    words = (
        f"In the last {WINDOW_DAYS} days, {np.round(100 * last):.0f}% are {item}; "
        f"before, it was never more than {np.round(100 * most):.0f}%."
    )
    return "share", item, last, least, most, len(before), bool(is_broken), words


DIGITS = 6
MIN_OBSERVED_DAYS = 7  # fewer are not compared with a forecast
FORECAST_COLUMNS = {"active": "active_share", "orders": "orders", "spend": "spend"}
ACCURACY_COLUMNS = [
    *("segment", "kpi", "unit", "customers", "days", "part"),
    *(f"{name}{part}" for name in ("predicted", "observed", "gap", "against_all") for part in ("", "_low", "_high")),
    "verdict",
]


def compare_with_forecast(days: Days, *, previous: Run, as_of: date) -> pd.DataFrame:
    """Compare the forecast of the previous run with what its customers have done since.

    Parameters
    ----------
    as_of
        Today, exclusive.

    Returns
    -------
    DataFrame
        ``segment`` ("all" first), ``kpi, unit, customers, days, part`` (of the horizon that has passed), ``predicted``,
        ``observed`` and ``gap`` (observed less predicted, per customer) with 95 % intervals, ``against_all`` (observed
        / predicted, less the same of all customers, which removes a season that moves everyone) and ``verdict`` (short,
        above or as expected). No rows before a week has passed, or without a forecast.
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
    """Read the forecast per customer of the previous run: segment (with "all"), kpi, value, low, high."""
    if not previous.has("predicted_segments"):
        return pd.DataFrame(columns=["kpi", "segment", "value", "low", "high"])
    table = previous.table("predicted_segments").set_index("segment")
    parts = {kpi: _interval_values(table, name) for kpi, name in FORECAST_COLUMNS.items() if name in table}
    for kpi in set(parts) - {"active"}:
        parts[kpi] = parts[kpi].div(table["customers"], axis=0)
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
        expected = [expected_by_segment.loc[name, end] * part for end in ("value", "low", "high")]
        mean, low, high = mean_interval(values)
        half = np.hypot((high - low) / 2, (expected[2] - expected[1]) / 2 if np.isfinite(expected[1]) else 0.0)
        row = {"segment": name, "kpi": kpi, "unit": KPIS[kpi].unit, "customers": len(values)}
        row |= Estimate(*expected).columns("predicted", digits=DIGITS)
        row |= Estimate(mean, max(low, min(mean, 0.0)), high).columns("observed", digits=DIGITS)
        error = mean - expected[0]
        row |= Estimate.around(error, half=half).columns("gap", digits=DIGITS)
        row["verdict"] = "short" if error + half < 0 else "above" if error - half > 0 else "as expected"
        rows.append(row | {"_half": half})
    return _compare_with_all(rows)


def _compare_with_all(rows: list[dict]) -> list[dict]:
    """Add observed / predicted of each segment less that of all customers, which removes a common season.

    The interval treats the segment and all customers as independent, which makes it slightly wide.
    """
    ratios = {}  # segment -> observed / predicted, and half its interval
    for row in rows:
        half = row.pop("_half")
        if row["predicted"] > 0:
            ratios[row["segment"]] = (row["observed"] / row["predicted"], half / row["predicted"])
    for row in rows:
        if row["segment"] != EVERYONE and row["segment"] in ratios and EVERYONE in ratios:
            (ratio, half), (total_ratio, total_half) = ratios[row["segment"]], ratios[EVERYONE]
            difference = Estimate.around(ratio - total_ratio, half=float(np.hypot(half, total_half)))
            row |= difference.columns("against_all", digits=DIGITS)
    return rows


MAX_SIGNS = 4  # strongest signals compared; weaker ones change order by chance
MAIN_KPIS = ("spend per customer", "active rate")  # the first one that was measured is compared
CHANGES = [
    *("segment", "name", "became", "customers_before", "customers_after", "kpi"),
    *(f"{column}{part}" for column in ("kpi_before", "kpi_after") for part in ("", "_low", "_high")),
    "words",
]


def persona_changes(run: Run, previous: Run | None, *, currency: str = "") -> pd.DataFrame:
    """Compare each segment with the previous run, including segments that no longer exist.

    Parameters
    ----------
    run, previous
        Runs with segments, needs, signals and ledger, and starting values where measured; no previous run at a first
        run.
    currency
        Code of the currency of amounts; "" where it is not known.

    Returns
    -------
    DataFrame
        ``segment, name, became`` (from the ledger), customers and the main KPI with its 95 % interval before and after
        (null where not measured), and ``words``: sentences on what changed.
    """
    if previous is None:
        return pd.DataFrame([], columns=CHANGES)
    before, after = (each.table("segments").set_index("segment") for each in (previous, run))
    ledger = run.table("ledger")
    became = ledger[ledger["as_of"] == run.parameters()["as_of"]].drop_duplicates("segment").set_index("segment")
    kpi_tables, signs = [_main_kpis(each) for each in (previous, run)], [_signs(each) for each in (previous, run)]
    rows = []
    for segment in sorted({*before.index, *after.index}):
        then, now = (_segment_row(table, segment) for table in (before, after))
        event = str(became["event"].get(segment, "same" if now else "died"))
        row = {"segment": segment, "name": (now or then)["name"], "became": event}
        row["customers_before"], row["customers_after"] = ((each or {}).get("customers", 0) for each in (then, now))
        kpis = [_segment_row(table, segment) for table in kpi_tables]
        row["kpi"] = next((kpi["kpi"] for kpi in reversed(kpis) if kpi), "")
        for column, kpi in zip(("kpi_before", "kpi_after"), kpis, strict=True):
            same = kpi if kpi and kpi["kpi"] == row["kpi"] else {}
            row |= {f"{column}{part}": same.get(f"value{part}", np.nan) for part in ("", "_low", "_high")}
        words = _describe_change(then, now, kpis, [each.get(segment, []) for each in signs], currency=currency)
        rows.append(row | {"words": words})
    return pd.DataFrame(rows, columns=CHANGES)


def _segment_row(table: pd.DataFrame, segment: str) -> dict | None:
    return table.loc[segment].to_dict() if segment in table.index else None


def _main_kpis(run: Run) -> pd.DataFrame:
    """Return the main KPI of each segment, where it was measured."""
    if not run.has("starting_values"):
        return pd.DataFrame(columns=["kpi", "value", "value_low", "value_high", "unit"])
    table = run.table("starting_values")
    kpi = next((name for name in MAIN_KPIS if (table["kpi"] == name).any()), "")
    return table[table["kpi"] == kpi].set_index("segment")


def _signs(run: Run) -> dict[str, list[str]]:
    """Return the signals of each segment in words, strongest first."""
    table = run.table("signals") if run.has("signals") else pd.DataFrame(columns=["segment", "words"])
    return {str(name): rows["words"].tolist() for name, rows in table.groupby("segment")}


def _describe_change(
    then: dict | None, now: dict | None, kpis: list[dict | None], signs: list[list[str]], *, currency: str
) -> str:
    if now is None:
        return f"It is gone; it had {masked_count(then['customers'])} customers."
    if then is None:
        return f"It is new, with {masked_count(now['customers'])} customers."
    sentences = _describe_kpi_change(*kpis, currency=currency)
    if then["name"] != now["name"]:
        sentences.append(f"Its name was {then['name']}.")
    for column, word in (("need_name", "need"), ("action", "action")):
        if column in then:
            sentences += _describe_new_text(then[column], now.get(column), word=word)
    gained = [sign for sign in signs[1][:MAX_SIGNS] if sign not in signs[0][: 2 * MAX_SIGNS]]
    lost = [sign for sign in signs[0][:MAX_SIGNS] if sign not in signs[1][: 2 * MAX_SIGNS]]
    for words, found in (("Now also", gained), ("No longer", lost)):
        found = [sign for sign in found if not sign.startswith("not ")]  # no double negatives
        sentences += [f"{words}: {', '.join(found)}."] if found else []
    return " ".join(sentences) or "As before."


def _describe_new_text(then: object, now: object, *, word: str) -> list[str]:
    """Describe the change of the need or the action of a segment."""
    before, after = ("" if is_missing(text) else str(text).rstrip(".") for text in (then, now))
    if before == after:
        return []
    if not after:
        return [f"No {word} now; it was: {before}."]
    return [f"New {word}: {after}" + (f" (before: {before})." if before else ".")]


def _describe_kpi_change(then: dict | None, now: dict | None, *, currency: str) -> list[str]:
    """Describe the change of the main KPI where the two intervals do not overlap."""
    if not then or not now or then["kpi"] != now["kpi"]:
        return []
    if then["value_low"] <= now["value_high"] and now["value_low"] <= then["value_high"]:
        return []
    form = formatter_for(now["unit"], currency=currency)
    after, before = (spread(kpi["value"], kpi["value_low"], kpi["value_high"], form=form) for kpi in (now, then))
    direction = "rose" if now["value"] > then["value"] else "fell"
    return [f"{now['kpi'].capitalize()} {direction} from {before} to {after}."]


STEP = "07_refresh"


@dataclass(frozen=True)
class Standing:
    """Today's customers under the previous model, and whether that model still holds.

    ``placed`` is ``segment, macro_segment, confidence`` by ``customer_id``; ``tests`` lead to the ``decision`` on the
    run.
    """

    placed: pd.DataFrame
    drift: pd.DataFrame
    checks: pd.DataFrame
    forecast_accuracy: pd.DataFrame
    tests: pd.DataFrame
    decision: str
    reason: str
    since: str


@dataclass(frozen=True)
class Refresh:
    """The results of the refresh step.

    ``moves`` of customers, their ``flow``, and the ``changes`` of level and need; ``added``: decisions of this run;
    ``decisions``: the whole log;
    ``refitted``: whether there is a new model; ``acted``: what the automatic mode did; ``figures``: headline numbers.
    """

    standing: Standing
    moves: pd.DataFrame
    flow: pd.DataFrame
    changes: pd.DataFrame
    added: pd.DataFrame
    decisions: pd.DataFrame
    refitted: bool
    acted: str
    figures: dict[str, object]


def compare_runs(
    run: Run,
    previous: Run | None,
    days: Days,
    standing: Standing,
    *,
    assignments: pd.DataFrame,
    currency: str = "",
) -> Refresh:
    """Compare a run with the previous one.

    Parameters
    ----------
    previous
        As returned by `load_previous_run`; None at a first run, whose tables have no rows.
    standing
        As returned by `find_standing`.
    currency
        Code of the currency of amounts; "" where it is not known.
    """
    if previous is None:
        moves, log = pd.DataFrame([], columns=MOVE_COLUMNS), empty_decisions()
        changes = count_changes(moves, levels={}, needs={})
        return Refresh(standing, moves, count_flow(moves), changes, log, log, False, "", {"refresh.decision": None})
    before = previous.table("assignments").set_index("customer_id")["segment"]
    after = assignments.set_index("customer_id")["segment"]
    places = segment_places(model_from_arrays(*previous.load_model()))
    moves = customer_moves(before, standing.placed["segment"], after, places=places)
    changes = count_changes(moves, levels=level_labels(previous), needs=need_labels(run, previous))
    acted = str(run.record().get("acted") or "")
    added = _decisions(standing, days, run=run, previous=previous, currency=currency)
    added = added.assign(acted=[acted if scope == "run" else "" for scope in added["scope"]])
    log = pd.concat([part for part in (_previous_decisions(previous), added) if len(part)], ignore_index=True)
    figures = _refresh_metrics(standing, moves, added)
    return Refresh(standing, moves, count_flow(moves), changes, added, log, acted != "kept", acted, figures)


def segment_names(run: Run, previous: Run | None) -> dict[str, str]:
    """Return segment id -> name, for this run and for segments that only the previous run had."""
    names: dict[str, str] = {}
    for each in (previous, run):
        if each is not None:
            names |= each.table("segments").set_index("segment")["name"].to_dict()
    return names


def load_previous_run(path: str, *, of: Run) -> Run | None:
    """Load the run to compare with; None for an empty path.

    Raises `RunError`: not a run, of another source, not strictly earlier, or without the tables needed.
    """
    previous = previous_run(path, of=of)
    if previous is None:
        return None
    missing = [name for name in needed_of_last_run(STEP) if not previous.has(name)]
    if missing:
        raise RunError(
            f"previous run: {previous.path.name} has no {', '.join(missing)}, so nothing can be compared with it. "
            f"Give a run of all steps with --previous, or --previous none."
        )
    before, after = (run.parameters()["as_of"] for run in (previous, of))
    if before >= after:
        raise RunError(
            f"previous run: {previous.path.name} is as of {before}, which is not before {after}. "
            f"Give an earlier run with --previous, or --previous none."
        )
    return previous


def find_standing(customers: Customers, features: pd.DataFrame, *, previous: Run | None, seed: int = 7) -> Standing:
    """Assign all customers with the previous model, and test whether it still holds.

    Parameters
    ----------
    customers
        Of today.
    features
        Features as stored in a run, by ``customer_id``.
    previous
        As returned by `load_previous_run`; None at a first run, whose tables have no rows.

    Raises
    ------
    RunError
        The previous model needs features that this source does not have.
    """
    if previous is None:
        return _first_standing()
    model = model_from_arrays(*previous.load_model())
    own = [name for name in model.space.features if name in features]
    before = previous.table("assignments").set_index("customer_id")[["segment", "confidence"]]
    placed = assign_under_model(model, customers.data, previous_segment=before["segment"])
    drift = pd.concat(
        [
            feature_drift(previous.table("features").set_index("customer_id"), features[own], seed=seed),
            share_drift(before["segment"], placed["segment"], seed=seed),
            confidence_drift(*_placed_afresh(previous, model=model, customers=customers, before=before), seed=seed),
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


def _decisions(standing: Standing, days: Days, *, run: Run, previous: Run, currency: str) -> pd.DataFrame:
    """Decide on the run, on each segment, and on campaigns; rows of the table decisions."""
    columns = {
        "pilots": ["segment", "customers", "smallest_share", "weeks_needed", "reachable", "mean"],
        "experiment": ["segment", "arm", "verdict", "lift", "lift_low", "lift_high"],
        "pooled": ["type", "kpi"],
        "actions": ["joined", "type"],
    }
    tables = {n: run.table(n) if run.has(n) else pd.DataFrame([], columns=c) for n, c in columns.items()}
    segments = decide_segments(standing.drift, sizes=standing.placed["segment"].value_counts())
    kpi = main_kpi(days)
    is_usable = standing.decision != LOOK  # data that looks broken is no ground for a campaign
    campaigns = decide_campaigns(
        standing.forecast_accuracy if is_usable else standing.forecast_accuracy.iloc[:0],
        pilots=tables["pilots"],
        experiment=tables["experiment"],
        log=_previous_decisions(previous),
        kpi=kpi,
        period=run.period,
        reachable=is_usable,
        tested=by_segment(tables["pooled"], actions=tables["actions"], kpi=kpi),
        currency=currency,
    )
    dates = {"as_of": run.period.as_of.isoformat(), "since": standing.since}
    return decisions_table((standing.decision, standing.reason), standing.tests, segments, campaigns, **dates)


def _previous_decisions(previous: Run | None) -> pd.DataFrame:
    """Load the log of the previous run; its rows never change."""
    if previous is None or not previous.has("decisions"):
        return empty_decisions()
    return previous.table("decisions")


def _refresh_metrics(standing: Standing, moves: pd.DataFrame, decisions: pd.DataFrame) -> dict[str, object]:
    """Return the headline numbers of the step."""
    both = moves[~moves["cause"].isin(["joined", "left"])]
    unmoved = both["before"] == both["standing"]
    features = standing.drift[standing.drift["what"] == "feature"]
    metrics: dict[str, object] = {
        "refresh.since": standing.since,
        "refresh.decision": standing.decision,
        "refresh.stayed_standing": unmoved.mean() if len(both) else None,
        "refresh.stayed": (both["cause"] == "stayed").mean() if len(both) else None,
        "refresh.features_beyond_chance": int(features["beyond"].sum()),
        "refresh.features_large": int((features["verdict"] == "large").sum()),
        "refresh.data_broken": int(standing.checks["broken"].astype(bool).sum()),
        "refresh.decisions": len(decisions),
    }
    accuracy = standing.forecast_accuracy
    for row in accuracy[accuracy["segment"] == EVERYONE].to_dict("records"):
        name = f"refresh.{row['kpi']}_observed_less_predicted"
        metrics |= {name: row["gap"], f"{name}.low": row["gap_low"], f"{name}.high": row["gap_high"]}
    return metrics


def _placed_afresh(
    previous: Run, *, model: SegmentModel, customers: Customers, before: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Place both runs without regard to earlier segments, as keeping those at a border lowers confidence by itself."""
    after = assign_under_model(model, customers.data)
    if not previous.has("anticipation"):
        return before, after
    axes = previous.table("anticipation").set_index("customer_id").filter(regex=r"^axis_\d+$")
    return assign_points(model, axes), after


def _first_standing() -> Standing:
    """Return the tables of a first run, without rows."""
    drift = pd.DataFrame([], columns=DRIFT)
    return Standing(
        placed=pd.DataFrame(columns=["segment", "macro_segment", "confidence"]),
        drift=drift,
        checks=pd.DataFrame([], columns=CHECKS),
        forecast_accuracy=pd.DataFrame([], columns=ACCURACY_COLUMNS),
        tests=run_tests(drift, broken=[], sizes=pd.Series(dtype=int), age_days=0, horizon_days=1).iloc[:0],
        decision="first run",
        reason="There is no earlier run of this source: the next one will say what changed.",
        since="",
    )
