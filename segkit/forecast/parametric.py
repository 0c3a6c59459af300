"""Forecast every customer from the days on which they bought, with models of repeat buying and of order value."""

from dataclasses import dataclass
from datetime import date

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from segkit.customers.days import Days
from segkit.errors import InputError
from segkit.forecast.buying import (
    MAX_FIT_CUSTOMERS,
    BuyingModel,
    PurchaseHistory,
    active_chance,
    chances_of_purchases,
    expected_purchases,
    fit_model,
    fit_regular_model,
)
from segkit.forecast.order_value import GammaGamma, expected_value, fit_gamma_gamma

EPOCH = date(1970, 1, 1)
DRAWS = 400  # of the spend of a customer
USUAL_WEIGHT = 1.0  # days with a purchase that the usual number of orders a day weighs as much as
MOST_PART = 0.7  # share of the customers from which on all are read
LEVEL = 0.95  # of the customers are inside their band
EXPECTATIONS = ("chance", "orders", "spend")


@dataclass(frozen=True)
class BuyingForecast:
    """Hold the models of a source at a date, and what they expect.

    Parameters
    ----------
    expected
        By customer_id, of everyone ever seen: ``chance`` (any activity in the horizon), ``orders`` and ``spend``
        (means); null where no model could be fitted.
    activity
        The model of active days; None where it could not be fitted.
    """

    expected: pd.DataFrame
    history: pd.DataFrame
    horizon_days: int
    activity: BuyingModel | None = None
    purchases: BuyingModel | None = None
    value: GammaGamma | None = None

    def of(self, index: pd.Index) -> pd.DataFrame:
        """Return the expectations of some customers, in their order."""
        return self.expected.reindex(index)

    def bands(self, index: pd.Index, *, seed: int = 7) -> pd.DataFrame:
        """Return the median of orders and spend of some customers, and the band that holds 95 % of them.

        Counts of orders have an exact distribution; spend is drawn from it, from the customer's worth, and from the
        worth of single days.

        Returns
        -------
        pd.DataFrame
            ``orders``, ``orders_low``, ``orders_high``, and the same of ``spend``; those that are known.
        """
        if self.purchases is None:
            return pd.DataFrame(index=index)
        buyers = index[index.isin(self.history.index[self.history["orders"] > 0])]
        history = self.history.loc[buyers]
        ends = ((1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2)
        names = [f"orders{part}" for part in ("_low", "", "_high")] + [f"spend{part}" for part in ("_low", "", "_high")]
        known = names if self.value is not None else names[:3]
        found = pd.DataFrame(0.0, index=index, columns=known)
        rng, days = np.random.default_rng(seed), _as_history(history, kind="order")
        for rows, chances in chances_of_purchases(self.purchases, days, horizon_days=self.horizon_days):
            own = history.iloc[rows]
            orders = np.column_stack([(chances > 1 - end).sum(axis=1) for end in ends])
            orders = orders * _orders_a_day(own, of=own)[:, None]
            columns = [orders]
            if self.value is not None:
                columns.append(np.quantile(_draw_spend(self.value, own, chances, rng=rng), ends, axis=1).T)
            found.loc[buyers[rows], known] = np.hstack(columns)
        return found.round(9)


def forecast_buying(
    history: pd.DataFrame, *, horizon_days: int, regular: bool = False, index: pd.Index | None = None
) -> BuyingForecast:
    """Fit the models on all history before a date, and forecast everyone ever seen, or some of them.

    The chance of any activity rests on active days, orders on days with an order (times the orders of such a day), and
    spend on the mean worth of such a day.

    Parameters
    ----------
    history
        As ``buying_history`` returns it.
    regular
        Fit MBG/CNBD-k, which knows regular buyers, instead of BG/NBD.
    index
        Customers to forecast; everyone by default. All are fitted on.
    """
    index = history.index if index is None else index
    expected = pd.DataFrame(np.nan, index=index, columns=list(EXPECTATIONS))
    ahead, models = {"horizon_days": horizon_days}, {}
    own = history.reindex(index).dropna(subset="active_days")
    everyone, own_buyers = history[history["order_days"] > 0], own[own["order_days"] > 0]
    fit = fit_regular_model if regular else lambda known: fit_model(known)[0]
    try:
        active, bought = _as_history(history, kind="active"), _as_history(everyone, kind="order")
        models["activity"] = fit(active)
        seen = _as_history(own, kind="active")
        expected.loc[own.index, "chance"] = active_chance(models["activity"], seen, **ahead)
        models["purchases"] = models["activity"] if bought == active else fit(bought)
        buying = _as_history(own_buyers, kind="order")
        purchases = expected_purchases(models["purchases"], buying, **ahead)
        expected.loc[own_buyers.index, "orders"] = purchases * _orders_a_day(own_buyers, of=everyone)
        models["value"] = fit_gamma_gamma(*_day_values(everyone))
        expected.loc[own_buyers.index, "spend"] = purchases * expected_value(models["value"], *_day_values(own_buyers))
    except InputError:
        pass  # too few customers, or no purchases: what was fitted so far is used
    known = expected.columns[expected.notna().any()]
    expected[known] = expected[known].fillna(0.0)  # no purchase is expected of customers who never bought
    return BuyingForecast(expected.round(9), history, horizon_days, **models)


def _as_history(table: pd.DataFrame, *, kind: str) -> PurchaseHistory:
    """Read the days of activity (``active``) or of orders (``order``) as models of repeat buying take them."""
    first, last = (table[f"{end}_{kind}"].to_numpy(float) for end in ("first", "last"))
    repeats, gaps = table[f"{kind}_days"].to_numpy(float) - 1, table[f"{kind}_gaps"].to_numpy(float)
    return PurchaseHistory(repeats, last - first, table["until"].to_numpy(float) - first, gaps)


def _orders_a_day(table: pd.DataFrame, *, of: pd.DataFrame) -> np.ndarray:
    """Return the orders of a day with an order: a customer's own mean, shrunk to that of all where days are few."""
    orders, days = table["orders"].to_numpy(float), table["order_days"].to_numpy(float)
    usual = of["orders"].sum() / max(of["order_days"].sum(), 1.0)
    return (orders + USUAL_WEIGHT * usual) / (days + USUAL_WEIGHT)


def _day_values(table: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return days with an order, and the mean worth of one."""
    days = table["order_days"].to_numpy(float)
    return days, table["amount"].to_numpy(float) / np.maximum(days, 1.0)


def _draw_spend(model: GammaGamma, table: pd.DataFrame, chances: np.ndarray, *, rng: np.random.Generator) -> np.ndarray:
    """Draw the spend of the horizon, customers x draws."""
    (days, value), size = _day_values(table), (len(table), DRAWS)
    chance = rng.random(size)
    count = np.array([np.searchsorted(-own, -drawn, side="left") for own, drawn in zip(chances, chance, strict=True)])
    scale = rng.gamma((model.q + model.p * days)[:, None], 1.0, size)
    scale /= (model.gamma + days * np.maximum(value, 0.0))[:, None]
    return np.where(count > 0, rng.gamma(model.p * np.maximum(count, 1)) / scale, 0.0)


def buying_history(days: Days, *, as_of: date, index: pd.Index | None = None) -> pd.DataFrame:
    """Count active days, days with an order and orders of each customer, with first and last days and the amount.

    ``<kind>_gaps`` is the sum of the logarithms of the days from one to the next.

    Parameters
    ----------
    index
        Customers who are needed; of many others, a sample by a hash of their ids that a fit can rest on. Everyone by
        default.
    """
    rows = days.rows.filter((days.rows.day < ibis.literal(as_of)) & (days.rows.until < ibis.literal(as_of)))
    if index is not None:
        rows = _part_of(rows, index=index)
    totals = {"orders": rows.orders.sum().cast("float64")}
    if "amount" in rows.columns:
        totals["amount"] = rows.amount.sum().cast("float64")
    table = rows.group_by("customer_id").aggregate(**totals).to_pandas().set_index("customer_id").sort_index()
    alike = int(rows.count(where=(rows.own_events > 0) != (rows.orders > 0)).to_pandas()) == 0
    active = _gaps(rows, kind="active", counts=rows.own_events > 0)
    orders = active.rename(columns=lambda name: name.replace("active", "order"))
    table = table.join(active).join(orders if alike else _gaps(rows, kind="order", counts=rows.orders > 0))
    table[["order_days", "order_gaps"]] = table[["order_days", "order_gaps"]].fillna(0.0)
    table["until"] = (as_of - EPOCH).days
    if "amount" not in table:
        table["amount"] = 0.0
    return table[table["active_days"] > 0]


def _part_of(rows: ir.Table, *, index: pd.Index) -> ir.Table:
    """Keep the rows of some customers, and of a sample of all; all rows where customers are few."""
    ids = rows.select("customer_id").distinct().to_pandas()["customer_id"].sort_values(ignore_index=True)
    wanted = ids.isin(index) | (ids.index % max(len(ids) // MAX_FIT_CUSTOMERS, 1) == 0)
    if wanted.mean() > MOST_PART:
        return rows
    return rows.semi_join(ibis.memtable(ids[wanted].to_frame()), "customer_id")


def _gaps(rows: ir.Table, *, kind: str, counts: ir.BooleanColumn) -> pd.DataFrame:
    """Count the days that count, with the first and the last and the sum of the logarithms of the gaps.

    A day may have several rows; those after its first have a gap of zero, and add nothing.
    """
    own = rows.filter(counts).select("customer_id", number=rows.day.epoch_days().cast("int64"))
    before = own.number.lag().over(ibis.window(group_by="customer_id", order_by="number"))
    with_gap = own.mutate(gap=own.number - before)
    with_gap = with_gap.filter(with_gap.gap.isnull() | (with_gap.gap > 0))
    found = with_gap.group_by("customer_id").aggregate(
        **{
            f"{kind}_days": with_gap.count().cast("float64"),
            f"first_{kind}": with_gap.number.min(),
            f"last_{kind}": with_gap.number.max(),
            f"{kind}_gaps": with_gap.gap.cast("float64").ln().sum().fill_null(0.0).round(9),
        }
    )
    return found.to_pandas().set_index("customer_id")
