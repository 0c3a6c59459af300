"""Forecast each customer's next horizon: training data, the learnt model, and bands around its forecasts."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

import ibis
import numpy as np
import pandas as pd
from scipy.optimize import linprog
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, PoissonRegressor

from segkit.customers.anticipation import CLIP, are_skewed, unskewed
from segkit.customers.category_mix import MixBasis, learn_mix_basis, mix_features
from segkit.customers.days import Days, count_column
from segkit.customers.features import CustomerData, Customers, Outcomes
from segkit.forecast.parametric import buying_history, forecast_buying
from segkit.segments.fit import TrainingWindows, build_training_windows, last_horizon_outcomes
from segkit.stats import logit
from segkit.vocabulary import CANCEL, WEEKDAYS, is_in_space

AMOUNTS = ("orders", "spend")  # predicted in addition to activity
BUYING = ("classic", "regular")  # models of repeat buying, of each snapshot
ORIGINS = 3  # of the back-test at most, one horizon apart
FURTHER_CUSTOMERS = 5_000  # of each origin after the latest
MOST_LEARNT = 10_000  # customers that trees see
FOLDS = 3
MIN_TRAINING_CUSTOMERS = 100  # customers
MIN_PER_CLASS = 10  # active and inactive customers; with fewer, everyone has the same chance
SOLVER = "newton-cholesky"  # many customers and few columns
PENALTIES = (0.001, 0.003, 0.01, 0.03)  # inverse penalties of the logistic regression
PROBABILITY_EDGE = 1e-6  # chances are clipped to stay this far from 0 and 1 before a logit
TREES = {"max_leaf_nodes": 5, "learning_rate": 0.1, "max_iter": 60, "min_samples_leaf": 30, "l2_regularization": 5.0}
STUMPS = {"max_leaf_nodes": 3, "learning_rate": 0.08, "max_iter": 80, "min_samples_leaf": 30, "l2_regularization": 5.0}
WEEKDAY_SHARES = tuple(f"{day}_share" for day in WEEKDAYS)
BAND_LEVEL = 0.95  # share of customers whose orders or spend lie in their band
NEIGHBOUR_FRACTION = 12  # a band rests on the twelfth of the customers with the most similar forecasts
MIN_NEIGHBOURS = 100  # customers under a band at least
ANCHORS = 40  # forecasts at which a band is computed; it is interpolated between them


@dataclass(frozen=True)
class Snapshot:
    """Describe customers at a date; all parts in one order.

    Parameters
    ----------
    last
        Totals of each customer in the last horizon.
    classic
        Expectations of BG/NBD and Gamma-Gamma, as in ``BuyingForecast``.
    regular
        Those of MBG/CNBD-k and Gamma-Gamma.
    rate
        Horizon over lookback.
    cancelled
        Whether each customer cancelled and has bought nothing since; None where no kind of event ends a contract.
    """

    data: CustomerData
    last: pd.DataFrame
    classic: pd.DataFrame
    regular: pd.DataFrame
    rate: float  # horizon over lookback
    cancelled: np.ndarray | None = None

    @property
    def index(self) -> pd.Index:
        """Return the ids of the customers."""
        return self.data.features.index


@dataclass(frozen=True)
class TrainingSet:
    """Pair customers one horizon before a date with what they did until then."""

    snapshot: Snapshot
    outcomes: Outcomes

    @property
    def amounts(self) -> list[str]:
        """Name those of orders and spend that the source carries and that are not all zero."""
        features = self.snapshot.data.features
        return [name for name in AMOUNTS if name in features and self.values(name).any()]

    def values(self, name: str) -> np.ndarray:
        """Return an outcome of each customer; net spend below zero counts as zero."""
        if name not in self.outcomes.totals:
            return np.zeros(len(self.outcomes.totals))
        return np.maximum(self.outcomes.totals[name].to_numpy(dtype=float), 0.0)


def make_snapshot(customers: Customers) -> Snapshot:
    """Describe the customers at the date of their period; days on or after it are not read."""
    period, index = customers.period, customers.index
    history, days = buying_history(customers.days, as_of=period.as_of, index=index), period.horizon_days
    asked = {"horizon_days": days, "index": index}
    buying = [forecast_buying(history, regular=each, **asked).of(index) for each in (False, True)]
    totals_only = replace(customers, days=customers.days.without_things())
    last, rate = last_horizon_outcomes(totals_only).totals, days / period.lookback_days
    cancelled = have_cancelled(customers.days, as_of=period.as_of, index=index)
    return Snapshot(customers.data, last=last, classic=buying[0], regular=buying[1], rate=rate, cancelled=cancelled)


def have_cancelled(days: Days, *, as_of: date, index: pd.Index) -> np.ndarray | None:
    """Return who cancelled on a later day than they last bought; None where no kind of event ends a contract."""
    rows = days.rows.filter(days.rows.day < ibis.literal(as_of))
    if count_column(CANCEL) not in rows.columns:
        return None
    number = rows.day.epoch_days().cast("float64")
    last = rows.group_by("customer_id").aggregate(
        cancel=number.max(where=rows[count_column(CANCEL)] > 0), order=number.max(where=rows.orders > 0)
    )
    known = last.to_pandas().set_index("customer_id").reindex(index)
    return (known["cancel"] > known["order"].fillna(-np.inf)).to_numpy()


def make_training_sets(
    customers: Customers, training_windows: TrainingWindows, *, origins: int = ORIGINS
) -> list[TrainingSet]:
    """Build a training set for each horizon back that history allows.

    Parameters
    ----------
    customers
        Today's customers; earlier ones get the same features.
    training_windows
        Customers one and two horizons ago.
    origins
        Back-tests wanted; each needs one more training set, so one more horizon of history.

    Returns
    -------
    list
        The latest first: today's forecast learns from the first, back-tests from the others; empty where history is
        too short.
    """
    windows, period = [training_windows.last, training_windows.before], customers.period
    if origins > 1 and training_windows.before is not None:
        further = build_training_windows(
            customers.days,
            period=period.one_horizon_back().one_horizon_back(),
            kinds=customers.kinds,
            max_customers=FURTHER_CUSTOMERS,
        )
        windows += [further.last, further.before]
    found = []
    for window in windows[: origins + 1]:
        if window is None:
            break
        period = period.one_horizon_back()
        earlier = replace(customers, period=period, data=window.customers_like(customers.data))
        found.append(TrainingSet(snapshot=make_snapshot(earlier), outcomes=window.outcomes))
    return found


@dataclass(frozen=True)
class Forecast:
    """Hold a forecast of two sets of customers: the training customers, out of fold, and today's.

    Columns: ``chance``, and for each amount its median (``orders``, ``spend``) and mean (``orders_mean``,
    ``spend_mean``). ``reason`` says why everyone has the same chance, or is empty.
    """

    out_of_fold: pd.DataFrame
    now: pd.DataFrame
    reason: str = ""


@dataclass(frozen=True)
class _FeatureScaler:
    """Turn customers into numbers: z-scores of features, last totals and BG/NBD forecasts, and the category mix.

    ``narrow`` flags the columns that trees see; more of them cost time and add noise.
    """

    names: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    narrow: np.ndarray
    basis: MixBasis

    def behaviour_columns(self, snapshot: Snapshot) -> np.ndarray:
        """Return the z-scores that trees see, customers x columns."""
        return self._scores(snapshot)[:, self.narrow]

    def all_columns(self, snapshot: Snapshot) -> np.ndarray:
        """Return all z-scores and the directions of the category mix, customers x columns."""
        logs, _ = mix_features(snapshot.data, terms=self.basis.terms, words=self.basis.words)
        return np.hstack([self._scores(snapshot), np.asarray(logs @ self.basis.logs)])

    def _scores(self, snapshot: Snapshot) -> np.ndarray:
        """Return z-scores, clipped to ``CLIP`` standard deviations."""
        return np.clip((_log_columns(snapshot, names=self.names) - self.mean) / self.scale, -CLIP, CLIP)


def forecast_customers(training: TrainingSet, now: Snapshot, *, seed: int = 7) -> Forecast:
    """Learn from a training set, and forecast its customers (out of fold) and today's.

    Parameters
    ----------
    training
        At least ``MIN_TRAINING_CUSTOMERS`` customers.
    now
        Customers at any date, with the same features.
    """
    scaler = _fit_feature_scaler(training.snapshot, seed=seed)
    fold = np.random.default_rng(seed).permutation(np.arange(len(training.snapshot.index)) % FOLDS)
    learnt, current = pd.DataFrame(index=training.snapshot.index), pd.DataFrame(index=now.index)
    active = training.outcomes.active
    fewest = min(active.sum(), (~active).sum())
    behaviour = [scaler.behaviour_columns(snapshot) for snapshot in (training.snapshot, now)]
    reason = "" if fewest >= MIN_PER_CLASS else _class_size_reason(active)
    if reason:
        learnt["chance"] = current["chance"] = (active.sum() + 1) / (len(active) + 2)  # Laplace
    else:
        everything = [scaler.all_columns(snapshot) for snapshot in (training.snapshot, now)]
        learnt["chance"], current["chance"] = _fit_chances(everything, behaviour, active=active, fold=fold, seed=seed)
    for name in training.amounts:
        values = training.values(name)
        simple = [simple_forecasts(snapshot, name) for snapshot in (training.snapshot, now)]
        learnt[name], current[name] = _fit_medians(behaviour, simple, values=values, fold=fold, seed=seed)
        learnt[f"{name}_mean"], current[f"{name}_mean"] = _fit_means(learnt, current, name=name, values=values)
    return Forecast(out_of_fold=learnt.round(9), now=current.round(9), reason=reason)


def _fit_feature_scaler(then: Snapshot, *, seed: int = 7) -> _FeatureScaler:
    """Learn the scale of each column and the directions of the category mix from the training customers."""
    names = tuple(then.data.features.columns)
    columns = _log_columns(then, names=names)
    spread = columns.std(axis=0)
    narrow = np.ones(columns.shape[1], dtype=bool)
    narrow[: len(names)] = [is_in_space(name) and name not in WEEKDAY_SHARES for name in names]
    basis = learn_mix_basis(then.data, seed=seed)
    return _FeatureScaler(names, columns.mean(axis=0), np.where(spread > 0, spread, 1.0), narrow=narrow, basis=basis)


def simple_forecasts(snapshot: Snapshot, name: str) -> pd.DataFrame:
    """Forecast an amount without learning: the last horizon again, the rate of the lookback, and BG/NBD."""
    last = snapshot.last[name].clip(lower=0)
    usual = snapshot.data.features[name].clip(lower=0) * snapshot.rate
    buying = {kind: getattr(snapshot, kind)[name].fillna(usual) for kind in BUYING}
    return pd.DataFrame({"last": last, "usual": usual, **buying}, index=snapshot.index)


def _fit_means(
    learnt: pd.DataFrame, current: pd.DataFrame, *, name: str, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Predict means from medians and chances, so that they sum to what was observed.

    A Poisson regression with log link: the pseudo-likelihood of any mean above zero (Gourieroux, Monfort & Trognon
    1984).

    Returns means of the training customers and of today's, in the unit of ``values``.
    """
    unit = values.mean()
    read = [_mean_columns(table, name=name, unit=unit) for table in (learnt, current)]
    middle, spread = read[0].mean(axis=0), np.maximum(read[0].std(axis=0), PROBABILITY_EDGE)
    first, second = ((columns - middle) / spread for columns in read)
    fit = PoissonRegressor(alpha=1e-4, max_iter=500).fit(first, values / unit)
    most = values.max() / unit  # no expectation exceeds the largest value observed
    return tuple(np.minimum(fit.predict(np.clip(each, -CLIP, CLIP)), most) * unit for each in (first, second))


