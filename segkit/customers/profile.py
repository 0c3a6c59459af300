"""Profile the data: customers, their attributes and consent, and whether the data can carry a segmentation."""

from collections.abc import Mapping
from datetime import date

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from segkit.customers.days import PURCHASE, Days
from segkit.customers.features import customer_outcomes
from segkit.customers.steps import steps
from segkit.data import readiness
from segkit.data.readiness import WOULD_ADD, Facts, Verdict, longest_order, top_share
from segkit.data.spec import CustomerTable, EventTable, Source
from segkit.errors import InputError
from segkit.format import FLOOR, masked_count
from segkit.period import Period, span_text
from segkit.stats import mean_interval, proportion_interval, ratio_interval
from segkit.vocabulary import CANCEL

YES = frozenset({"true", "t", "yes", "y", "1", "1.0", "on", "granted", "opt-in", "opted in", "subscribed"})
FEATURE_ROLES = ("demographic", "geographic", "survey")
MAX_VALUES = 20  # of a text column with a feature of their own, the most frequent
GUESS_COMMENT = "# guess"  # ends the lines of a drafted source that nobody has confirmed
DATASHEET_COLUMNS = ["about", "item", "value", "words"]
ROLE_USE = {
    **dict.fromkeys(FEATURE_ROLES, "describes segments; shown for groups of at least twenty"),
    "current_segment": "a segmentation that ours is compared with; never a feature",
    "identifier": "not read for a run; an export reads it from the source",
    "consent": "says who may be in a pilot or an export; never a feature",
    "ignore": "not read",
}
STORED_ITEMS = (
    ("tables/", "one row a customer and day, and what is made of it; ids", "for the analyst: share pages, not tables"),
    ("model/", "the segments as numbers, names of categories; no customers", "assigns customers who are new"),
    ("pages and notebooks", "figures of groups of at least twenty; no ids", "may be passed on"),
)
DatasheetRow = tuple[str, str, str, str]
STAGES = {  # in the order of the lifecycle; "recently" is the last third of the lookback (`Period.recent_days`)
    "new": "First seen recently",
    "active": "Active recently and before, at their usual pace",
    "cooling": "Overdue: silent for more than twice their usual gap",
    "lapsed": "Not active recently",
    "returned": "Back recently, after a long silence",
}
DESCRIBING_ROLES = ("demographic", "geographic", "survey", "current_segment", "consent")
LONGEST_ORDER = "days of the longest order"
TOP_REVENUE_ITEM = "revenue with the top hundredth"
ProfileRow = tuple[str, str, float, str, str]  # a row of the profile


def consent_columns(roles: Mapping[str, str]) -> list[str]:
    """List the columns of the customer table that record consent, sorted."""
    return sorted(name for name, role in roles.items() if role == "consent")


def may_contact(people: pd.DataFrame | None, *, roles: Mapping[str, str], index: pd.Index) -> pd.Series:
    """Flag the customers who may be contacted.

    Parameters
    ----------
    people
        customer_id and columns with roles, or None.
    roles
        Column -> role.
    index
        Ids of the customers wanted, in order.

    Returns
    -------
    pd.Series
        By ``index``: true for all where the source has no consent column; else only where every one has a clear yes.
    """
    columns = consent_columns(roles)
    if not columns:
        return pd.Series(True, index=index, name="may_contact")
    if people is None:
        return pd.Series(False, index=index, name="may_contact")
    answers = people.set_index("customer_id")[columns].reindex(index)
    answered_yes = answers.apply(lambda column: column.map(lambda value: str(value).strip().lower() in YES))
    return answered_yes.all(axis=1).astype(bool).rename("may_contact")


def common_values(people: ir.Table, *, roles: Mapping[str, str]) -> dict[str, list[str] | None]:
    """Choose the values of each column that become features.

    Parameters
    ----------
    people
        customer_id and columns with roles.
    roles
        Column -> role; demographic, geographic and survey are read.

    Returns
    -------
    dict
        Column -> its frequent values, sorted; None for a column of numbers, which is used as it is.
    """
    found: dict[str, list[str] | None] = {}
    for name in sorted(people.columns):
        if roles.get(name) not in FEATURE_ROLES:
            continue
        if people[name].type().is_numeric():
            found[name] = None
            continue
        column = people.select(value=people[name].cast("string")).filter(lambda t: t.value.notnull())
        counts = column.group_by("value").aggregate(customers=column.count())
        table = counts.to_pandas()
        table = table[table["customers"] >= FLOOR].sort_values(["customers", "value"], ascending=[False, True])
        found[name] = sorted(table["value"].head(MAX_VALUES))
    return found


