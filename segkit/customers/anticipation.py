"""Predict what customers do next with a linear map, learnt one horizon back, and measure its accuracy."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from segkit.customers.category_mix import common_terms, learn_mix_basis, mix_features, mix_shares, term_weights
from segkit.customers.features import CustomerData, Outcomes
from segkit.errors import SchemaError
from segkit.stats import Estimate, ridge
from segkit.vocabulary import block_of, is_in_space, is_skewed

MIN_AXES, MAX_AXES = 3, 16
MIN_AXIS_VARIANCE = 0.4  # of an axis in use, where the first axis of the mix alone has 1
VALUE_WEIGHT = 1.7  # of value against the mix; larger predicts spend better, the mix worse (benchmarks/README)
MIN_BUYERS = 80  # customers; with fewer, the category mix is not learnt
MIX_TERMS = 200  # categories or words whose share is predicted
CLIP = 5.0  # standard deviations; a single giant customer must not bend the map
DECIMALS = 9
ROWS_AT_ONCE = 200_000  # customers
FOLDS = 5
TERMS_PER_END = 3  # terms that describe each end of an axis
MAX_NEED_COLOURS = 7  # colours of a small map
ACCURACY_LABELS = {
    "spend": "how much they spend",
    "orders": "how often they order",
    "active_days": "how often they come",
    "mix": "what they choose",
}
OUTCOME_LABELS = {"spend": "spend", "orders": "orders", "active_days": "active days"}
ACCURACY_COLUMNS = {"name": object, "outcome": object, "r2": float, "low": float, "high": float}


@dataclass(frozen=True)
class Space:
    """Hold the linear map from features to expected outcomes, and from these to axes.

    Its parts act on clipped z-scores of features, on log(1 + amount), and on square-root shares of terms.
    """

    features: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    terms: tuple[str, ...]
    words: bool
    mix_terms: tuple[str, ...]
    outcome_names: tuple[str, ...]
    behaviour_outcomes: np.ndarray  # features x (outcomes + mix terms)
    log_outcomes: np.ndarray  # terms x (outcomes + mix terms)
    share_outcomes: np.ndarray  # terms x (outcomes + mix terms)
    constant_outcomes: np.ndarray
    rotation: np.ndarray  # (outcomes + mix terms) x axes
    centre: np.ndarray


@dataclass(frozen=True)
class Anticipation:
    """Hold what is expected of customers next.

    ``axes``: coordinates in the space; ``outcomes``: expected log(1 + amount); ``mix``: expected square-root shares.
    """

    axes: pd.DataFrame
    outcomes: pd.DataFrame
    mix: pd.DataFrame


def learn_space(
    then: CustomerData,
    outcomes: Outcomes,
    *,
    axes: int | None = None,
    value_weight: float = VALUE_WEIGHT,
    seed: int = 7,
) -> Space:
    """Learn how customers one horizon ago predict what they did since.

    Parameters
    ----------
    then
        Customers at ``as_of`` - horizon.
    outcomes
        What they did in the horizon, in the same order.
    axes
        How many; by default as many as have enough variance (a varied mix needs many).
    value_weight
        Weight of spend and orders against the mix of categories.
    seed
        The same seed gives the same space on one machine.

    Returns
    -------
    Space
        ``anticipate`` applies it to customers at any date.
    """
    features = _space_features(then.features)
    mean, scale = _moments(features)
    behaviour = _z_scores(features, mean=mean, scale=scale)
    basis = learn_mix_basis(then, seed=seed)
    logs, shares = mix_features(then, terms=basis.terms, words=basis.words)
    parts = [behaviour, logs @ basis.logs, shares @ basis.shares]
    names, values = value_outcomes(outcomes)
    value_map, value_constant = _value_map(np.hstack(parts[:2]), values)  # shares do not predict how much
    mix_terms, mix_map, mix_constant = _mix_map(np.hstack(parts), outcomes, words=basis.words)
    maps = _split_by_part(value_map, mix_map, sizes=[part.shape[1] for part in parts])
    constant = np.hstack([value_constant, mix_constant])
    expected = sum(part @ each for part, each in zip(parts, maps, strict=True)) + constant
    weights = _part_weights(expected, n_values=len(names), value_weight=value_weight)
    centre = expected.mean(axis=0)
    return Space(
        features=tuple(features.columns),
        mean=mean,
        scale=scale,
        terms=basis.terms,
        words=basis.words,
        mix_terms=tuple(mix_terms),
        outcome_names=tuple(names),
        behaviour_outcomes=maps[0],
        log_outcomes=basis.logs @ maps[1],
        share_outcomes=basis.shares @ maps[2],
        constant_outcomes=constant,
        rotation=weights[:, None] * _principal((expected - centre) * weights, axes=axes, seed=seed),
        centre=centre,
    )


def balanced_space(now: CustomerData, *, axes: int | None = None, seed: int = 7) -> Space:
    """Build a space from behaviour alone, where history is too short to learn from.

    Each block of features has the same weight, and the axes are principal axes. The space predicts no outcome and no
    mix.
    """
    features = _space_features(now.features)
    mean, scale = _moments(features)
    basis = learn_mix_basis(now, seed=seed)
    logs, _ = mix_features(now, terms=basis.terms, words=basis.words)
    blocks = pd.Series([block_of(name) for name in features.columns] + ["needs"] * basis.logs.shape[1])
    weights = (1.0 / np.sqrt(blocks.map(blocks.value_counts()))).to_numpy()
    design = np.hstack([_z_scores(features, mean=mean, scale=scale), logs @ basis.logs])
    centre, n_features = design.mean(axis=0), len(features.columns)
    return Space(
        features=tuple(features.columns),
        mean=mean,
        scale=scale,
        terms=basis.terms,
        words=basis.words,
        mix_terms=(),
        outcome_names=(),
        behaviour_outcomes=np.eye(n_features, design.shape[1]),
        log_outcomes=np.hstack([np.zeros((len(basis.terms), n_features)), basis.logs]),
        share_outcomes=np.zeros((len(basis.terms), design.shape[1])),
        constant_outcomes=np.zeros(design.shape[1]),
        rotation=weights[:, None] * _principal((design - centre) * weights, axes=axes, seed=seed),
        centre=centre,
    )


def anticipate(space: Space, customers: CustomerData) -> Anticipation:
    """Predict the outcomes and the mix of each customer, and place them on the axes.

    Parameters
    ----------
    space
        Of ``learn_space`` or ``balanced_space``.
    customers
        At any date, with every feature of the space; further columns are ignored.

    Returns
    -------
    Anticipation
        Indexed as the features.

    Raises
    ------
    SchemaError
        A feature of the space is missing, or not a finite number.
    """
    missing = sorted(set(space.features) - set(customers.features.columns))
    if missing:
        raise SchemaError(
            f"features: there is no {missing[:5]} ({len(missing)} missing), which the model was learnt from. "
            f"Use customers of the same source."
        )
    features = _space_features(customers.features[list(space.features)])
    behaviour = _z_scores(features, mean=space.mean, scale=space.scale)
    logs, shares = mix_features(customers, terms=space.terms, words=space.words)
    expected = behaviour @ space.behaviour_outcomes + logs @ space.log_outcomes + shares @ space.share_outcomes
    expected = expected + space.constant_outcomes
    axes = (expected - space.centre) @ space.rotation
    index, n_outcomes = features.index, len(space.outcome_names)
    names = [f"axis_{i + 1}" for i in range(axes.shape[1])]
    return Anticipation(
        axes=pd.DataFrame(axes, index=index, columns=names).round(DECIMALS),
        outcomes=pd.DataFrame(expected[:, :n_outcomes], index=index, columns=list(space.outcome_names)).round(DECIMALS),
        mix=pd.DataFrame(
            expected[:, n_outcomes : n_outcomes + len(space.mix_terms)], index=index, columns=list(space.mix_terms)
        ).round(DECIMALS),
    )


def coordinates(space: Space, customers: CustomerData) -> pd.DataFrame:
    """Return the axes of ``anticipate`` in batches: the mix of millions of customers would fill the memory."""
    many = range(0, len(customers.features), ROWS_AT_ONCE)
    if len(many) < 2:
        return anticipate(space, customers).axes
    rows = np.arange(len(customers.features))
    return pd.concat([anticipate(space, customers.select(rows[at : at + ROWS_AT_ONCE])).axes for at in many])


def value_outcomes(outcomes: Outcomes) -> tuple[list[str], np.ndarray]:
    """Return log(1 + spend) where there is money, log(1 + orders), else log(1 + active days), with their names."""
    totals = outcomes.totals
    names = [n for n in ("spend", "orders") if n in totals and totals[n].to_numpy().any()] or ["active_days"]
    return names, np.log1p(totals[names].clip(lower=0).to_numpy())


def _value_map(design: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return coefficients in the units of the values; the penalty is chosen on standardised values."""
    spread = values.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    middle = values.mean(axis=0)
    slopes, constants = ridge(design, (values - middle) / spread)
    return slopes * spread, constants * spread + middle


