"""The profile: can this data carry a segmentation? What is in it, what is missing, and the KPI baseline on day one."""

from dataclasses import dataclass
from datetime import date

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from segkit.customers.days import Days
from segkit.customers.outcomes import customer_outcomes
from segkit.errors import InputError
from segkit.period import Period
from segkit.small_groups import FLOOR

OPTIONAL = {  # contract column -> what it would add
    "order_id": "orders told apart within a day",
    "item": "single products",
    "category": "needs: what they buy, not only how much",
    "amount": "spend, order value, revenue shares",
    "quantity": "how many of each thing",
    "discount": "sensitivity to price",
    "private_label": "own label against brands",
    "cost": "margin",
    "channel": "where they buy",
    "campaign": "response by campaign",
    "text": "what they say in their own words",
}
STAGES = {  # in the order of a life; "lately" is the last third of the lookback (`Period.recent_days`)
    "new": "first seen lately",
    "active": "came lately and before, and on time by their own habit",
    "cooling": "came lately and before, and silent for more than twice their usual gap",
    "lapsed": "came in the lookback, and not lately",
    "returned": "known from before, back lately after a long silence",
}
DESCRIBING = ("demographic", "geographic", "survey", "current_segment", "consent")
FEWEST_CUSTOMERS = 2 * FLOOR
FEW_CUSTOMERS = 12 * FLOOR  # segments times the privacy floor
LOW_REPEAT = 0.2  # share of customers with more than one active day
CONCENTRATED = 0.5  # share of revenue with the top hundredth of customers
CONCENTRATION = "revenue with the top hundredth"
Z95 = 1.959963984540054


Line = tuple[str, str, float, str, str]  # a row of the profile


@dataclass(frozen=True)
class Verdict:
    """`answer`: yes, with limits, or no; `reasons`: a sentence each."""

    answer: str
    reasons: tuple[str, ...]


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
        rows.append((stage, words, count, *proportion(count, len(features))))
    return pd.DataFrame(rows, columns=["stage", "meaning", "customers", "share", "share_low", "share_high"])


def kpis(days: Days, *, period: Period) -> pd.DataFrame:
    """The baseline: what the last horizon before `as_of` looked like, dated, with 95 % intervals where it is a mean.

    Gives  kpi, value, value_low, value_high, unit, start, end (last day): one row a KPI
    """
    start = period.last_horizon_start
    known = days.rows.filter((days.rows.day < ibis.literal(period.as_of)) & (days.rows.own_events > 0))
    index = pd.Index(
        known.select("customer_id").distinct().to_pandas()["customer_id"].sort_values(), name="customer_id"
    )
    totals = customer_outcomes(days, start=start, horizon_days=period.horizon_days, index=index).totals
    active = totals[totals["active_days"] > 0]
    rows = [
        ("customers known", len(index), np.nan, np.nan, "customers"),
        ("active rate", *proportion(len(active), len(index)), "share"),
        ("active days per active customer", *mean(active["active_days"]), "days"),
    ]
    if active["orders"].any():
        rows.append(("orders per active customer", *mean(active["orders"]), "orders"))
    if "spend" in active:
        buyers = active[active["orders"] > 0]
        rows += [
            ("revenue, net of returns", active["spend"].sum(), np.nan, np.nan, "money"),
            ("spend per active customer", *mean(active["spend"]), "money"),
            ("value of an order", *ratio_of_sums(buyers["spend"], buyers["orders"]), "money"),
        ]
    table = pd.DataFrame(rows, columns=["kpi", "value", "value_low", "value_high", "unit"])
    return table.assign(start=start.isoformat(), end=period.last_day.isoformat())


