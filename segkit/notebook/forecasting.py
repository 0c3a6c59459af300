"""Forecasts as a notebook shows them: accuracy, segments, churn drivers, offers."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from segkit.customers.features import load_customers
from segkit.customers.needs import load_needs
from segkit.data import runs
from segkit.errors import InputError
from segkit.experiments.targets import key_results, reached_levels
from segkit.forecast.journeys import find_journeys
from segkit.forecast.offers import category_rules
from segkit.forecast.segments import Prediction, forecast_per_customer
from segkit.forecast.segments import predict as predict_customers
from segkit.forecast.tested import standing_dates, standing_test
from segkit.format import percent
from segkit.notebook.results import Result, caption_of, figure_result, stack, table_result, text_result
from segkit.personas.never_offer import never_offered
from segkit.reports import forecast as report
from segkit.reports import journeys as journeys_report
from segkit.reports import order_dates
from segkit.reports.wording import Wording
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
    words
        How the pages of the run write amounts, dates and things.
    never_offer
        Things that are never offered.
    journeys_found
        What comes next, and before a need starts or a customer leaves, beyond chance.
    need_names
        Id of a need -> its name.
    """

    prediction: Prediction | None = None
    segments_made: pd.DataFrame | None = None
    words: Wording | None = None
    never_offer: frozenset[str] = frozenset()
    journeys_found: pd.DataFrame | None = None
    need_names: Mapping[str, str] = field(default_factory=dict)

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
        tested = report.describe_tested(self.metrics, words=self.words)
        sentences = text_result(bullets=[*tested, *report.describe_backtest(self.prediction, words=self.words)])
        if table.empty:
            return Result(table, html=sentences.html)
        chart = figure_result(table, lambda: report.plot_calibration(table, words=self.words), name="forecast accuracy")
        return Result(table, html=lambda: stack(chart, sentences), draw=chart.draw)

    @property
    def segments(self) -> Result:
        """What each segment is likely to do in the next horizon."""
        chart = figure_result(self.table, self.draw, name="expected segments")
        directions = text_result(
            bullets=report.describe_directions(self.prediction, self.segments_made, words=self.words)
        )
        shown = report.format_segments(self.prediction, self.segments_made, words=self.words)
        columns = {name: title for name, title in self.words.titles("predicted_segments").items() if name in shown}
        rows = table_result(self.table, name="predicted_segments", shown=shown, columns=columns)
        return Result(self.table, html=lambda: stack(chart, directions, rows), draw=self.draw)

    @property
    def targets(self) -> Result:
        """A target for each segment: what is expected, plus what its history shows as within reach."""
        table = self.tables["key_results"]
        if table.empty:
            return text_result(table, note=caption_of("key_results")["empty"], warn=True)
        kpi = "spend" if (table["unit"] == "money").any() else "active"
        rows = report.targets_to_show(table, self.segments_made, kpi=kpi)
        sentence = text_result(bullets=[report.describe_targets(rows, kpi=kpi)])
        if rows["target"].isna().all():
            return Result(table, html=sentence.html)
        shown = report.format_targets(rows, self.segments_made, words=self.words)
        columns = self.words.titles("key_results")
        return Result(
            table, html=lambda: stack(sentence, table_result(table, name="key_results", shown=shown, columns=columns))
        )

    @property
    def drivers(self) -> Result:
        """The habits of customers who were lost, of those silent for equally long; ``.table`` has them by segment."""
        shown, table = report.format_drivers(self.prediction), self.prediction.drivers
        if shown.empty:
            return text_result(table, note=caption_of("drivers")["empty"])
        formats = {"lost_above": percent, "lost_below": percent}
        return table_result(table, name="drivers", shown=shown, formats=formats)

    @property
    def next_orders(self) -> Result:
        """When customers are likely to order next, and which categories they are due to buy."""
        dates = self.prediction.dates
        sentences = text_result(
            bullets=order_dates.describe_next_orders(
                self.metrics, customers=len(self.prediction.customers), words=self.words
            )
        )
        weeks = order_dates.weeks_of_next_order(dates, words=self.words)
        due = order_dates.due_soon(dates, words=self.words, never=self.never_offer)
        if weeks.empty and due.empty:
            return Result(dates.due, html=sentences.html)
        chart = figure_result(weeks, lambda: order_dates.plot_next_orders(weeks, due), name="next orders")
        return Result(dates.due, html=lambda: stack(chart, sentences), draw=chart.draw)

    @property
    def journeys(self) -> Result:
        """What usually comes next, and what comes before a need starts or a customer leaves, beyond chance."""
        table, named = self.journeys_found, {"needs": self.need_names}
        rows = journeys_report.journeys_to_show(table)
        sentences = text_result(bullets=journeys_report.describe_journeys(table, **named))
        chart = figure_result(rows, lambda: journeys_report.plot_journeys(rows, **named), name="journey picture")
        names = self.segments_made.set_index("segment")["name"]
        shown = journeys_report.format_journeys(table, **named, names=names)
        by_segment = table_result(shown, name="journeys", formats={"customers": "count"}) if len(shown) else ""
        return Result(table, html=lambda: stack(sentences, chart if len(rows) else "", by_segment), draw=chart.draw)

    @property
    def baselines(self) -> Result:
        """The forecast compared with simpler ones, in the back-test."""
        shown = report.format_backtest(self.prediction, words=self.words)
        return table_result(self.prediction.backtest, name="prediction_backtest", shown=shown)


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
    source = runs.open_run_source(run)
    customers, words = load_customers(run, kinds=source.kinds), Wording.of(run, source=source)
    model = model_from_arrays(*run.load_model())
    segment, never = run.table("assignments").set_index("customer_id")["segment"], never_offered(run)
    stands = seed is None and bool(run.kept) and never == never_offered(runs.load_run(run.kept))
    found = predict_customers(
        customers,
        read_training_windows(run),
        model=model,
        segment=segment,
        never=never,
        seed=run.parameters()["seed"] if seed is None else seed,
        standing=standing_test(run, model=model) if stands else None,
        dates_tested=standing_dates(run) if stands else None,
    )
    levels = reached_levels(customers.days, segment=segment.sort_index(), period=run.period)
    journeys = find_journeys(customers, needs=load_needs(run), segment=segment)
    segments, things = run.table("segments"), run.table("things") if run.has("things") else pd.DataFrame()
    return Forecast(
        found.segments,
        metrics=found.metrics,
        html=_answer(found, segments, words=words).html,
        draw=lambda: report.plot_expected_segments(report.segments_to_plot(found, segments), words=words),
        tables={
            **_tables(found),
            "key_results": key_results(levels, predicted=found.segments),
            **({"journeys": journeys} if len(journeys) else {}),
        },
        prediction=found,
        segments_made=segments,
        words=words,
        never_offer=frozenset(things.loc[things["never_offer"], "thing"]) if len(things) else frozenset(),
        journeys_found=journeys,
        need_names=run.table("needs").set_index("need")["name"].to_dict() if run.has("needs") else {},
    )