def _mix_map(design: np.ndarray, outcomes: Outcomes, *, words: bool) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Learn the square-root shares of the most common terms, from customers who bought any of them."""
    nothing = [], np.zeros((design.shape[1], 0)), np.zeros(0)
    if outcomes.weights is None:
        return nothing
    weights, names, terms = common_terms(outcomes.weights, outcomes.categories, words=words, most=MIX_TERMS)
    shares, bought = mix_shares(weights, names, terms=terms)
    if len(terms) < 2 or bought.sum() < MIN_BUYERS:
        return nothing
    return terms, *ridge(design[bought], shares[bought])


def _split_by_part(value_map: np.ndarray, mix_map: np.ndarray, *, sizes: list[int]) -> list[np.ndarray]:
    """Join both maps and split them into behaviour, logs and shares; shares do not predict values."""
    unused = np.zeros((sizes[2], value_map.shape[1]))
    joined = np.hstack([np.vstack([value_map, unused]), mix_map])
    return np.split(joined, np.cumsum(sizes)[:2])


def _part_weights(expected: np.ndarray, *, n_values: int, value_weight: float) -> np.ndarray:
    """Return the weight of each outcome: values share one, and the mix is divided by its first singular value."""
    spread = expected.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    mix = expected[:, n_values:] - expected[:, n_values:].mean(axis=0)
    first = np.linalg.norm(mix, ord=2) / np.sqrt(len(mix)) if mix.shape[1] else 1.0
    value_part = value_weight / np.sqrt(n_values) / spread[:n_values]
    return np.hstack([value_part, np.full(mix.shape[1], 1.0 / first if first > 0 else 0.0)])


def _principal(positions: np.ndarray, *, axes: int | None, seed: int) -> np.ndarray:
    """Return loadings of the principal axes (columns x axes); the largest loading of each axis is positive."""
    from sklearn.decomposition import PCA

    most = min(MAX_AXES, *positions.shape)
    fit = PCA(most, svd_solver="full", random_state=seed).fit(positions)
    n_strong = int((fit.explained_variance_ >= MIN_AXIS_VARIANCE).sum())
    n_axes = min(axes or max(n_strong, MIN_AXES), most)
    loadings = fit.components_[:n_axes].T
    largest = np.abs(loadings).argmax(axis=0)
    return loadings * np.where(loadings[largest, np.arange(n_axes)] < 0, -1.0, 1.0)


def _space_features(features: pd.DataFrame) -> pd.DataFrame:
    """Select the features of the space, and refuse values that are not finite."""
    selected = features[[name for name in features.columns if is_in_space(name)]]
    finite = np.isfinite(selected.to_numpy(dtype=float))
    if not finite.all():
        bad = sorted(selected.columns[~finite.all(axis=0)])
        rows = int((~finite).any(axis=1).sum())
        raise SchemaError(
            f"features: values that are missing or not finite in {bad} ({rows:,} of {len(selected):,} rows). "
            f"Check the amounts and quantities of the source."
        )
    return selected


def are_skewed(names: Iterable[str]) -> np.ndarray:
    """Flag the features that are read on a log scale."""
    return np.array([is_skewed(name) for name in names], dtype=bool)


def unskewed(values: np.ndarray, *, skewed: np.ndarray) -> np.ndarray:
    """Return log(1 + value) in skewed columns, where negative values count as 0."""
    return np.where(skewed, np.log1p(np.maximum(values, 0.0)), values)


def z_scores(values: np.ndarray, *, skewed: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return z-scores of unskewed values, clipped to ``CLIP`` standard deviations."""
    return np.minimum(np.maximum((unskewed(values, skewed=skewed) - mean) / scale, -CLIP), CLIP)


