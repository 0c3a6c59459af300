"""The forecast: what customers of one horizon ago did since, learnt from what was known of them then, said of others.

Chance of any activity: a penalised logistic regression on all that is known and small boosted trees on behaviour; out
of fold the penalty is chosen, and the two are joined and calibrated by a second regression. Orders and spend: boosted
trees correct a customer's own rate; a mixture of that and of plain forecasts (last horizon again, their usual rate,
BG/NBD) is made by least absolute deviations, out of fold, which gives medians; means follow by a Poisson regression on
them, whose total is that of what came.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.optimize import linprog
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import LogisticRegression, PoissonRegressor

from segkit.actions.predict_known import Known, Lesson
from segkit.customers.anticipate import CLIP, are_skewed, unskewed
from segkit.customers.tastes import Basis, learn_basis, tastes
from segkit.stats import logit
from segkit.vocabulary import WEEKDAYS, is_in_space

FOLDS = 5
FEWEST = 100  # customers to learn from
FEWEST_APART = 10  # of them that came, and that did not: with fewer all have one chance
STRENGTHS = (0.001, 0.003, 0.01, 0.03)  # inverse penalties of the logistic regression
EDGE = 1e-6  # chances are kept off zero and one before their logarithm is taken
TREES = {"max_leaf_nodes": 5, "learning_rate": 0.1, "max_iter": 60, "min_samples_leaf": 30, "l2_regularization": 5.0}
STUMPS = {"max_leaf_nodes": 3, "learning_rate": 0.08, "max_iter": 80, "min_samples_leaf": 30, "l2_regularization": 5.0}
WEEKDAY_SHARES = tuple(f"{day}_share" for day in WEEKDAYS)


@dataclass(frozen=True)
class Told:
    """A forecast of two sets of customers: those learnt from, out of fold, and those it is for. Columns: chance, and
    for each amount its median (`orders`, `spend`) and its mean (`orders_mean`, `spend_mean`).
    """

    out_of_fold: pd.DataFrame
    now: pd.DataFrame
    reason: str = ""


@dataclass(frozen=True)
class Design:
    """Customers as numbers: features, the last horizon and the classic forecasts as clipped z-scores; and tastes.
    `narrow`: the columns of it that trees see, as more of them cost time and add noise.
    """

    names: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    narrow: np.ndarray
    basis: Basis

    def behaviour_columns(self, past: Known) -> np.ndarray:
        return self._scores(past)[:, self.narrow]

    def all_columns(self, past: Known) -> np.ndarray:
        logs, _ = tastes(past.signals, terms=self.basis.terms, words=self.basis.words)
        return np.hstack([self._scores(past), np.asarray(logs @ self.basis.logs)])

    def _scores(self, snapshot: Known) -> np.ndarray:
        return np.clip((_raw(snapshot, names=self.names) - self.mean) / self.scale, -CLIP, CLIP)


def foretell(training: Lesson, now: Known, *, seed: int = 7) -> Told:
    """Learn from a lesson and say what is expected of others.

    Takes  lesson: at least a hundred customers; now: with the same features, any date
    Gives  Told; `reason`: why all have one chance, "" where they are told apart

    Parameters
    ----------
    seed : of the folds
    """
    design = learn_design(training.snapshot, seed=seed)
    fold = np.random.default_rng(seed).permutation(np.arange(len(training.snapshot.index)) % FOLDS)
    learnt, current = pd.DataFrame(index=training.snapshot.index), pd.DataFrame(index=now.index)
    active = training.outcomes.active
    fewest = min(active.sum(), (~active).sum())
    both = [design.behaviour_columns(snapshot) for snapshot in (training.snapshot, now)]
    reason = "" if fewest >= FEWEST_APART else _one_class(active)
    if reason:
        learnt["chance"] = current["chance"] = (active.sum() + 1) / (len(active) + 2)  # Laplace
    else:
        whole = [design.all_columns(past) for past in (training.snapshot, now)]
        learnt["chance"], current["chance"] = _chances(whole, both, active=active, fold=fold, seed=seed)
    for name in training.amounts:
        values = training.values(name)
        plain = [plain_forecasts(past, name) for past in (training.snapshot, now)]
        learnt[name], current[name] = _medians(both, plain, values=values, fold=fold, seed=seed)
        learnt[f"{name}_mean"], current[f"{name}_mean"] = means_of(learnt, current, name=name, values=values)
    return Told(out_of_fold=learnt.round(9), now=current.round(9), reason=reason)


def learn_design(then: Known, *, seed: int = 7) -> Design:
    """The scale of each column, and the directions of taste, on the customers learnt from."""
    names = tuple(then.signals.features.columns)
    raw = _raw(then, names=names)
    spread = raw.std(axis=0)
    narrow = np.ones(raw.shape[1], dtype=bool)
    narrow[: len(names)] = [is_in_space(name) and name not in WEEKDAY_SHARES for name in names]
    basis = learn_basis(then.signals, seed=seed)
    return Design(names, raw.mean(axis=0), np.where(spread > 0, spread, 1.0), narrow=narrow, basis=basis)


def plain_forecasts(snapshot: Known, name: str) -> pd.DataFrame:
    """Forecasts of an amount that need no learning: the last horizon again, the rate of the lookback, BG/NBD."""
    last = snapshot.last[name].clip(lower=0)
    usual = snapshot.signals.features[name].clip(lower=0) * snapshot.rate
    table = pd.DataFrame({"last": last, "usual": usual, "classic": snapshot.bgnbd[name]}, index=snapshot.index)
    return table.assign(classic=table["classic"].fillna(table["usual"]))


def means_of(
    learnt: pd.DataFrame, current: pd.DataFrame, *, name: str, values: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Means from medians and chances, by Poisson regression (log link): its expectations add up to what came. It is
    the pseudo-likelihood of any mean that is above zero (Gourieroux, Monfort & Trognon 1984).
    """
    unit = values.mean()
    read = [_mean_columns(table, name=name, unit=unit) for table in (learnt, current)]
    middle, spread = read[0].mean(axis=0), np.maximum(read[0].std(axis=0), EDGE)
    first, second = ((columns - middle) / spread for columns in read)
    fit = PoissonRegressor(alpha=1e-4, max_iter=500).fit(first, values / unit)
    most = values.max() / unit  # nobody is expected to do more than anybody did
    return tuple(np.minimum(fit.predict(np.clip(each, -CLIP, CLIP)), most) * unit for each in (first, second))


