"""The profile: can this data carry a segmentation? What is in it, what is missing, and the KPI baseline on day one."""

from datetime import date

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from segkit.customers.days import Days
from segkit.customers.outcomes import customer_outcomes
from segkit.data import readiness
from segkit.data.readiness import WOULD_ADD, Facts, Verdict, top_share
from segkit.period import Period
from segkit.stats import mean_interval, proportion_interval, ratio_interval

STAGES = {  # in the order of a life; "lately" is the last third of the lookback (`Period.recent_days`)
    "new": "first seen lately",
    "active": "came lately and before, and on time by their own habit",
    "cooling": "came lately and before, and silent for more than twice their usual gap",
    "lapsed": "came in the lookback, and not lately",
    "returned": "known from before, back lately after a long silence",
}
DESCRIBING = ("demographic", "geographic", "survey", "current_segment", "consent")
CONCENTRATION = "revenue with the top hundredth"

Line = tuple[str, str, float, str, str]  # a row of the profile


def activity(days: Days, *, as_of: date, kinds: dict[str, str]) -> pd.DataFrame:
    """Events and customers by month and kind, before `as_of`.

    Gives  month (first day), event, events, customers; months without an event of a kind are left out
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
    """Share of each month's newcomers who came again, by months since.

    Gives  cohort (month), newcomers, months_since, share: the current, unfinished month is left out
    """
    rows = days.rows.filter((days.rows.day < ibis.literal(as_of)) & (days.rows.own_events > 0))
    seen = rows.select("customer_id", month=rows.day.truncate("M")).distinct().to_pandas()
    day = pd.to_datetime(seen["month"]).dt
    seen["month"] = (day.year * 12 + day.month - 1).astype("int64")
    first = seen.groupby("customer_id")["month"].transform("min")
    table = seen.assign(cohort=first, months_since=seen["month"] - first)
    table = table[table["month"] < as_of.year * 12 + as_of.month - 1]
    counts = table.groupby(["cohort", "months_since"]).size().rename("customers").reset_index()
    newcomers = counts[counts["months_since"] == 0].set_index("cohort")["customers"]
    counts["newcomers"] = counts["cohort"].map(newcomers).astype("int64")
    counts["share"] = counts["customers"] / counts["newcomers"]
    counts["cohort"] = pd.to_datetime({"year": counts["cohort"] // 12, "month": counts["cohort"] % 12 + 1, "day": 1})
    return counts[["cohort", "newcomers", "months_since", "share"]]


def lifecycle(features: pd.DataFrame) -> pd.DataFrame:
    """Customers by stage of the lifecycle; everyone is in one.

    Takes  features: of everyone active in the lookback
    Gives  stage, meaning, customers, share with its 95 % interval; in the order of a life
    """
    rows = []
    for stage, words in STAGES.items():
        count = int(features[f"stage_{stage}"].sum()) if len(features) else 0
        rows.append((stage, words, count, *proportion_interval(count, len(features))))
    return pd.DataFrame(rows, columns=["stage", "meaning", "customers", "share", "share_low", "share_high"])


def kpis(days: Days, *, period: Period) -> pd.DataFrame:
    """The baseline: what the last horizon before `as_of` looked like, dated, with 95 % intervals where it is a mean.

    Gives  kpi, value, value_low, value_high, unit, start, end (last day): one row a KPI
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
    table = pd.DataFrame(rows, columns=["kpi", "value", "value_low", "value_high", "unit"])
    return table.assign(start=start.isoformat(), end=period.last_day.isoformat())