def profile(days: Days, *, events: ir.Table, set_aside: pd.DataFrame, period: Period) -> pd.DataFrame:
    """What the data holds, in numbers.

    Takes  days: the state; events: the contract columns the source carries; set_aside: rows refused, by reason
    Gives  section, item, value, unit, words
    """
    rows = days.rows.filter((days.rows.day < ibis.literal(period.as_of)) & (days.rows.own_events > 0))
    own = rows.group_by("customer_id").aggregate(active_days=rows.count(), first=rows.day.min(), last=rows.day.max())
    lines = _history(own.to_pandas(), period=period)
    if "amount" in days.rows.columns:
        spent = rows.group_by("customer_id").aggregate(spend=rows.amount.sum().cast("float64")).to_pandas()["spend"]
        ordered = spent.fillna(0).sort_values(ascending=False)
        top = ordered.head(max(1, len(ordered) // 100)).sum() / ordered.sum() if ordered.sum() > 0 else 0.0
        lines.append(("customers", CONCENTRATION, float(top), "share", "a few giants can bend averages"))
    lines += _coverage(events.filter(events.day < ibis.literal(period.as_of)))
    lines += [("set aside", f"{r.table}: {r.reason}", int(r.rows), "rows", "not used") for r in set_aside.itertuples()]
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
    kept = sorted(name for name, role in roles.items() if role in DESCRIBING)
    return people.select("customer_id", *kept).to_pandas().sort_values("customer_id", ignore_index=True)


def refuse_hopeless(table: pd.DataFrame) -> None:
    """Stop where nothing can be foreseen; from the table of `profile`.

    Raises
    ------
    InputError : fewer customers than two segments of the privacy floor need, or nobody came on a second day
    """
    value = table.set_index("item")["value"]
    active, known = value["active in the lookback"], value["customers with events of their own"]
    if active < FEWEST_CUSTOMERS:
        raise InputError(
            f"events: {active:,.0f} of {known:,.0f} customers were active in the lookback; "
            f"twelve segments of twenty need {FEW_CUSTOMERS}. Give a longer lookback, or more customers."
        )
    if value["seen on more than one day"] == 0:
        raise InputError(
            f"events: none of {known:,.0f} customers was seen on more than one day, so no habit can be learnt. "
            f"Check the column of the timestamp, or give a longer history."
        )


def verdict(table: pd.DataFrame) -> Verdict:
    """Whether the data can carry a segmentation, and why; from the table of `profile`."""
    value = table.set_index("item")["value"]
    limits, stops = [], []
    segmented = value["active in the lookback"]
    if segmented < FEW_CUSTOMERS:
        stops.append(
            f"{segmented:,.0f} customers were active in the lookback; twelve segments of twenty need {FEW_CUSTOMERS}."
        )
    if value["days of history"] < 0.95 * value["days asked for"]:
        limits.append(
            f"{value['days of history']:,.0f} days of history; "
            f"the proof out of time needs {value['days asked for']:,.0f}."
        )
    if value["seen on more than one day"] < LOW_REPEAT:
        limits.append(f"Only {value['seen on more than one day']:.0%} of customers came on more than one day.")
    if value.get(CONCENTRATION, 0.0) > CONCENTRATED:
        limits.append("More than half of the revenue comes from a hundredth of the customers: read means with care.")
    missing = table[(table["section"] == "columns") & (table["value"] == 0)]["item"].tolist()
    for needed in ("category", "amount"):
        if needed in missing:
            limits.append(f"No {needed}: without it there is no {OPTIONAL[needed]}.")
    answer = "no" if stops else "with limits" if limits else "yes"
    return Verdict(answer=answer, reasons=tuple(stops + limits) or ("Customers, history and repeats are enough.",))


def proportion(count: float, of: float) -> tuple[float, float, float]:
    """Share with its Wilson 95 % interval (Wilson 1927)."""
    if of == 0:
        return float("nan"), float("nan"), float("nan")
    p = count / of
    middle = (p + Z95**2 / (2 * of)) / (1 + Z95**2 / of)
    half = Z95 * np.sqrt(p * (1 - p) / of + Z95**2 / (4 * of**2)) / (1 + Z95**2 / of)
    return p, max(0.0, float(middle - half)), min(1.0, float(middle + half))


def mean(values: pd.Series) -> tuple[float, float, float]:
    """Mean with its 95 % interval, normal approximation."""
    if len(values) < 2:
        return (float(values.mean()) if len(values) else float("nan")), float("nan"), float("nan")
    middle, half = values.mean(), Z95 * values.std() / np.sqrt(len(values))
    return float(middle), float(middle - half), float(middle + half)


def ratio_of_sums(above: pd.Series, below: pd.Series) -> tuple[float, float, float]:
    """Sum over sum, with a 95 % interval by the delta method (customers are the units)."""
    if len(above) < 2 or below.sum() == 0:
        return float("nan"), float("nan"), float("nan")
    ratio = above.sum() / below.sum()
    half = Z95 * (above - ratio * below).std() / (below.mean() * np.sqrt(len(above)))
    return float(ratio), float(ratio - half), float(ratio + half)


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
    held = [name for name in OPTIONAL if name in events.columns]
    shares = {name: events[name].notnull().ifelse(1, 0).cast("float64").mean() for name in held}
    found = events.aggregate(**shares).to_pandas().iloc[0] if held else {}
    return [("columns", name, float(found.get(name, 0.0)), "share", adds) for name, adds in OPTIONAL.items()]