def attribute_features(people: ir.Table | None, *, roles: Mapping[str, str], index: pd.Index) -> pd.DataFrame:
    """Turn the customer table into features.

    Parameters
    ----------
    people
        customer_id and columns with roles, or None.
    roles
        Column -> role; demographic, geographic and survey are read.
    index
        Ids of the customers wanted, in order; those that the table lacks have missing values.

    Returns
    -------
    pd.DataFrame
        By ``index``: "<role>: <column> = <value>" (1 or 0) for text, "<role>: <column>" for numbers (0 where missing),
        and "missing: <column>" (1 where missing); no columns without a table.
    """
    if people is None:
        return pd.DataFrame(index=index)
    values = common_values(people, roles=roles)
    columns: dict[str, ir.Value] = {}
    for name, categories in values.items():
        column, role = people[name], roles[name]
        if categories is None:
            columns[f"{role}: {name}"] = column.cast("float64").fill_null(0)
        for value in categories or []:
            same = (column.cast("string") == value).fill_null(False)
            columns[f"{role}: {name} = {value}"] = same.ifelse(1, 0).cast("float64")
        columns[f"missing: {name}"] = column.isnull().ifelse(1, 0).cast("float64")
    found = people.select("customer_id", **columns).to_pandas().set_index("customer_id").reindex(index)
    return found.fillna({name: float(name.startswith("missing: ")) for name in found})


def datasheet(
    source: Source, days: Days, *, rejected: pd.DataFrame, period: Period, pseudonyms: bool = False
) -> pd.DataFrame:
    """List what a run was made of.

    Parameters
    ----------
    source
        As the run reads it.
    days
        The state of all customers.
    rejected
        Rows that cannot be used, by table and reason.
    period
        Of the run.
    pseudonyms
        Whether ids are shown as hashes.

    Returns
    -------
    pd.DataFrame
        about, item, value, words: all text, in the order of the page.
    """
    lines = _period(days, source=source, period=period)
    for table in source.tables:
        lines += _event_columns(table)
    lines += _customer_columns(source.customers, roles=source.roles) if source.customers else []
    lines += _exclusions(source, rejected=rejected)
    lines += _consent_columns(source.roles)
    lines.append(("ids", "customers are identified by", "hashes" if pseudonyms else "ids of the source", "in tables/"))
    lines += [("kept", *item) for item in STORED_ITEMS]
    guesses = [line.split("#")[0].strip() for line in source.text.splitlines() if GUESS_COMMENT in line]
    lines += [("guess", line, "of the draft", "confirm it in the source, and take the mark away") for line in guesses]
    return pd.DataFrame(lines, columns=DATASHEET_COLUMNS)


def _period(days: Days, *, source: Source, period: Period) -> list[DatasheetRow]:
    """List the days and events that were used."""
    rows = days.rows.filter(days.rows.day < ibis.literal(period.as_of))
    counts = {f"n_{kind}": rows[f"n_{kind}"].sum() for kind in sorted(source.kinds)}
    found = rows.aggregate(**counts, first=rows.day.min(), last=rows.day.max()).to_pandas().iloc[0]
    span = f"{pd.Timestamp(found['first']).date()} to {pd.Timestamp(found['last']).date()}"
    events = ", ".join(
        f"{int(found[f'n_{kind}'] or 0):,} {kind} (by the {who})" for kind, who in sorted(source.kinds.items())
    )
    return [
        ("period", "days used", span, f"local to {source.timezone}; nothing on or after {period.as_of}"),
        (
            "period",
            "what describes a customer",
            f"{period.lookback_start} to {period.last_day}",
            f"the {span_text(period.lookback_days)} read",
        ),
        ("events", "used", events, "without rows that cannot be used"),
    ]


def _event_columns(table: EventTable) -> list[DatasheetRow]:
    """List the columns of an event table, its condition and its lookups."""
    words = f"only where {table.where}" if table.where else "all rows"
    lookups = ", ".join(lookup.label for lookup in table.lookups)
    words += f"; joined with {lookups}" if lookups else ""
    return [
        (
            "events",
            table.label,
            ", ".join(n if n == sql else f"{n} ({sql})" for n, sql in table.columns.items()),
            words,
        )
    ]