def profile(days: Days, *, events: ir.Table, rejected: pd.DataFrame, period: Period) -> pd.DataFrame:
    """What the data holds, in numbers.

    Takes  days: the state; events: the contract columns the source carries; set_aside: rows refused, by reason
    Gives  section, item, value, unit, words
    """
    rows = days.rows.filter((days.rows.day < ibis.literal(period.as_of)) & (days.rows.own_events > 0))
    own = rows.group_by("customer_id").aggregate(active_days=rows.count(), first=rows.day.min(), last=rows.day.max())
    lines = _history(own.to_pandas(), period=period)
    if "amount" in days.rows.columns:
        spent = rows.group_by("customer_id").aggregate(spend=rows.amount.sum().cast("float64")).to_pandas()["spend"]
        lines.append(("customers", CONCENTRATION, top_share(spent), "share", "a few giants can bend averages"))
    lines += _coverage(events.filter(events.day < ibis.literal(period.as_of)))
    lines += [("set aside", f"{r.table}: {r.reason}", int(r.rows), "rows", "not used") for r in rejected.itertuples()]
    return pd.DataFrame(lines, columns=["section", "item", "value", "unit", "words"]).astype({"value": float})


def profile_figures(table: pd.DataFrame, *, verdict: Verdict, features: pd.DataFrame) -> dict[str, object]:
    """The headline numbers of the profile, flat; counts, so without an interval."""
    value = table.set_index("item")["value"]
    return {
        "profile.verdict": verdict.answer,
        "profile.customers": int(value["customers with events of their own"]),
        "profile.segmented": len(features),
        "profile.features": len(features.columns),
        "profile.history_days": int(value["days of history"]),
        "profile.rows_set_aside": int(table.loc[table["section"] == "set aside", "value"].sum()),
    }


def shown_people(people: ir.Table, *, roles: dict[str, str]) -> pd.DataFrame:
    """What is known of customers and may describe groups of them; identifiers stay in the source."""
    columns = sorted(name for name, role in roles.items() if role in DESCRIBING)
    return people.select("customer_id", *columns).to_pandas().sort_values("customer_id", ignore_index=True)


def refuse_hopeless(table: pd.DataFrame) -> None:
    """Stop where nothing can be predicted; from the table of `profile`.

    Raises
    ------
    InputError
        Fewer customers than two segments of the privacy floor need, or nobody came on a second day.
    """
    readiness.refuse_hopeless(_facts(table))


def verdict(table: pd.DataFrame) -> Verdict:
    """Decide whether the data can carry a segmentation, and why; from the table of `profile`."""
    return readiness.verdict_of(_facts(table))


def _facts(table: pd.DataFrame) -> Facts:
    value = table.set_index("item")["value"]
    return Facts(
        customers=int(value["customers with events of their own"]),
        active=int(value["active in the lookback"]),
        repeat_share=float(value["seen on more than one day"]),
        history_days=int(value["days of history"]),
        proof_days=int(value["days asked for"]),
        top_share=float(value.get(CONCENTRATION, 0.0)),
        missing=tuple(table[(table["section"] == "columns") & (table["value"] == 0)]["item"]),
    )


def _history(own: pd.DataFrame, *, period: Period) -> list[Line]:
    """How long, how many, how alive; from active_days, first and last of each customer."""
    first, last = pd.Timestamp(own["first"].min()), pd.Timestamp(own["last"].max())
    recent = (pd.Timestamp(period.as_of) - pd.to_datetime(own["last"])).dt.days <= period.lookback_days
    history = (pd.Timestamp(period.as_of) - first).days
    asked = period.lookback_days + 2 * period.horizon_days
    span = f"from {first.date()} to {last.date()}"
    repeat = float((own["active_days"] > 1).mean())
    return [
        ("history", "days of history", history, "days", span),
        ("history", "days asked for", asked, "days", "lookback and two horizons, for the proof"),
        ("customers", "customers with events of their own", len(own), "customers", "before as_of"),
        ("customers", "active in the lookback", int(recent.sum()), "customers", "segmented; the others are dormant"),
        ("customers", "seen on more than one day", repeat, "share", "without repeats there is no habit"),
    ]


def _coverage(events: ir.Table) -> list[Line]:
    """Share of events that carry each optional column; zero where the source has none."""
    present = [name for name in WOULD_ADD if name in events.columns]
    shares = {name: events[name].notnull().ifelse(1, 0).cast("float64").mean() for name in present}
    found = events.aggregate(**shares).to_pandas().iloc[0] if present else {}
    return [("columns", name, float(found.get(name, 0.0)), "share", adds) for name, adds in WOULD_ADD.items()]