def _log_columns(snapshot: Snapshot, *, names: Sequence[str]) -> np.ndarray:
    """Stack features (log where skewed), log totals of the last horizon, and BG/NBD forecasts."""
    features = snapshot.data.features[list(names)].to_numpy(dtype=float)
    columns = list(unskewed(features, skewed=are_skewed(names)).T)
    columns += [
        np.log1p(snapshot.last[n].clip(lower=0)) for n in ("orders", "spend", "active_days") if n in snapshot.last
    ]
    for kind in BUYING:
        table = getattr(snapshot, kind)
        columns += [np.log1p(table[n].fillna(0.0)) for n in ("orders", "spend")]
        columns.append(logit(table["chance"].fillna(0.5).to_numpy(), edge=PROBABILITY_EDGE))
    if snapshot.cancelled is not None:
        columns.append(snapshot.cancelled)
    return np.column_stack(columns).astype(float)


def _class_size_reason(active: np.ndarray) -> str:
    """Explain that too few customers were active, or inactive, to learn different chances."""
    counts = f"{active.sum():,} of {len(active):,} customers were active in the learning horizon"
    return f"{counts}: too few on one side, so everyone has the same chance"


def _fit_chances(
    whole: Sequence[np.ndarray], narrow: Sequence[np.ndarray], *, active: np.ndarray, fold: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Predict chances out of fold and now.

    Log-loss chooses the penalty; one logistic regression on the scores of both models joins and calibrates them
    (stacking, Wolpert 1992; Platt 1999).
    """

    def linear(strength: float, train: np.ndarray, test: np.ndarray) -> np.ndarray:
        fit = LogisticRegression(C=strength, solver=SOLVER, max_iter=100).fit(whole[0][train], active[train])
        return fit.decision_function(test)

    def trees(train: np.ndarray, test: np.ndarray) -> np.ndarray:
        train = _part_of(train)
        model = HistGradientBoostingClassifier(early_stopping=False, random_state=seed, **STUMPS)
        return model.fit(narrow[0][train], active[train]).decision_function(test)

    logits, grown = np.zeros((len(PENALTIES), len(active))), np.zeros(len(active))
    for k in range(FOLDS):
        train, test = fold != k, fold == k
        grown[test] = trees(train, narrow[0][test])
        for i, strength in enumerate(PENALTIES):
            logits[i, test] = linear(strength, train, whole[0][test])
    best = int(np.argmin(np.logaddexp(0, np.where(active, -logits, logits)).mean(axis=1)))
    everyone = np.ones(len(active), dtype=bool)
    now = np.column_stack([linear(PENALTIES[best], everyone, whole[1]), trees(everyone, narrow[1])])
    then = np.column_stack([logits[best], grown])
    join = LogisticRegression(C=1e6, max_iter=1000).fit(then, active)
    return tuple(join.predict_proba(each)[:, 1] for each in (then, now))


def _fit_medians(
    designs: Sequence[np.ndarray], simple: Sequence[pd.DataFrame], *, values: np.ndarray, fold: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Predict medians out of fold and now: a mixture with the least absolute deviation out of fold."""
    bases = [np.sqrt(table.mean(axis=1).to_numpy()) for table in simple]
    target, trees = np.sqrt(values) - bases[0], np.zeros(len(values))

    def corrected(train: np.ndarray, design: np.ndarray, base: np.ndarray) -> np.ndarray:
        train = _part_of(train)
        model = HistGradientBoostingRegressor(
            loss="absolute_error", early_stopping=False, random_state=seed, **TREES
        ).fit(designs[0][train], target[train])
        return np.square(np.maximum(model.predict(design) + base, 0.0))

    for k in range(FOLDS):
        trees[fold == k] = corrected(fold != k, designs[0][fold == k], bases[0][fold == k])
    first = np.column_stack([simple[0].to_numpy(), trees])
    everyone = np.ones(len(values), dtype=bool)
    second = np.column_stack([simple[1].to_numpy(), corrected(everyone, designs[1], bases[1])])
    weights = least_absolute(first, values)
    return first @ weights, second @ weights


def _part_of(train: np.ndarray) -> np.ndarray:
    """Return the numbers of the customers that trees learn from: every n-th of very many."""
    rows = np.flatnonzero(train)
    return rows[:: max(1, -(-len(rows) // MOST_LEARNT))]


def least_absolute(members: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Find weights of at least zero whose sum of the members has the least absolute error (a linear program).

    Parameters
    ----------
    members
        Forecasts, customers x members.

    Examples
    --------
    >>> least_absolute(np.array([[1.0, 5.0], [2.0, 1.0], [3.0, 9.0]]), np.array([2.0, 4.0, 6.0])).tolist()
    [2.0, 0.0]
    """
    # the dual has a row for each member instead of two columns for each customer, and the same optimum
    dual = linprog(-values, A_ub=members.T, b_ub=np.zeros(members.shape[1]), bounds=(-1, 1), method="highs")
    return np.round(np.maximum(-dual.ineqlin.marginals, 0.0), 9)


def _mean_columns(table: pd.DataFrame, *, name: str, unit: float) -> np.ndarray:
    """Stack the log of the median and the logit of the chance."""
    return np.column_stack(
        [np.log(table[name] / unit + 0.01), logit(table["chance"].to_numpy(), edge=PROBABILITY_EDGE)]
    )


def with_bands(forecast: Forecast, training: TrainingSet, *, level: float = BAND_LEVEL) -> pd.DataFrame:
    """Add a band around each amount of a forecast.

    A Mondrian conformal band (Vovk, Lindsay, Nouretdinov & Gammerman 2003): quantiles of the out-of-fold errors, on a
    square-root scale, of the customers with the nearest forecasts, corrected for their number.

    `level`: share of customers whose outcome lies in their band; a larger one widens it. Returns the forecast of
    today's customers, with ``<amount>_low`` and ``<amount>_high``.
    """
    table = forecast.now.copy()
    for name in training.amounts:
        low, high = _amount_band(
            forecast.out_of_fold[name].to_numpy(), training.values(name), table[name].to_numpy(), level=level
        )
        table[f"{name}_low"], table[f"{name}_high"] = low.round(9), high.round(9)
    return table


def _amount_band(
    learnt: np.ndarray, values: np.ndarray, predicted: np.ndarray, *, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lower and upper ends of a band, which always includes the forecast."""
    order = np.argsort(learnt, kind="stable")
    at, missed = learnt[order], (np.sqrt(values) - np.sqrt(learnt))[order]
    near = min(len(at), max(MIN_NEIGHBOURS, len(at) // NEIGHBOUR_FRACTION))
    centres = np.unique(np.linspace(0, len(at) - 1, ANCHORS).astype(int))
    starts = np.clip(centres - near // 2, 0, len(at) - near)
    # the k-th smallest of n errors holds the next one with chance k / (n + 1)
    below = max(int(np.floor((1 - level) / 2 * (near + 1))), 1) - 1
    ranked = np.array([np.sort(missed[start : start + near])[[below, near - 1 - below]] for start in starts])
    middles = np.array([np.sqrt(at[start : start + near]).mean() for start in starts])
    root = np.sqrt(predicted)
    low, high = (root + np.interp(root, middles, ranked[:, i]) for i in (0, 1))
    return np.minimum(np.square(np.maximum(low, 0.0)), predicted), np.maximum(
        np.square(np.maximum(high, 0.0)), predicted
    )