def _raw(snapshot: Known, *, names: Sequence[str]) -> np.ndarray:
    """Features (log scale where skewed), log totals of the last horizon, and the classic forecasts."""
    features = snapshot.signals.features[list(names)].to_numpy(dtype=float)
    columns = list(unskewed(features, skewed=are_skewed(names)).T)
    columns += [
        np.log1p(snapshot.last[n].clip(lower=0)) for n in ("orders", "spend", "active_days") if n in snapshot.last
    ]
    columns += [np.log1p(snapshot.bgnbd[n].fillna(0.0)) for n in ("orders", "spend")]
    columns.append(logit(snapshot.bgnbd["chance"].fillna(0.5).to_numpy(), edge=EDGE))
    return np.column_stack(columns).astype(float)


def _one_class(active: np.ndarray) -> str:
    """Why customers cannot be told apart by whether they come."""
    counts = f"{active.sum():,} of {len(active):,} customers were active in the learning horizon"
    return f"{counts}: too few on one side, so everyone has the same chance"


def _chances(
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

    logits, grown = np.zeros((len(STRENGTHS), len(active))), np.zeros(len(active))
    for k in range(FOLDS):
        train, test = fold != k, fold == k
        grown[test] = trees(train, narrow[0][test])
        for i, strength in enumerate(STRENGTHS):
            logits[i, test] = linear(strength, train, whole[0][test])
    best = int(np.argmin(np.logaddexp(0, np.where(active, -logits, logits)).mean(axis=1)))
    everyone = np.ones(len(active), dtype=bool)
    now = np.column_stack([linear(STRENGTHS[best], everyone, whole[1]), trees(everyone, narrow[1])])
    then = np.column_stack([logits[best], grown])
    join = LogisticRegression(C=1e6, max_iter=1000).fit(then, active)
    return tuple(join.predict_proba(each)[:, 1] for each in (then, now))


def _medians(
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
    return np.column_stack([np.log(table[name] / unit + 0.01), logit(table["chance"].to_numpy(), edge=EDGE)])