def _tables(found: Prediction) -> dict[str, pd.DataFrame]:
    """Collect the tables that a run keeps of a forecast."""
    return {
        "predictions": found.customers,
        "predicted_segments": found.segments,
        "prediction_backtest": found.backtest,
        "calibration": found.calibration,
        **({"forecast_errors": found.errors} if len(found.errors) else {}),
        "drivers": found.drivers,
        "offers": found.offers,
        "replenishment": found.dates.due,
    }


def _answer(found: Prediction, segments: pd.DataFrame, *, words: Wording) -> Result:
    """Answer the question of the page: a sentence, tiles, and what else is expected."""
    return text_result(
        headline=report.forecast_headline(found, segments, words=words),
        tiles=report.forecast_tiles(found, words=words),
        bullets=[
            *report.describe_reach(found, words=words),
            *report.describe_tested(found.metrics, words=words),
            *report.describe_year(found.metrics, words=words),
            *report.describe_dormant(found.metrics, words=words),
        ],
    )


@dataclass(frozen=True, repr=False, eq=False)
class Offers(Result):
    """What each segment is likely to buy next; see ``segkit.next_offers``.

    Parameters
    ----------
    categories
        For each customer the likeliest category they have not bought: how many customers, and how likely; only how
        often the most popular one is right, where no prediction beats it.
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
    ['up-sell']
    """
    found, segments = forecast.prediction, forecast.segments_made
    options = {"words": forecast.words, "never": forecast.never_offer}
    table, shown = found.offers, report.format_offers(found, segments, **options)
    note = "" if segment or shown.empty else report.describe_offers(shown, segments)
    if segment:
        if segment not in set(segments["segment"]):
            raise InputError(f"segments: there is no {segment}. Choose from {', '.join(sorted(segments['segment']))}.")
        table, shown = table[table["segment"] == segment], shown[shown["segment"] == segment]
    categories = table_result(
        found.customers.filter(like="new_category"),
        name="predictions",
        shown=report.format_categories(found, **options),
        formats={"size": "count"},
    )
    accuracy = text_result(bullets=report.describe_category_accuracy(found, words=forecast.words))
    predicted = category_rules(found.metrics)["new"] == "model"
    return Offers(
        table,
        html=lambda: stack(table_result(shown, name="offers"), text_result(note=note)),
        categories=Result(categories.table, html=lambda: stack(accuracy, categories if predicted else "")),
    )
