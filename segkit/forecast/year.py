"""Forecast the spend of twelve months, where two years of history show how well it works."""

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from segkit.customers.features import Customers, customer_outcomes
from segkit.forecast.backtest import BacktestOrigin
from segkit.forecast.parametric import buying_history
from segkit.forecast.short_history import buying_backtest, expect_buying
from segkit.segments.fit import first_active_day
from segkit.stats import mean_interval

YEAR = 365  # days
TOO_SHORT = "it takes two years of history, one of them to check the forecast against"
NOT_BETTER = "the spend of the year before was as close"


@dataclass(frozen=True)
class YearForecast:
    """Hold the spend of twelve months to expect of each customer, and the back-test of one year ago.

    Parameters
    ----------
    spend
        Money, by customer_id; null where it is not forecast.
    origins
        The back-test; empty where spend is not forecast.
    model
        Name of the forecaster in ``origins``.
    metrics
        ``forecast.year.reason`` (None where there is a forecast), ``.off`` (total predicted over observed, less 1) and,
        with ranges, ``.mae`` and ``.lead`` over the year before repeated, in money a customer.
    """

    spend: pd.Series
    metrics: dict[str, object]
    origins: list[BacktestOrigin] = field(default_factory=list)
    model: str = "model"


def forecast_year(customers: Customers) -> YearForecast:
    """Forecast twelve months with the model of repeat buying that was closer one year ago.

    A year evens seasons out, so nothing is learnt from single horizons. It is given only where it was clearly closer to
    what each customer spent than the year before repeated.
    """
    index, period = customers.index, customers.period
    unknown = pd.Series(np.nan, index=index)
    if "spend" not in customers.data.features or not customers.data.features["spend"].any():
        return YearForecast(unknown, {})
    first = first_active_day(customers.days)
    yearly = replace(customers, period=replace(period, horizon_days=YEAR))
    long_enough = first is not None and (period.as_of - first).days >= 2 * YEAR
    origins = buying_backtest(yearly, seed=None) if long_enough else []
    names = [name for name, table in origins[0].banded.items() if "spend_mean" in table] if origins else []
    if not names or not origins[0].values("spend").any():
        return YearForecast(unknown, {"forecast.year.reason": TOO_SHORT})
    observed = origins[0].values("spend")
    errors = {name: np.abs(origins[0].predicted("spend", name) - observed) for name in names}
    best = min(names, key=lambda name: errors[name].mean())
    start = yearly.period.one_horizon_back().one_horizon_back().as_of
    before = customer_outcomes(
        customers.days.without_things(), start=start, horizon_days=YEAR, index=origins[0].snapshot.index
    ).totals["spend"].clip(lower=0)  # fmt: skip
    lead = mean_interval(pd.Series(np.abs(before.to_numpy() - observed) - errors[best]))
    metrics: dict[str, object] = {"forecast.year.off": origins[0].predicted("spend", best).sum() / observed.sum() - 1}
    metrics |= mean_interval(pd.Series(errors[best])).metrics("forecast.year.mae") | lead.metrics("forecast.year.lead")
    if not lead.low > 0:
        return YearForecast(unknown, metrics | {"forecast.year.reason": NOT_BETTER})
    history = buying_history(customers.days, as_of=period.as_of, index=index)
    spend = expect_buying(history, horizon_days=YEAR, index=index)[best]["spend"].fillna(0.0)
    return YearForecast(spend, metrics | {"forecast.year.reason": None}, origins, best)