def _customer_columns(table: CustomerTable, *, roles: dict[str, str]) -> list[DatasheetRow]:
    """List the columns of the customer table with their roles."""
    return [("customers", name, roles[name], ROLE_USE[roles[name]]) for name in sorted(table.columns) if name in roles]


def _exclusions(source: Source, *, rejected: pd.DataFrame) -> list[DatasheetRow]:
    """List rejected rows, by reason, and erased customers."""
    lines = [
        ("left out", f"{r.table}: {r.reason}", f"{int(r.rows):,} rows", "cannot be used") for r in rejected.itertuples()
    ]
    erased = sum(len(hashes) for _, hashes in source.privacy.lists)
    if erased:
        lines.append(("left out", "erased customers", masked_count(erased), "on their request"))
    return lines or [("left out", "rows", "none", "all could be used")]


def _consent_columns(roles: dict[str, str]) -> list[DatasheetRow]:
    """List the columns that record consent."""
    columns = consent_columns(roles)
    words = "without a clear yes a customer is not contacted" if columns else "the source has no such column"
    return [("consent", "columns", ", ".join(columns) or "none", words)]


def activity(days: Days, *, as_of: date, kinds: dict[str, str]) -> pd.DataFrame:
    """Count events and customers by month and kind, before ``as_of``.

    Returns
    -------
    pd.DataFrame
        month (first day), event, events, customers; months without an event of a kind are left out.
    """
    rows = days.rows.filter(days.rows.day < ibis.literal(as_of))
    rows = rows.mutate(month=rows.day.truncate("M"))
    tables = []
    for kind in sorted(kinds):
        counted = rows[f"n_{kind}"]
        table = rows.filter(counted > 0).group_by("month")
        tables.append(
            table.aggregate(events=counted.sum(), customers=rows.customer_id.nunique()).mutate(event=ibis.literal(kind))
        )
    months = ibis.union(*tables).to_pandas() if len(tables) > 1 else tables[0].to_pandas()
    months["month"] = pd.to_datetime(months["month"])
    months = months[["month", "event", "events", "customers"]].sort_values(["month", "event"], ignore_index=True)
    return months.astype({"events": "int64", "customers": "int64"})


