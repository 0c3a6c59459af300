"""Foresight: how much of the future could be foreseen, and what the axes of the space stand for."""

import numpy as np
import pandas as pd

from segkit.customers.anticipate import Anticipation, Space, anticipate, learn_space, value_outcomes
from segkit.customers.features import Signals
from segkit.customers.outcomes import Outcomes
from segkit.customers.tastes import mix_shares
from segkit.customers.terms import term_weights
from segkit.stats import Estimate

FOLDS = 5
ENDS = 3  # things told of each end of an axis
NEEDS_SHOWN = 7  # colours of a small map
WORDS = {
    "spend": "how much they spend",
    "orders": "how often they order",
    "active_days": "how often they come",
    "mix": "what they choose",
}
OUTCOME_WORDS = {"spend": "spend", "orders": "orders", "active_days": "active days"}
COLUMNS = {"name": object, "outcome": object, "r2": float, "low": float, "high": float}


def foresight(then: Signals | None, outcomes: Outcomes | None, *, folds: int = FOLDS, seed: int = 7) -> pd.DataFrame:
    """How much of each outcome could be foreseen, on customers the map was not learnt from.

    Takes  then, outcomes: as `learn_space`; None where history is too short
    Gives  name, outcome (words), r2 (out of fold: 1 - squared error / squared deviation), low, high (95 %, over
           customers); no row where nothing could be learnt

    Parameters
    ----------
    folds : parts of the customers, each foreseen from the others
    """
    if then is None or outcomes is None:
        return pd.DataFrame({name: pd.Series(dtype=t) for name, t in COLUMNS.items()})
    rng = np.random.default_rng(seed)
    fold = rng.permutation(np.arange(len(then.features)) % folds)
    names, values = value_outcomes(outcomes)
    errors = {name: np.zeros(len(fold)) for name in [*names, "mix"]}
    spreads = {name: np.zeros(len(fold)) for name in [*names, "mix"]}
    for k in range(folds):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        space = learn_space(then.select(train), outcomes.select(train), seed=seed)
        expected = anticipate(space, then.select(test))
        for i, name in enumerate(names):
            errors[name][test] = (values[test, i] - expected.outcomes[name]) ** 2
            spreads[name][test] = (values[test, i] - values[train, i].mean()) ** 2
        _mix_errors(space, outcomes, expected, rows=(train, test), into=(errors["mix"], spreads["mix"]))
    scored = [*names, "mix"] if spreads["mix"].any() else names
    scores = [(name, WORDS[name], *_ratio_interval(errors[name], spreads[name], rng=rng)) for name in scored]
    return pd.DataFrame(scores, columns=list(COLUMNS)).astype(COLUMNS)


def foresight_figures(table: pd.DataFrame) -> dict[str, float]:
    """The headline numbers: foresight.spend_r2 with .low and .high, and so on."""
    figures: dict[str, float] = {}
    for row in table.to_dict("records"):
        figures |= Estimate(row["r2"], row["low"], row["high"]).metrics(f"predictability.{row['name']}_r2")
    return figures


def axis_words(expected: Anticipation) -> pd.DataFrame:
    """Each axis by what those at its ends are expected to do.

    Takes  what the space expects of today's customers
    Gives  axis, share (of the variance of the axes), high, low: words for the outcomes and terms whose expectation
           follows it most
    """
    axes = expected.axes
    expectations = pd.concat([expected.outcomes.rename(columns=OUTCOME_WORDS), expected.mix], axis=1)
    variance = axes.var()
    rows = []
    for axis in axes.columns:
        follows = expectations.corrwith(axes[axis]) if len(expectations.columns) else pd.Series(dtype=float)
        ends = follows.dropna().sort_values(kind="stable")
        high, low = ends[ends > 0].index[::-1][:ENDS], ends[ends < 0].index[:ENDS]
        rows.append((axis.replace("_", " "), variance[axis] / variance.sum(), _told(high), _told(low)))
    return pd.DataFrame(rows, columns=["axis", "share", "high", "low"])


def map_values(expected: Anticipation, now: Signals) -> pd.DataFrame:
    """What the small maps are coloured by.

    Gives  by customer_id: expected spend (or activity), main need (the term expected above its usual share most;
           rare ones are
           "other"), and how activity moved lately
    """
    columns = {}
    if len(expected.outcomes.columns):
        name = expected.outcomes.columns[0]
        columns[f"expected {OUTCOME_WORDS[name]} (log)"] = expected.outcomes[name]
    if len(expected.mix.columns) > 1:
        above = (expected.mix - expected.mix.mean()) / expected.mix.std().replace(0, np.nan)
        main = above.idxmax(axis=1)
        common = main.value_counts().index[:NEEDS_SHOWN]
        columns["main need"] = main.where(main.isin(common), "other").str.lower()
    if "activity_trend" in now.features:
        columns["activity lately (-1 to 1)"] = now.features["activity_trend"]
    return pd.DataFrame(columns)


def _told(names: pd.Index) -> str:
    return ", ".join(str(name).lower() for name in names) or "no more than others"


def _mix_errors(
    space: Space,
    outcomes: Outcomes,
    expected: Anticipation,
    *,
    rows: tuple[np.ndarray, np.ndarray],
    into: tuple[np.ndarray, np.ndarray],
) -> None:
    """Squared errors and deviations of the mix, summed over terms, of those who bought."""
    if outcomes.weights is None or not space.mix_terms:
        return
    weights, names = term_weights(outcomes.weights, list(outcomes.categories), words=space.words)
    shares, bought = mix_shares(weights, names, terms=list(space.mix_terms))
    train, test = rows
    usual = shares[train][bought[train]].mean(axis=0)
    into[0][test] = bought[test] * np.square(shares[test] - expected.mix.to_numpy()).sum(axis=1)
    into[1][test] = bought[test] * np.square(shares[test] - usual).sum(axis=1)


def _ratio_interval(errors: np.ndarray, spreads: np.ndarray, *, rng: np.random.Generator) -> tuple[float, float, float]:
    counts = rng.multinomial(len(errors), np.full(len(errors), 1 / len(errors)), size=400)
    drawn = 1 - (counts @ errors) / np.maximum(counts @ spreads, 1e-12)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(1 - errors.sum() / max(spreads.sum(), 1e-12)), float(low), float(high)
