"""Forecasts as a notebook shows them: accuracy, segments, churn drivers, offers."""

from dataclasses import dataclass

import pandas as pd

from segkit.customers.features import load_customers
from segkit.data import runs
from segkit.errors import InputError
from segkit.forecast.segments import Prediction, forecast_per_customer
from segkit.forecast.segments import predict as predict_customers
from segkit.notebook.results import Result, figure_result, stack, table_result, text_result
from segkit.personas.never_offer import never_offered
from segkit.reports import forecast as report
from segkit.segments.fit import read_training_windows
from segkit.segments.model import model_from_arrays


@dataclass(frozen=True, repr=False, eq=False)
class Forecast(Result):
    """What customers and segments are likely to do in the next horizon; see ``segkit.predict``.

    Parameters
    ----------
    prediction
        The forecast as computed.
    segments_made
        The table ``segments`` of the run.
    """

    prediction: Prediction | None = None
    segments_made: pd.DataFrame | None = None

    def save(self, run: runs.Run) -> None:
        """Write its tables and headline numbers into a run, and fill the forecast into its table of segments."""
        super().save(run)
        run.complete("segments", forecast_per_customer(self.table))

    @property
    def customers(self) -> pd.DataFrame:
        """The forecast of each customer, by customer_id."""
        return self.prediction.customers

    @property
    def accuracy(self) -> Result:
        """Predicted vs. actual in the back-test."""
        table = self.prediction.calibration
        sentences = text_result(bullets=report.describe_backtest(self.prediction))
        if table.empty:
            return Result(table, html=sentences.html)
        chart = figure_result(table, lambda: report.plot_calibration(table), name="forecast accuracy")
        return Result(table, html=lambda: stack(chart, sentences), draw=chart.draw)

    @property
    def segments(self) -> Result:
        """What each segment is likely to do in the next horizon."""
        chart = figure_result(self.table, self.draw, name="expected segments")
        shown = report.format_segments(self.prediction, self.segments_made)
        rows = table_result(self.table, name="predicted_segments", shown=shown, formats={"value_12m": "number"})
        return Result(self.table, html=lambda: stack(chart, rows), draw=self.draw)

    @property
    def drivers(self) -> Result:
        """The habits of customers who were lost, by segment."""
        shown = report.format_drivers(self.prediction, self.segments_made)
        formats = {"lost_above": "share", "lost_below": "share"}
        return table_result(self.prediction.drivers, name="drivers", shown=shown, formats=formats)

    @property
    def value(self) -> Result:
        """How spend over the next 12 months is spread over customers."""
        return text_result(self.customers[["value_12m"]], bullets=report.describe_value(self.prediction))

    @property
    def baselines(self) -> Result:
        """The forecast compared with simpler ones, in the back-test."""
        return table_result(
            self.prediction.backtest, name="prediction_backtest", shown=report.format_backtest(self.prediction)
        )


def predict(run: runs.Run, *, seed: int | None = None) -> Forecast:
    """Forecast activity, orders and spend of each customer and segment in the next horizon.

    Parameters
    ----------
    run
        A run with segments; nothing is written to it.
    seed
        Of folds and resamples; None is the seed of the run.

    Returns
    -------
    Forecast
        Without enough history its tables are empty, and it shows the reason.

    Examples
    --------
    >>> run = segkit.load_run(segkit.example_run())
    >>> forecast = segkit.predict(run)
    >>> forecast.table["segment"].tolist()
    ['all', 'S01', 'S02', 'S03', 'S04']
    """
    customers = load_customers(run, kinds=runs.open_run_source(run).kinds)
    found = predict_customers(
        customers,
        read_training_windows(run),
        model=model_from_arrays(*run.load_model()),
        segment=run.table("assignments").set_index("customer_id")["segment"],
        never=never_offered(run),
        seed=run.parameters()["seed"] if seed is None else seed,
    )
    segments, horizon_days = run.table("segments"), run.period.horizon_days
    answer = text_result(
        headline=report.forecast_headline(found, horizon_days=horizon_days),
        tiles=report.forecast_tiles(found, horizon_days=horizon_days),
    )
    return Forecast(
        found.segments,
        metrics=found.metrics,
        html=answer.html,
        draw=lambda: report.plot_expected_segments(report.segments_to_plot(found, segments)),
        tables={
            "predictions": found.customers,
            "predicted_segments": found.segments,
            "prediction_backtest": found.backtest,
            "calibration": found.calibration,
            "drivers": found.drivers,
            "offers": found.offers,
        },
        prediction=found,
        segments_made=segments,
    )


@dataclass(frozen=True, repr=False, eq=False)
class Offers(Result):
    """What each segment is likely to buy next; see ``segkit.next_offers``.

    Parameters
    ----------
    categories
        For each customer the likeliest category they have not bought: how many customers, and how likely.
    """

    categories: Result | None = None


def next_offers(forecast: Forecast, *, segment: str = "") -> Offers:
    """List what members of each segment bought next: new categories, and more of what they had.

    Parameters
    ----------
    forecast
        Of ``segkit.predict``.
    segment
        Only of this segment; empty is all of them.

    Raises
    ------
    InputError
        There is no such segment.

    Examples
    --------
    >>> run = segkit.load_run(segkit.example_run())
    >>> offers = segkit.next_offers(segkit.predict(run), segment="S02")
    >>> sorted(set(offers.table["kind"]))
    ['cross-sell', 'up-sell']
    """
    found, segments = forecast.prediction, forecast.segments_made
    table, shown = found.offers, report.format_offers(found, segments)
    if segment:
        if segment not in set(segments["segment"]):
            raise InputError(f"segments: there is no {segment}. Choose from {', '.join(sorted(segments['segment']))}.")
        table, shown = table[table["segment"] == segment], shown[shown["segment"] == segment]
    categories = table_result(
        found.customers.filter(like="new_category"),
        name="predictions",
        shown=report.format_categories(found),
        formats={"size": "count"},
    )
    accuracy = text_result(bullets=report.describe_category_accuracy(found))
    return Offers(
        table,
        html=table_result(table, name="offers", shown=shown).html,
        categories=Result(categories.table, html=lambda: stack(categories, accuracy)),
    )
