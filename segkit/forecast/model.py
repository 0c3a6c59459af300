"""Forecast each customer's next horizon: training data, the learnt model, and baselines."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

import ibis
import numpy as np
import pandas as pd
from scipy import sparse
from scipy.optimize import linprog, minimize
from scipy.special import expit, gammaln, hyp2f1
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, PoissonRegressor

from segkit.customers.anticipation import CLIP, are_skewed, unskewed
from segkit.customers.category_mix import MixBasis, learn_mix_basis, mix_features
from segkit.customers.days import Days
from segkit.customers.features import CustomerData, Customers, Outcomes
from segkit.errors import InputError
from segkit.segments.fit import TrainingWindows, build_training_windows, last_horizon_outcomes
from segkit.segments.validation import FIFTHS
from segkit.stats import logit, quantile_edges
from segkit.vocabulary import WEEKDAYS, is_in_space

MIN_FIT_CUSTOMERS = 20  # customers that a fit is made on
MAX_FIT_CUSTOMERS = 20_000  # customers; above that a fit is made on a part of them
BOUND = 9.0  # of the logarithm of a parameter: beyond it the likelihood is flat
UNIT_MARGIN = 1e-6  # the expectation has a removable gap at a = 1


@dataclass(frozen=True)
class BgNbd:
    """Parameters of the rate of buying, Gamma(r, alpha) by day, and of dropping out after a purchase, Beta(a, b)."""

    r: float
    alpha: float
    a: float
    b: float


@dataclass(frozen=True)
class GammaGamma:
    """Parameters of the worth of an order: Gamma(p, v) within a customer, v ~ Gamma(q, gamma) between them."""

    p: float
    q: float
    gamma: float


def fit_bgnbd(repeats: np.ndarray, last: np.ndarray, age: np.ndarray) -> BgNbd:
    """Fit by maximum likelihood (Fader, Hardie & Lee 2005, "Counting your customers" the easy way, eq. 6).

    Takes  by customer: purchases after the first; days from the first to the last; days from the first to the end
    Gives  BgNbd, in days

    Raises
    ------
    InputError : fewer than twenty customers, or nobody came twice
    """
    if len(repeats) < MIN_FIT_CUSTOMERS or not (repeats > 0).any():
        raise InputError(f"BG/NBD: {len(repeats)} customers, {int((repeats > 0).sum())} of whom came twice: too few.")
    unit = float(age.max()) / 10 or 1.0  # of time; near one for all parameters
    part = _subsample(len(repeats))
    x, t_x, t = repeats[part].astype(float), last[part] / unit, age[part] / unit

    def cost(logs: np.ndarray) -> float:
        return -float(_log_likelihood(np.exp(logs), x=x, t_x=t_x, t=t).mean())

    r, alpha, a, b = np.exp(_minimise(cost, starts=((0.0, 0.0, 0.0, 1.0), (0.0, 1.0, -2.0, 2.0))))
    return BgNbd(r=float(r), alpha=float(alpha * unit), a=float(a), b=float(b))


def expected_orders(
    model: BgNbd, repeats: np.ndarray, last: np.ndarray, age: np.ndarray, *, horizon_days: float
) -> np.ndarray:
    """Purchases in the days ahead, given the past (eq. 10, in Euler's form of the hypergeometric function, which stays
    finite for customers of many purchases).
    """
    a = model.a if abs(model.a - 1) > UNIT_MARGIN else 1 + UNIT_MARGIN
    z = horizon_days / (model.alpha + age + horizon_days)
    c = a + model.b + repeats - 1
    left = (1 - z) ** (a - 1) * hyp2f1(a + model.b - 1 - model.r, a - 1, c, z)
    return np.maximum(c / (a - 1) * (1 - left), 0.0) * alive(model, repeats, last, age)


def alive(model: BgNbd, repeats: np.ndarray, last: np.ndarray, age: np.ndarray) -> np.ndarray:
    """Chance of not having dropped out yet; one for those who never came again, as the coin was not thrown."""
    x = np.maximum(repeats, 1)
    odds = np.log(model.a / (model.b + x - 1))  # of having dropped out
    odds = odds + (model.r + repeats) * np.log((model.alpha + age) / (model.alpha + last))
    return np.where(repeats > 0, expit(-odds), 1.0)


def active_chance(
    model: BgNbd, repeats: np.ndarray, last: np.ndarray, age: np.ndarray, *, horizon_days: float
) -> np.ndarray:
    """Chance of any purchase in the days ahead: alive, and not silent at a rate that is Gamma(r + x, alpha + T)."""
    silent = ((model.alpha + age) / (model.alpha + age + horizon_days)) ** (model.r + repeats)
    return alive(model, repeats, last, age) * (1 - silent)


def fit_gamma_gamma(orders: np.ndarray, value: np.ndarray) -> GammaGamma:
    """Fit the worth of an order by maximum likelihood (Fader & Hardie 2013, "The Gamma-Gamma model of monetary value").

    Takes  by customer: number of orders, and their mean value; those without value are left out
    Gives  GammaGamma, with q above one so that the mean exists

    Raises
    ------
    InputError : fewer than twenty customers with an order of some value
    """
    worth = (orders > 0) & (value > 0)
    if worth.sum() < MIN_FIT_CUSTOMERS:
        raise InputError(f"Gamma-Gamma: {int(worth.sum())} customers with an order of some value: too few.")
    x, m = orders[worth].astype(float), value[worth].astype(float)
    part, unit = _subsample(len(x)), float(np.median(m))
    x, m = x[part], m[part] / unit

    def cost(logs: np.ndarray) -> float:
        p, q, g = np.exp(logs[0]), 1 + np.exp(logs[1]), np.exp(logs[2])
        shape = p * x
        parts = gammaln(shape + q) - gammaln(shape) - gammaln(q) + q * np.log(g)
        return -float((parts + (shape - 1) * np.log(m) + shape * np.log(x) - (shape + q) * np.log(g + m * x)).mean())

    p, q, g = np.exp(_minimise(cost, starts=((0.5, 0.5, 0.5), (1.5, 1.0, 1.0))))
    return GammaGamma(p=float(p), q=float(1 + q), gamma=float(g * unit))


def expected_value(model: GammaGamma, orders: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Mean worth of a customer's orders: their own mean, drawn towards everyone's by how few orders it rests on."""
    return (model.gamma + orders * np.maximum(value, 0.0)) * model.p / (model.p * orders + model.q - 1)


