"""The past: what was known one and two horizons ago, and what came since; made once in a run, read by every later step.

Segments learn from the last horizon; those of the proof learn from the one before and are judged on the last: the same
customers at the same two dates. Of a large base a sample is kept, chosen by a hash of the ids.
"""

from dataclasses import dataclass, replace
from datetime import date

import ibis
import pandas as pd
from scipy import sparse

from segkit.customers.days import Days
from segkit.customers.features import Signals, customer_signals
from segkit.customers.outcomes import Outcomes, customer_outcomes
from segkit.data.store import Run
from segkit.period import Period
from segkit.segments.fit import Windows, reaches_back
from segkit.stats import SAMPLE_SIZE, hash_sample

TABLES = ("training_features", "training_bought", "training_outcomes", "training_outcomes_bought")


@dataclass(frozen=True)
class Moment:
    """One date in the past: `known` of the customers then, and what they did in the horizon that followed."""

    customers: Signals
    outcomes: Outcomes

    def customers_like(self, now: Signals) -> Signals:
        """What was known with the features of today: a channel that nobody used yet is zero."""
        return replace(
            self.customers, features=self.customers.features.reindex(columns=now.features.columns, fill_value=0.0)
        )


@dataclass(frozen=True)
class Past:
    """One horizon ago (`last`) and two (`before`); None where history does not reach so far."""

    last: Moment | None
    before: Moment | None

    def fit_data(self, now: Signals) -> Windows:
        """Today's customers, with the last horizon to learn from."""
        return _windows(now, self.last)

    def earlier_fit_data(self) -> Windows | None:
        """The windows one horizon ago, which the proof makes segments on; None where there is nothing to learn from."""
        return _windows(self.last.customers, self.before) if self.last and self.before else None


def past_of(days: Days, *, period: Period, kinds: dict[str, str], max_customers: int = SAMPLE_SIZE) -> Past:
    """Look back one and two horizons.

    Takes  days: the state; rows on or after `period.as_of` are not looked at
    Gives  Past

    Parameters
    ----------
    most : customers at each date; of more, those whose ids have the smallest hashes
    """
    last = period.one_horizon_back()
    return Past(
        *(
            _moment(days, period=each, kinds=kinds, max_customers=max_customers)
            for each in (last, last.one_horizon_back())
        )
    )


def windows_at(days: Days, *, period: Period, kinds: dict[str, str]) -> Windows:
    """What is known of everyone at `period.as_of`, with the last horizon to learn from; for one date alone.

    Takes  days: the state; rows on or after `period.as_of` are not looked at
    Gives  Windows
    """
    now = customer_signals(days, period=period, kinds=kinds)
    return _windows(now, _moment(days, period=period.one_horizon_back(), kinds=kinds, max_customers=SAMPLE_SIZE))


def write_past(run: Run, training: Past) -> None:
    """Keep the past in a run, by moment (last, before), as the tables training_*."""
    moments = {name: moment for name, moment in vars(training).items() if moment is not None}
    if not moments:
        return
    parts = {
        "training_features": {name: m.known.features for name, m in moments.items()},
        "training_outcomes": {name: m.came.totals for name, m in moments.items()},
        "training_bought": {name: _long(m.known) for name, m in moments.items()},
        "training_outcomes_bought": {name: _long(m.came) for name, m in moments.items()},
    }
    for table, by_moment in parts.items():
        found = {name: part for name, part in by_moment.items() if part is not None}
        if found:
            run.write(pd.concat(found, names=["moment"]).reset_index(), table)


def read_past(run: Run) -> Past:
    """The past that a run holds; nothing where its history was too short."""
    if not run.has("training_features"):
        return Past(last=None, before=None)
    tables = {name: run.table(name) for name in TABLES if run.has(name)}
    return Past(*(_read_moment(tables, name) for name in ("last", "before")))


def _moment(days: Days, *, period: Period, kinds: dict[str, str], max_customers: int) -> Moment | None:
    if not reaches_back(days, period=period):
        return None
    few = _of_few(days, start=period.lookback_start, end=period.as_of, max_customers=max_customers)
    customers = customer_signals(few, period=period, kinds=kinds)
    came = customer_outcomes(few, start=period.as_of, horizon_days=period.horizon_days, index=customers.features.index)
    return Moment(customers, came)


def _of_few(days: Days, *, start: date, end: date, max_customers: int) -> Days:
    """The days of a sample of those with an event of their own in a window; of all where they are few."""
    rows = days.rows
    seen = rows.filter((rows.day >= ibis.literal(start)) & (rows.until < ibis.literal(end)) & (rows.own_events > 0))
    ids = sorted(seen.select("customer_id").distinct().to_pandas()["customer_id"])
    if len(ids) <= max_customers:
        return days
    sample = ibis.memtable(pd.DataFrame({"customer_id": ids})[hash_sample(ids, most=max_customers)])
    parts = {name: table.semi_join(sample, "customer_id") for name, table in vars(days).items() if table is not None}
    return Days(**{**vars(days), **parts})


def _windows(now: Signals, window: Moment | None) -> Windows:
    if window is None:
        return Windows(now=now, then=None, outcomes=None)
    return Windows(now=now, then=window.customers_like(now), outcomes=window.outcomes)


def _long(data: Signals | Outcomes) -> pd.DataFrame | None:
    """What was bought as rows: customer_id, category, weight."""
    if data.weights is None:
        return None
    index = (data.features if isinstance(data, Signals) else data.totals).index
    entries = data.weights.tocoo()
    categories = pd.Categorical.from_codes(entries.col, categories=list(data.categories))
    columns = {
        "customer_id": index.to_numpy()[entries.row],
        "category": categories.astype(object),
        "weight": entries.data,
    }
    return pd.DataFrame(columns).set_index("customer_id")


def _read_moment(tables: dict[str, pd.DataFrame], name: str) -> Moment | None:
    own = {table: part[part["moment"] == name].drop(columns="moment") for table, part in tables.items()}
    if own["training_features"].empty:
        return None
    features = own["training_features"].set_index("customer_id").dropna(axis=1, how="all")
    totals = own["training_outcomes"].set_index("customer_id")
    bought = _wide(own.get("training_bought"), index=features.index)
    outcome_weights = _wide(own.get("training_outcomes_bought"), index=totals.index)
    return Moment(Signals(features, *bought), Outcomes(totals, *outcome_weights))


def _wide(table: pd.DataFrame | None, *, index: pd.Index) -> tuple[sparse.csr_array | None, tuple[str, ...]]:
    if table is None:
        return None, ()
    names = sorted(table["category"].unique())
    place = index.get_indexer(table["customer_id"]), pd.Index(names).get_indexer(table["category"])
    return sparse.csr_array((table["weight"].to_numpy(), place), shape=(len(index), len(names))), tuple(names)