def retention(days: Days, *, as_of: date) -> pd.DataFrame:
    """Compute the share of each month's new customers who were active again, by months since.

    Returns
    -------
    pd.DataFrame
        cohort (month), newcomers, months_since, share; the current, unfinished month is left out.
    """
    rows = days.rows.filter((days.rows.day < ibis.literal(as_of)) & (days.rows.own_events > 0))
    active = rows.select("customer_id", month=rows.day.truncate("M")).distinct().to_pandas()
    day = pd.to_datetime(active["month"]).dt
    active["month"] = (day.year * 12 + day.month - 1).astype("int64")
    first = active.groupby("customer_id")["month"].transform("min")
    table = active.assign(cohort=first, months_since=active["month"] - first)
    table = table[table["month"] < as_of.year * 12 + as_of.month - 1]
    counts = table.groupby(["cohort", "months_since"]).size().rename("customers").reset_index()
    newcomers = counts[counts["months_since"] == 0].set_index("cohort")["customers"]
    counts["newcomers"] = counts["cohort"].map(newcomers).astype("int64")
    counts["share"] = counts["customers"] / counts["newcomers"]
    counts["cohort"] = pd.to_datetime({"year": counts["cohort"] // 12, "month": counts["cohort"] % 12 + 1, "day": 1})
    return counts[["cohort", "newcomers", "months_since", "share"]]


def lifecycle(features: pd.DataFrame) -> pd.DataFrame:
    """Count customers by stage of the lifecycle; everyone is in exactly one.

    Parameters
    ----------
    features
        Of everyone active in the lookback.

    Returns
    -------
    pd.DataFrame
        stage, meaning, customers, share with its 95 % interval, in the order of the lifecycle.
    """
    rows = []
    for stage, words in STAGES.items():
        count = int(features[f"stage_{stage}"].sum()) if len(features) else 0
        rows.append((stage, words, count, *proportion_interval(count, len(features))))
    return pd.DataFrame(rows, columns=["stage", "meaning", "customers", "share", "share_low", "share_high"])


def kpis(days: Days, *, period: Period, kinds: Mapping[str, str]) -> pd.DataFrame:
    """Compute the KPIs of the last horizon before ``as_of``, with 95 % intervals where they are means.

    Parameters
    ----------
    kinds
        Event kind -> who does it; steps have a rate of conversion, and ``cancel`` ends a contract.

    Returns
    -------
    pd.DataFrame
        kpi, value, value_low, value_high, unit, start, end (last day): one row per KPI.
    """
    start = period.last_horizon_start
    rows_before = days.rows.filter((days.rows.day < ibis.literal(period.as_of)) & (days.rows.own_events > 0))
    index = pd.Index(
        rows_before.select("customer_id").distinct().to_pandas()["customer_id"].sort_values(), name="customer_id"
    )
    totals = customer_outcomes(days, start=start, horizon_days=period.horizon_days, index=index).totals
    active = totals[totals["active_days"] > 0]
    rows = [
        ("customers known", len(index), np.nan, np.nan, "customers"),
        ("active rate", *proportion_interval(len(active), len(index)), "share"),
        ("active days per active customer", *mean_interval(active["active_days"]), "days"),
    ]
    if active["orders"].any():
        rows.append(("orders per active customer", *mean_interval(active["orders"]), "orders"))
    if "spend" in active:
        buyers = active[active["orders"] > 0]
        rows += [
            ("revenue, net of returns", active["spend"].sum(), np.nan, np.nan, "money"),
            ("spend per active customer", *mean_interval(active["spend"]), "money"),
            ("value of an order", *ratio_interval(buyers["spend"], buyers["orders"]), "money"),
        ]
    rows += _conversion(days, kinds=kinds, period=period) + _cancels(
        days, kinds=kinds, active=active.index, start=start
    )
    table = pd.DataFrame(rows, columns=["kpi", "value", "value_low", "value_high", "unit"])
    return table.assign(start=start.isoformat(), end=period.last_day.isoformat())


def _conversion(days: Days, *, kinds: Mapping[str, str], period: Period) -> list[tuple]:
    """Compute the share of days with the first step that reach the last."""
    taken = steps(days, kinds=kinds, start=period.last_horizon_start, end=period.as_of)
    if taken.empty:
        return []
    first, last = taken.iloc[0], taken.iloc[-1]
    ends = "end in a purchase" if last["event"] == PURCHASE else f"reach {last['event'].replace('_', ' ')}"
    words = f"days with a {first['event'].replace('_', ' ')} that {ends}"
    return [(words, *proportion_interval(int(last["days"]), int(first["days"])), "share")]


def _cancels(days: Days, *, kinds: Mapping[str, str], active: pd.Index, start: date) -> list[tuple]:
    """Compute the share of active customers who cancelled."""
    if kinds.get(CANCEL) != "customer" or not len(active):
        return []
    rows = days.rows.filter((days.rows.day >= ibis.literal(start)) & (days.rows[f"n_{CANCEL}"] > 0))
    cancelled = rows.select("customer_id").distinct().to_pandas()["customer_id"].isin(active).sum()
    return [("active customers who cancelled", *proportion_interval(int(cancelled), len(active)), "share")]


def profile(days: Days, *, events: ir.Table, rejected: pd.DataFrame, period: Period) -> pd.DataFrame:
    """Summarise the data.

    Parameters
    ----------
    days
        The state of all customers.
    events
        The contract columns of the source.
    rejected
        Rows that cannot be used, by table and reason.
    period
        Of the run.

    Returns
    -------
    pd.DataFrame
        section, item, value, unit, words.
    """
    rows = days.rows.filter((days.rows.day < ibis.literal(period.as_of)) & (days.rows.own_events > 0))
    own = rows.group_by("customer_id").aggregate(active_days=rows.count(), first=rows.day.min(), last=rows.day.max())
    lines = _history(own.to_pandas(), period=period)
    past = events.filter(events.day < ibis.literal(period.as_of))
    if not lines[-1][2]:  # nobody was seen twice
        lines.append(("history", LONGEST_ORDER, longest_order(past), "days", "an order counts on its first day"))
    if "amount" in days.rows.columns:
        spent = rows.group_by("customer_id").aggregate(spend=rows.amount.sum().cast("float64")).to_pandas()["spend"]
        lines.append(
            (
                "customers",
                TOP_REVENUE_ITEM,
                top_share(spent),
                "share",
                "large customers distort averages",
            )
        )
    lines += _coverage(past)
    lines += [("left out", f"{r.table}: {r.reason}", int(r.rows), "rows", "not used") for r in rejected.itertuples()]
    return pd.DataFrame(lines, columns=["section", "item", "value", "unit", "words"]).astype({"value": float})


def profile_metrics(table: pd.DataFrame, *, verdict: Verdict, features: pd.DataFrame) -> dict[str, object]:
    """Return the metrics of the profile; they are counts, so they have no interval."""
    value = table.set_index("item")["value"]
    return {
        "profile.verdict": verdict.answer,
        "profile.customers": int(value["customers with events of their own"]),
        "profile.segmented": len(features),
        "profile.features": len(features.columns),
        "profile.history_days": int(value["days of history"]),
        "profile.rows_set_aside": int(table.loc[table["section"] == "left out", "value"].sum()),
    }


def customer_attributes(people: ir.Table, *, roles: dict[str, str]) -> pd.DataFrame:
    """Return the attributes that may describe groups of customers; identifiers are not read."""
    columns = sorted(name for name, role in roles.items() if role in DESCRIBING_ROLES)
    return people.select("customer_id", *columns).to_pandas().sort_values("customer_id", ignore_index=True)


def require_sufficient_history(table: pd.DataFrame) -> None:
    """Refuse data from which nothing can be predicted, by the table of ``profile``.

    Raises
    ------
    InputError
        Fewer customers than two segments of the privacy floor need, or nobody was active on a second day.
    """
    readiness.refuse_insufficient(_facts(table))


def assess_data(table: pd.DataFrame) -> Verdict:
    """Decide whether the data can carry a segmentation, and why, by the table of ``profile``."""
    return readiness.verdict_of(_facts(table))


def _facts(table: pd.DataFrame) -> Facts:
    """Read the figures that readiness depends on from the table of ``profile``."""
    value = table.set_index("item")["value"]
    return Facts(
        customers=int(value["customers with events of their own"]),
        active=int(value["active in the lookback"]),
        repeat_share=float(value["seen on more than one day"]),
        history_days=int(value["days of history"]),
        proof_days=int(value["days asked for"]),
        top_share=float(value.get(TOP_REVENUE_ITEM, 0.0)),
        missing=tuple(table[(table["section"] == "columns") & (table["value"] == 0)]["item"]),
        order_days=int(value.get(LONGEST_ORDER, 0)),
    )


def _history(own: pd.DataFrame, *, period: Period) -> list[ProfileRow]:
    """Summarise length of history and activity, from active_days, first and last day of each customer."""
    if own.empty:
        raise InputError(
            "events: none before the report date is by a customer. Check as_of and timestamp, and give each kind of "
            "event that customers do `customer` in kinds."
        )
    first, last = pd.Timestamp(own["first"].min()), pd.Timestamp(own["last"].max())
    recent = (pd.Timestamp(period.as_of) - pd.to_datetime(own["last"])).dt.days <= period.lookback_days
    history = (pd.Timestamp(period.as_of) - first).days
    needed = period.lookback_days + 2 * period.horizon_days
    span = f"from {first.date()} to {last.date()}"
    repeat = float((own["active_days"] > 1).mean())
    return [
        ("history", "days of history", history, "days", span),
        ("history", "days asked for", needed, "days", "to test the segments on later months"),
        ("customers", "customers with events of their own", len(own), "customers", "all with activity of their own"),
        (
            "customers",
            "active in the lookback",
            int(recent.sum()),
            "customers",
            "others are silent for longer",
        ),
        ("customers", "seen on more than one day", repeat, "share", "without repeat visits there are no habits"),
    ]


def _coverage(events: ir.Table) -> list[ProfileRow]:
    """Compute the share of events with each optional column; zero where the source lacks it."""
    present = [name for name in WOULD_ADD if name in events.columns]
    found = events.aggregate(rows=events.count(), **{name: events[name].count() for name in present}).to_pandas()
    shares = (found[present] / found["rows"].clip(lower=1).iloc[0]).iloc[0]
    return [("columns", name, float(shares.get(name, 0.0)), "share", adds) for name, adds in WOULD_ADD.items()]