def _log_likelihood(parameters: np.ndarray, *, x: np.ndarray, t_x: np.ndarray, t: np.ndarray) -> np.ndarray:
    r, alpha, a, b = parameters
    rate = gammaln(r + x) - gammaln(r) + r * np.log(alpha)
    coin = gammaln(a + b) + gammaln(b + x) - gammaln(b) - gammaln(a + b + x)
    still = -(r + x) * np.log(alpha + t)
    gone = np.log(a) - np.log(b + np.maximum(x, 1) - 1) - (r + x) * np.log(alpha + t_x)
    return rate + coin + np.where(x > 0, np.logaddexp(still, gone), still)


def _minimise(cost: object, *, starts: tuple[tuple[float, ...], ...]) -> np.ndarray:
    """The best of a few searches, in logarithms of the parameters."""
    found = [
        minimize(cost, np.array(start), method="L-BFGS-B", bounds=[(-BOUND, BOUND)] * len(start)) for start in starts
    ]
    return min(found, key=lambda one: one.fun).x


def _subsample(customers: int) -> np.ndarray:
    """Every so many-th customer, so that a fit never costs more than one on twenty thousand."""
    return np.arange(0, customers, max(1, -(-customers // MAX_FIT_CUSTOMERS)))


YEAR = 365  # days
AMOUNTS = ("orders", "spend")  # that can be foretold beside activity
ORIGINS = 3  # of the back-test at most, a horizon apart


@dataclass(frozen=True)
class Snapshot:
    """Customers at a date: signals; `last`: their totals in the last horizon; `classic`: what BG/NBD and Gamma-Gamma
    expect of them (chance, orders, spend, and how many horizons of the next are in a year); all in one order.
    """

    signals: CustomerData
    last: pd.DataFrame
    bgnbd: pd.DataFrame
    rate: float  # the horizon as a part of the lookback

    @property
    def index(self) -> pd.Index:
        return self.signals.features.index


@dataclass(frozen=True)
class TrainingSet:
    """What can be learnt as of a date: customers one horizon before it, and what came of them until then."""

    snapshot: Snapshot
    outcomes: Outcomes

    @property
    def amounts(self) -> list[str]:
        """Of orders and spend those that the source carries and that anybody had."""
        features = self.snapshot.signals.features
        return [name for name in AMOUNTS if name in features and self.values(name).any()]

    def values(self, name: str) -> np.ndarray:
        """An outcome of each customer; net spend counts from zero up."""
        if name not in self.outcomes.totals:
            return np.zeros(len(self.outcomes.totals))
        return np.maximum(self.outcomes.totals[name].to_numpy(dtype=float), 0.0)


def known_of(customers: Customers) -> Snapshot:
    """What is known of customers at the date of their period; days on or after it are not looked at.

    Gives  Known, in the order of the customers
    """
    period, index = customers.period, customers.index
    classic = _bgnbd_forecasts(customers.days, as_of=period.as_of, horizon_days=period.horizon_days, index=index)
    rate = period.horizon_days / period.lookback_days
    return Snapshot(signals=customers.signals, last=last_horizon_outcomes(customers).totals, bgnbd=classic, rate=rate)


def make_training_sets(
    customers: Customers, training_signals: TrainingWindows, *, origins: int = ORIGINS
) -> list[TrainingSet]:
    """One lesson for each horizon back that history holds: today learns from the first, back-tests from the others.

    Takes  customers: of today, whose features all are given; past: one and two horizons ago
    Gives  lessons, the latest first: customers a horizon ago and what came of them since, two horizons ago, and so on;
           none where history is too short

    Parameters
    ----------
    origins : back-tests wanted; each needs a lesson of its own, and a horizon more of history
    """
    moments, period = [training_signals.last, training_signals.before], customers.period
    if origins > 1 and training_signals.before is not None:
        further = build_training_windows(
            customers.days, period=period.one_horizon_back().one_horizon_back(), kinds=customers.kinds
        )
        moments += [further.last, further.before]
    found = []
    for moment in moments[: origins + 1]:
        if moment is None:
            break
        period = period.one_horizon_back()
        then = replace(customers, period=period, signals=moment.customers_like(customers.signals))
        found.append(TrainingSet(snapshot=known_of(then), outcomes=moment.outcomes))
    return found


def _bgnbd_forecasts(days: Days, *, as_of: date, horizon_days: int, index: pd.Index) -> pd.DataFrame:
    """BG/NBD on days with any activity for the chance, on orders for their number, Gamma-Gamma for their worth. Where
    it cannot be fitted, nothing is expected: not-a-number.
    """
    history = _purchase_history(days, as_of=as_of)
    names = ("chance", "orders", "spend", "horizons_a_year")
    table = pd.DataFrame(np.nan, index=history.index, columns=list(names))
    ahead = {"horizon_days": horizon_days}
    try:
        seen = _count_history(history, count="active_days")
        visits = fit_bgnbd(*seen)
        table["chance"] = active_chance(visits, *seen, **ahead)
        table["horizons_a_year"] = _yearly_ratio(visits, seen, horizon_days=horizon_days)
        bought = history[history["orders"] > 0]
        seen = _count_history(bought, count="orders")
        buying = fit_bgnbd(*seen)
        table.loc[bought.index, "orders"] = expected_orders(buying, *seen, **ahead)
        table.loc[bought.index, "horizons_a_year"] = _yearly_ratio(buying, seen, horizon_days=horizon_days)
        orders, value = bought["orders"].to_numpy(float), (bought["amount"] / bought["orders"]).to_numpy(float)
        worth = expected_value(fit_gamma_gamma(orders, value), orders, value)
        table.loc[bought.index, "spend"] = table.loc[bought.index, "orders"] * worth
    except InputError:
        pass  # too few customers, or no purchases: what was fitted before stays
    available = table.columns[table.notna().any()]
    table[available] = table[available].fillna(0.0)  # who never bought is not expected to
    return table.reindex(index).round(9)


def _yearly_ratio(model: BgNbd, seen: tuple[np.ndarray, ...], *, horizon_days: int) -> np.ndarray:
    """Purchases of a year over those of the horizon: less than its number of horizons, as some drop out."""
    near, far = (expected_orders(model, *seen, horizon_days=d) for d in (horizon_days, YEAR))
    return np.divide(far, near, out=np.ones_like(far), where=near > 0)


def _count_history(history: pd.DataFrame, *, count: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Repeats, days to the last, and age, as BG/NBD reads them."""
    kind = "order" if count == "orders" else "active"
    first, last = history[f"first_{kind}"], history[f"last_{kind}"]
    counted = history[count].to_numpy(float) - 1, last - first, history["until"] - first
    return tuple(np.asarray(values, dtype=float) for values in counted)


def _purchase_history(days: Days, *, as_of: date) -> pd.DataFrame:
    """By customer since the first event: orders, active days, the first and last day of either, amount bought."""
    rows = days.rows.filter((days.rows.day < ibis.literal(as_of)) & (days.rows.until < ibis.literal(as_of)))
    own, bought, day = rows.own_events > 0, rows.orders > 0, rows.day.epoch_days().cast("int64")
    aggregates = {
        "orders": rows.orders.sum().cast("float64"),
        "active_days": day.nunique(where=own).cast("float64"),
        "first_active": day.min(where=own),
        "last_active": day.max(where=own),
        "first_order": day.min(where=bought),
        "last_order": day.max(where=bought),
    }
    if "amount" in rows.columns:
        aggregates["amount"] = rows.amount.sum().cast("float64")
    table = rows.group_by("customer_id").aggregate(**aggregates).to_pandas().set_index("customer_id").sort_index()
    table["until"] = (as_of - date(1970, 1, 1)).days
    if "amount" not in table:
        table["amount"] = 0.0
    return table[table["active_days"] > 0]


FOLDS = 5
MIN_TRAINING_CUSTOMERS = 100  # customers to learn from
MIN_PER_CLASS = 10  # of them that came, and that did not: with fewer all have one chance
PENALTIES = (0.001, 0.003, 0.01, 0.03)  # inverse penalties of the logistic regression
PROBABILITY_EDGE = 1e-6  # chances are kept off zero and one before their logarithm is taken
TREES = {"max_leaf_nodes": 5, "learning_rate": 0.1, "max_iter": 60, "min_samples_leaf": 30, "l2_regularization": 5.0}
STUMPS = {"max_leaf_nodes": 3, "learning_rate": 0.08, "max_iter": 80, "min_samples_leaf": 30, "l2_regularization": 5.0}
WEEKDAY_SHARES = tuple(f"{day}_share" for day in WEEKDAYS)


@dataclass(frozen=True)
class Forecast:
    """A forecast of two sets of customers: those learnt from, out of fold, and those it is for. Columns: chance, and
    for each amount its median (`orders`, `spend`) and its mean (`orders_mean`, `spend_mean`).
    """

    out_of_fold: pd.DataFrame
    now: pd.DataFrame
    reason: str = ""


@dataclass(frozen=True)
class FeatureScaler:
    """Customers as numbers: features, the last horizon and the classic forecasts as clipped z-scores; and tastes.
    `narrow`: the columns of it that trees see, as more of them cost time and add noise.
    """

    names: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    narrow: np.ndarray
    basis: MixBasis

    def behaviour_columns(self, past: Snapshot) -> np.ndarray:
        return self._scores(past)[:, self.narrow]

    def all_columns(self, past: Snapshot) -> np.ndarray:
        logs, _ = mix_features(past.signals, terms=self.basis.terms, words=self.basis.words)
        return np.hstack([self._scores(past), np.asarray(logs @ self.basis.logs)])

    def _scores(self, snapshot: Snapshot) -> np.ndarray:
        return np.clip((_raw(snapshot, names=self.names) - self.mean) / self.scale, -CLIP, CLIP)


def forecast_customers(training: TrainingSet, now: Snapshot, *, seed: int = 7) -> Forecast:
    """Learn from a lesson and say what is expected of others.

    Takes  lesson: at least a hundred customers; now: with the same features, any date
    Gives  Told; `reason`: why all have one chance, "" where they are told apart

    Parameters
    ----------
    seed : of the folds
    """
    design = fit_feature_scaler(training.snapshot, seed=seed)
    fold = np.random.default_rng(seed).permutation(np.arange(len(training.snapshot.index)) % FOLDS)
    learnt, current = pd.DataFrame(index=training.snapshot.index), pd.DataFrame(index=now.index)
    active = training.outcomes.active
    fewest = min(active.sum(), (~active).sum())
    both = [design.behaviour_columns(snapshot) for snapshot in (training.snapshot, now)]
    reason = "" if fewest >= MIN_PER_CLASS else _class_size_reason(active)
    if reason:
        learnt["chance"] = current["chance"] = (active.sum() + 1) / (len(active) + 2)  # Laplace
    else:
        whole = [design.all_columns(past) for past in (training.snapshot, now)]
        learnt["chance"], current["chance"] = _fit_chances(whole, both, active=active, fold=fold, seed=seed)
    for name in training.amounts:
        values = training.values(name)
        plain = [simple_forecasts(past, name) for past in (training.snapshot, now)]
        learnt[name], current[name] = _fit_medians(both, plain, values=values, fold=fold, seed=seed)
        learnt[f"{name}_mean"], current[f"{name}_mean"] = fit_means(learnt, current, name=name, values=values)
    return Forecast(out_of_fold=learnt.round(9), now=current.round(9), reason=reason)


def fit_feature_scaler(then: Snapshot, *, seed: int = 7) -> FeatureScaler:
    """The scale of each column, and the directions of taste, on the customers learnt from."""
    names = tuple(then.signals.features.columns)
    raw = _raw(then, names=names)
    spread = raw.std(axis=0)
    narrow = np.ones(raw.shape[1], dtype=bool)
    narrow[: len(names)] = [is_in_space(name) and name not in WEEKDAY_SHARES for name in names]
    basis = learn_mix_basis(then.signals, seed=seed)
    return FeatureScaler(names, raw.mean(axis=0), np.where(spread > 0, spread, 1.0), narrow=narrow, basis=basis)


def simple_forecasts(snapshot: Snapshot, name: str) -> pd.DataFrame:
    """Forecasts of an amount that need no learning: the last horizon again, the rate of the lookback, BG/NBD."""
    last = snapshot.last[name].clip(lower=0)
    usual = snapshot.signals.features[name].clip(lower=0) * snapshot.rate
    table = pd.DataFrame({"last": last, "usual": usual, "classic": snapshot.bgnbd[name]}, index=snapshot.index)
    return table.assign(classic=table["classic"].fillna(table["usual"]))


def fit_means(
    learnt: pd.DataFrame, current: pd.DataFrame, *, name: str, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Means from medians and chances, by Poisson regression (log link): its expectations add up to what came. It is
    the pseudo-likelihood of any mean that is above zero (Gourieroux, Monfort & Trognon 1984).
    """
    unit = values.mean()
    read = [_mean_columns(table, name=name, unit=unit) for table in (learnt, current)]
    middle, spread = read[0].mean(axis=0), np.maximum(read[0].std(axis=0), PROBABILITY_EDGE)
    first, second = ((columns - middle) / spread for columns in read)
    fit = PoissonRegressor(alpha=1e-4, max_iter=500).fit(first, values / unit)
    most = values.max() / unit  # nobody is expected to do more than anybody did
    return tuple(np.minimum(fit.predict(np.clip(each, -CLIP, CLIP)), most) * unit for each in (first, second))


def _raw(snapshot: Snapshot, *, names: Sequence[str]) -> np.ndarray:
    """Features (log scale where skewed), log totals of the last horizon, and the classic forecasts."""
    features = snapshot.signals.features[list(names)].to_numpy(dtype=float)
    columns = list(unskewed(features, skewed=are_skewed(names)).T)
    columns += [
        np.log1p(snapshot.last[n].clip(lower=0)) for n in ("orders", "spend", "active_days") if n in snapshot.last
    ]
    columns += [np.log1p(snapshot.bgnbd[n].fillna(0.0)) for n in ("orders", "spend")]
    columns.append(logit(snapshot.bgnbd["chance"].fillna(0.5).to_numpy(), edge=PROBABILITY_EDGE))
    return np.column_stack(columns).astype(float)


def _class_size_reason(active: np.ndarray) -> str:
    """Why customers cannot be told apart by whether they come."""
    counts = f"{active.sum():,} of {len(active):,} customers were active in the learning horizon"
    return f"{counts}: too few on one side, so everyone has the same chance"


def _fit_chances(
    whole: Sequence[np.ndarray], narrow: Sequence[np.ndarray], *, active: np.ndarray, fold: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Chances out of fold and now: the penalty by log-loss; joined and calibrated by one logistic regression on both
    scores (stacking, Wolpert 1992; Platt 1999).
    """

    def linear(strength: float, train: np.ndarray, test: np.ndarray) -> np.ndarray:
        fit = LogisticRegression(C=strength, max_iter=1000).fit(whole[0][train], active[train])
        return fit.decision_function(test)

    def trees(train: np.ndarray, test: np.ndarray) -> np.ndarray:
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
    designs: Sequence[np.ndarray], plain: Sequence[pd.DataFrame], *, values: np.ndarray, fold: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Medians out of fold and now: weights of the mixture are the least absolute deviations of the out-of-fold one."""
    bases = [np.sqrt(table.mean(axis=1).to_numpy()) for table in plain]
    target, trees = np.sqrt(values) - bases[0], np.zeros(len(values))

    def corrected(train: np.ndarray, design: np.ndarray, base: np.ndarray) -> np.ndarray:
        model = HistGradientBoostingRegressor(
            loss="absolute_error", early_stopping=False, random_state=seed, **TREES
        ).fit(designs[0][train], target[train])
        return np.square(np.maximum(model.predict(design) + base, 0.0))

    for k in range(FOLDS):
        trees[fold == k] = corrected(fold != k, designs[0][fold == k], bases[0][fold == k])
    first = np.column_stack([plain[0].to_numpy(), trees])
    everyone = np.ones(len(values), dtype=bool)
    second = np.column_stack([plain[1].to_numpy(), corrected(everyone, designs[1], bases[1])])
    weights = least_absolute(first, values)
    return first @ weights, second @ weights


def least_absolute(members: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Weights of at least zero whose sum of the members misses the values least, in absolute terms (a linear program).

    >>> least_absolute(np.array([[1.0, 5.0], [2.0, 1.0], [3.0, 9.0]]), np.array([2.0, 4.0, 6.0])).tolist()
    [2.0, 0.0]
    """
    rows, columns = members.shape
    cost = np.r_[np.zeros(columns), np.ones(2 * rows)]
    balance = sparse.hstack([sparse.csr_array(members), sparse.eye_array(rows), -sparse.eye_array(rows)])
    found = linprog(cost, A_eq=balance, b_eq=values, bounds=(0, None), method="highs")
    return np.round(found.x[:columns], 9)


def _mean_columns(table: pd.DataFrame, *, name: str, unit: float) -> np.ndarray:
    return np.column_stack(
        [np.log(table[name] / unit + 0.01), logit(table["chance"].to_numpy(), edge=PROBABILITY_EDGE)]
    )


FORECASTER_LABELS = {
    "model": "the forecast",
    "last": "last period again",
    "rfm": "RFM table (5 x 5 x 5)",
    "classic": "BG/NBD + Gamma-Gamma",
}
MIN_IN_CELL = 5  # customers; a smaller cell says what its recency and frequency say
DAY_STEPS = (0, 1, 2, 4, 8, 16)  # active days of the last period, from which its share of returners is another
BAND_LEVEL = 0.95  # of the band around a customer's orders and spend
NEIGHBOUR_FRACTION = 12  # a band rests on a twelfth of the customers, those of the most similar forecast
MIN_NEIGHBOURS = 100  # of them at least
ANCHORS = 40  # forecasts at which the band is computed; between them it is drawn


def make_baselines(training: TrainingSet, now: Snapshot) -> dict[str, Forecast]:
    """The rivals, learnt from the same lesson and told of the same customers.

    Takes  lesson; now: customers at the date of the forecast
    Gives  name -> Told: last, rfm, classic (where it could be fitted); each is judged by its best: medians where it has
           them, its chance as the share that came in the lesson
    """
    baselines = {"last": _last_period_baseline(training, now), "rfm": _rfm_baseline(training, now)}
    if now.bgnbd["chance"].notna().any():
        baselines["classic"] = _bgnbd_baseline(training, now)
    return baselines


def with_bands(forecast: Forecast, training: TrainingSet, *, level: float = BAND_LEVEL) -> pd.DataFrame:
    """A forecast with a band around each amount, from what was missed by forecasts of the same size.

    The band is a Mondrian conformal one (Vovk, Lindsay, Nouretdinov & Gammerman 2003): quantiles of the errors out of
    fold, on a square-root scale, of the customers whose forecast lay nearest, with the correction for their number.

    Takes  told: of any forecaster; lesson: that it was learnt from
    Gives  the forecast of today's customers, with <amount>_low and <amount>_high

    Parameters
    ----------
    level : share of customers that should lie in their band
    """
    table = forecast.now.copy()
    for name in training.amounts:
        low, high = _amount_band(
            forecast.out_of_fold[name].to_numpy(), training.values(name), table[name].to_numpy(), level=level
        )
        table[f"{name}_low"], table[f"{name}_high"] = low.round(9), high.round(9)
    return table


def _last_period_baseline(training: TrainingSet, now: Snapshot) -> Forecast:
    """Amounts of the last horizon again; the chance is the share that came of those as active in the one before."""
    steps = np.array(DAY_STEPS)
    then, today = (
        np.searchsorted(steps, snapshot.last["active_days"], side="right") for snapshot in (training.snapshot, now)
    )
    chance = _group_statistic(then, today, values=training.outcomes.active.astype(float))
    amounts = [
        {name: simple_forecasts(past, name)["last"] for name in training.amounts} for past in (training.snapshot, now)
    ]
    return _make_forecast(training, now, chance=chance, medians=amounts, means=amounts)


def _rfm_baseline(training: TrainingSet, now: Snapshot) -> Forecast:
    """Share, median and mean of each cell of recency, frequency and money, cut into fifths at the earlier date."""
    then, today = _rfm_cells(training.snapshot, now)
    chance = _group_statistic(then, today, values=training.outcomes.active.astype(float))
    medians, means = [{}, {}], [{}, {}]
    for name in training.amounts:
        for columns, how in ((medians, "median"), (means, "mean")):
            columns[0][name], columns[1][name] = _group_statistic(then, today, values=training.values(name), how=how)
    return _make_forecast(training, now, chance=chance, medians=medians, means=means)


def _bgnbd_baseline(training: TrainingSet, now: Snapshot) -> Forecast:
    """BG/NBD and Gamma-Gamma as published: their expectation, for people and for sums."""
    snapshots = (training.snapshot, now)
    amounts = [
        {name: simple_forecasts(snapshot, name)["classic"] for name in training.amounts} for snapshot in snapshots
    ]
    chance = [past.bgnbd["chance"].fillna(0.0).to_numpy() for past in snapshots]
    return _make_forecast(training, now, chance=chance, medians=amounts, means=amounts)


def _make_forecast(training: TrainingSet, now: Snapshot, *, chance: object, medians: object, means: object) -> Forecast:
    tables = []
    for i, index in enumerate((training.snapshot.index, now.index)):
        columns = {"chance": chance[i]} | {n: medians[i][n] for n in training.amounts}
        columns |= {f"{n}_mean": means[i][n] for n in training.amounts}
        tables.append(pd.DataFrame({k: np.asarray(v, dtype=float) for k, v in columns.items()}, index=index).round(9))
    return Forecast(out_of_fold=tables[0], now=tables[1])


def _rfm_cells(then: Snapshot, now: Snapshot) -> tuple[np.ndarray, np.ndarray]:
    """The cell of each customer: fifths of recency, orders (or active days) and spend, where there is any."""
    found = [np.zeros(len(snapshot.index), dtype=int) for snapshot in (then, now)]
    first, second = then.signals.features, now.signals.features
    for name in ("recency_days", "orders" if "orders" in first else "active_days", "spend"):
        if name in first:
            edges = quantile_edges(first[name], parts=FIFTHS)
            for cells, features in zip(found, (first, second), strict=True):
                cells *= FIFTHS
                cells += np.searchsorted(edges, features[name], side="right")
    return found[0], found[1]


def _group_statistic(
    then: np.ndarray, today: np.ndarray, *, values: np.ndarray, how: str = "mean"
) -> tuple[np.ndarray, np.ndarray]:
    """A statistic of each group; of a small one that of its fifth group up, and at last that of everyone."""
    table, wide = (pd.Series(values).groupby(cells).agg([how, "size"]) for cells in (then, then // FIFTHS))
    statistic = table[how].where(table["size"] >= MIN_IN_CELL)
    everyone = float(getattr(pd.Series(values), how)())

    def read(cells: np.ndarray) -> np.ndarray:
        own, wider = (pd.Series(cells).map(statistic), pd.Series(cells // FIFTHS).map(wide[how]))
        return own.fillna(wider).fillna(everyone).to_numpy()

    return read(then), read(today)


def _amount_band(
    learnt: np.ndarray, values: np.ndarray, predicted: np.ndarray, *, level: float
) -> tuple[np.ndarray, np.ndarray]:
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