def _moments(features: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each unskewed feature; 1 for a constant feature."""
    values = unskewed(features.to_numpy(dtype=float), skewed=are_skewed(features.columns))
    scale = values.std(axis=0)
    return values.mean(axis=0), np.where(scale > 0, scale, 1.0)


def _z_scores(features: pd.DataFrame, *, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return the z-scores of a table of features."""
    return z_scores(features.to_numpy(dtype=float), skewed=are_skewed(features.columns), mean=mean, scale=scale)


def forecast_accuracy(
    then: CustomerData | None, outcomes: Outcomes | None, *, folds: int = FOLDS, seed: int = 7
) -> pd.DataFrame:
    """Measure how well each outcome can be predicted, on customers the map was not learnt from.

    Parameters
    ----------
    then, outcomes
        As for ``learn_space``; None where history is too short.
    folds
        Parts of the customers, each predicted from the others.
    seed
        Draws the folds and the resamplings.

    Returns
    -------
    pd.DataFrame
        name, outcome (label), r2 (out of fold: 1 - squared error / squared deviation), low, high (95 %, customers
        resampled); no rows where nothing can be learnt.
    """
    if then is None or outcomes is None:
        return pd.DataFrame({name: pd.Series(dtype=t) for name, t in ACCURACY_COLUMNS.items()})
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
    scores = [(name, ACCURACY_LABELS[name], *_ratio_interval(errors[name], spreads[name], rng=rng)) for name in scored]
    return pd.DataFrame(scores, columns=list(ACCURACY_COLUMNS)).astype(ACCURACY_COLUMNS)


def forecast_accuracy_metrics(table: pd.DataFrame) -> dict[str, float]:
    """Return the metrics ``predictability.spend_r2`` and so on, with ``.low`` and ``.high``."""
    metrics: dict[str, float] = {}
    for row in table.to_dict("records"):
        metrics |= Estimate(row["r2"], row["low"], row["high"]).metrics(f"predictability.{row['name']}_r2")
    return metrics


def describe_axes(expected: Anticipation) -> pd.DataFrame:
    """Describe each axis by what customers at its ends are expected to do.

    Returns
    -------
    pd.DataFrame
        axis, share (of the variance of the axes), high, low: the outcomes and terms that correlate most with it.
    """
    axes = expected.axes
    expectations = pd.concat([expected.outcomes.rename(columns=OUTCOME_LABELS), expected.mix], axis=1)
    variance = axes.var()
    rows = []
    for axis in axes.columns:
        follows = expectations.corrwith(axes[axis]) if len(expectations.columns) else pd.Series(dtype=float)
        ends = follows.dropna().sort_values(kind="stable")
        high, low = ends[ends > 0].index[::-1][:TERMS_PER_END], ends[ends < 0].index[:TERMS_PER_END]
        rows.append((axis.replace("_", " "), variance[axis] / variance.sum(), _join_names(high), _join_names(low)))
    return pd.DataFrame(rows, columns=["axis", "share", "high", "low"])


def map_colours(expected: Anticipation, now: CustomerData) -> pd.DataFrame:
    """Choose what the small maps are coloured by.

    Returns
    -------
    pd.DataFrame
        By customer_id: expected spend (or activity); main need (the term furthest above its usual share; rare ones are
        "other"); and the trend of activity.
    """
    columns = {}
    if len(expected.outcomes.columns):
        name = expected.outcomes.columns[0]
        columns[f"expected {OUTCOME_LABELS[name]} (log)"] = expected.outcomes[name]
    if len(expected.mix.columns) > 1:
        above = (expected.mix - expected.mix.mean()) / expected.mix.std().replace(0, np.nan)
        main = above.idxmax(axis=1)
        common = main.value_counts().index[:MAX_NEED_COLOURS]
        columns["main need"] = main.where(main.isin(common), "other").str.lower()
    if "activity_trend" in now.features:
        columns["activity lately (-1 to 1)"] = now.features["activity_trend"]
    return pd.DataFrame(columns)


def _join_names(names: pd.Index) -> str:
    """Join names in lower case."""
    return ", ".join(str(name).lower() for name in names) or "no more than others"


def _mix_errors(
    space: Space,
    outcomes: Outcomes,
    expected: Anticipation,
    *,
    rows: tuple[np.ndarray, np.ndarray],
    into: tuple[np.ndarray, np.ndarray],
) -> None:
    """Fill in squared errors and deviations of the mix, summed over terms, of customers who bought."""
    if outcomes.weights is None or not space.mix_terms:
        return
    weights, names = term_weights(outcomes.weights, list(outcomes.categories), words=space.words)
    shares, bought = mix_shares(weights, names, terms=list(space.mix_terms))
    train, test = rows
    usual = shares[train][bought[train]].mean(axis=0)
    into[0][test] = bought[test] * np.square(shares[test] - expected.mix.to_numpy()).sum(axis=1)
    into[1][test] = bought[test] * np.square(shares[test] - usual).sum(axis=1)


def _ratio_interval(errors: np.ndarray, spreads: np.ndarray, *, rng: np.random.Generator) -> tuple[float, float, float]:
    """Return an out-of-fold R2 with its 95 % interval, from resampled customers."""
    counts = rng.multinomial(len(errors), np.full(len(errors), 1 / len(errors)), size=400)
    drawn = 1 - (counts @ errors) / np.maximum(counts @ spreads, 1e-12)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(1 - errors.sum() / max(spreads.sum(), 1e-12)), float(low), float(high)
