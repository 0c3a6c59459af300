"""Predict what customers do next with a linear map, learnt one horizon back, and measure its accuracy.

The axes of the space are the two halves of a segment: how much (the first axis: expected spend) and what for (an axis
a need: how far its expected share lies above the average).
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from segkit.customers.category_mix import learn_mix_basis, mix_features
from segkit.customers.features import Bought, CustomerData, Outcomes, are_one_time
from segkit.customers.needs import Needs, need_amounts
from segkit.errors import SchemaError
from segkit.stats import Estimate, ridge
from segkit.vocabulary import block_of, is_in_space, is_skewed

MIN_BUYERS = 80  # customers who bought; with fewer, shares of needs are not learnt
HABITS = 4  # directions of how customers shop, where there are no needs
VALUE_BLOCKS = ("rfm", "lifecycle")  # features that say how much, not how
CLIP = 5.0  # standard deviations; a single giant customer must not bend the map
DECIMALS = 9
ROWS_AT_ONCE = 200_000  # customers
FOLDS = 5
ACCURACY_LABELS = {
    "spend": "how much they spend",
    "orders": "how often they order",
    "active_days": "how often they come",
    "need": "what they come for",
}
OUTCOME_LABELS = {"spend": "spend", "orders": "orders", "active_days": "active days"}
ACCURACY_COLUMNS = {"name": object, "outcome": object, "r2": float, "low": float, "high": float}


@dataclass(frozen=True)
class Space:
    """Hold the linear map from features to expected outcomes, and from these to axes.

    Its parts act on clipped z-scores of features, on log(1 + amount), and on square-root shares of terms. ``needs``
    are ids; without any, the axes after the first are habits, each in both directions. ``outcome_names`` is empty where
    history was too short to predict.
    """

    features: tuple[str, ...]
    mean: np.ndarray
    scale: np.ndarray
    terms: tuple[str, ...]
    words: bool
    needs: tuple[str, ...]
    outcome_names: tuple[str, ...]
    behaviour_outcomes: np.ndarray  # features x (values + needs)
    log_outcomes: np.ndarray  # terms x (values + needs)
    share_outcomes: np.ndarray  # terms x (values + needs)
    constant_outcomes: np.ndarray
    rotation: np.ndarray  # (values + needs) x axes
    centre: np.ndarray


@dataclass(frozen=True)
class Anticipation:
    """Hold what is expected of customers next.

    ``axes``: coordinates in the space; ``outcomes``: expected log(1 + amount); ``needs``: expected square-root shares.
    """

    axes: pd.DataFrame
    outcomes: pd.DataFrame
    needs: pd.DataFrame


def learn_space(then: CustomerData, outcomes: Outcomes, *, needs: Needs | None = None, seed: int = 7) -> Space:
    """Learn how customers one horizon ago predict what they did since.

    Parameters
    ----------
    then
        Customers at ``as_of`` - horizon.
    outcomes
        What they did in the horizon, in the same order. Needs of one-time buyers are those of what they bought before.
    needs
        Needs learnt before ``as_of``; None where there are none, and the axes are habits.
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
    shown = then if are_one_time(then.features) else outcomes  # one-time buyers show needs once
    need_map, need_constant = _need_map(np.hstack(parts), shown.things, needs=needs)
    ids = () if needs is None or not need_map.shape[1] else needs.ids
    if not ids:
        need_map, need_constant = _habit_map(behaviour, list(features.columns), width=sum(p.shape[1] for p in parts))
    maps = _split_by_part(value_map, need_map, sizes=[part.shape[1] for part in parts])
    constant = np.hstack([value_constant, need_constant])
    expected = sum(part @ each for part, each in zip(parts, maps, strict=True)) + constant
    return Space(
        features=tuple(features.columns),
        mean=mean,
        scale=scale,
        terms=basis.terms,
        words=basis.words,
        needs=ids,
        outcome_names=tuple(names),
        behaviour_outcomes=maps[0],
        log_outcomes=basis.logs @ maps[1],
        share_outcomes=basis.shares @ maps[2],
        constant_outcomes=constant,
        rotation=_rotation(expected, n_values=len(names)),
        centre=expected.mean(axis=0),
    )


def balanced_space(now: CustomerData, *, needs: Needs | None = None, seed: int = 7) -> Space:
    """Build a space from what customers did in the lookback, where history is too short to learn from.

    The axes are the same, of what customers did instead of what they are expected to do; it predicts no outcome.
    """
    totals = pd.DataFrame({n: now.features[n] for n in ("spend", "orders", "active_days") if n in now.features})
    if totals.empty:
        totals["active_days"] = 1.0
    own = Outcomes(totals, now.weights, now.categories, now.item_weights, now.items)
    return replace(learn_space(now, own, needs=needs, seed=seed), outcome_names=())


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
    index, n_outcomes, n_needs = features.index, len(space.outcome_names), len(space.needs)
    names = [f"axis_{i + 1}" for i in range(axes.shape[1])]
    shares = expected[:, expected.shape[1] - n_needs :]
    return Anticipation(
        axes=pd.DataFrame(axes, index=index, columns=names).round(DECIMALS),
        outcomes=pd.DataFrame(expected[:, :n_outcomes], index=index, columns=list(space.outcome_names)).round(DECIMALS),
        needs=pd.DataFrame(shares, index=index, columns=list(space.needs)).round(DECIMALS),
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


def _need_map(design: np.ndarray, things: Bought, *, needs: Needs | None) -> tuple[np.ndarray, np.ndarray]:
    """Learn the square-root shares of the needs, from customers who bought any of their things."""
    nothing = np.zeros((design.shape[1], 0)), np.zeros(0)
    if needs is None or things[0] is None:
        return nothing
    shares, bought = root_shares(need_amounts(needs, things))
    return ridge(design[bought], shares[bought]) if bought.sum() >= MIN_BUYERS else nothing


def root_shares(amounts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return square roots of each row's shares (Hellinger), and a flag of the rows that have any."""
    total = amounts.sum(axis=1)
    bought = total > 0
    return np.sqrt(amounts / np.where(bought, total, 1.0)[:, None]), bought


def _habit_map(behaviour: np.ndarray, names: list[str], *, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the main directions of how customers shop, each in both directions, as a map of ``width`` rows."""
    from sklearn.decomposition import PCA

    style = np.flatnonzero([block_of(name) not in VALUE_BLOCKS for name in names])
    style = style if len(style) else np.arange(len(names))
    count = min(HABITS, len(style), len(behaviour))
    with np.errstate(invalid="ignore"):  # customers all alike have no variance to share out
        loadings = PCA(count, svd_solver="full", random_state=0).fit(behaviour[:, style]).components_.T
    largest = np.abs(loadings).argmax(axis=0)
    loadings = loadings * np.where(loadings[largest, np.arange(count)] < 0, -1.0, 1.0)
    both = np.zeros((width, 2 * count))
    both[style, ::2], both[style, 1::2] = loadings, -loadings
    return both, np.zeros(2 * count)


def _split_by_part(value_map: np.ndarray, need_map: np.ndarray, *, sizes: list[int]) -> list[np.ndarray]:
    """Join both maps and split them into behaviour, logs and shares; shares do not predict values."""
    unused = np.zeros((sizes[2], value_map.shape[1]))
    joined = np.hstack([np.vstack([value_map, unused]), need_map])
    return np.split(joined, np.cumsum(sizes)[:2])


def _rotation(expected: np.ndarray, *, n_values: int) -> np.ndarray:
    """Return the map to axes: the first value in standard deviations, and needs scaled to the same variance in all."""
    spread = expected[:, 0].std()
    variance = expected[:, n_values:].var(axis=0).sum()
    rotation = np.zeros((expected.shape[1], 1 + expected.shape[1] - n_values))
    rotation[0, 0] = 1.0 / spread if spread > 0 else 1.0
    rotation[n_values:, 1:] = np.eye(rotation.shape[1] - 1) / (np.sqrt(variance) if variance > 0 else 1.0)
    return rotation


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
    then: CustomerData | None,
    outcomes: Outcomes | None,
    *,
    needs: Needs | None = None,
    folds: int = FOLDS,
    seed: int = 7,
) -> pd.DataFrame:
    """Measure how well each outcome can be predicted, on customers the map was not learnt from.

    Parameters
    ----------
    then, outcomes
        As for ``learn_space``; None where history is too short.
    needs
        As for ``learn_space``.
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
    errors = {name: np.zeros(len(fold)) for name in [*names, "need"]}
    spreads = {name: np.zeros(len(fold)) for name in [*names, "need"]}
    for k in range(folds):
        train, test = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
        space = learn_space(then.select(train), outcomes.select(train), needs=needs, seed=seed)
        expected = anticipate(space, then.select(test))
        for i, name in enumerate(names):
            errors[name][test] = (values[test, i] - expected.outcomes[name]) ** 2
            spreads[name][test] = (values[test, i] - values[train, i].mean()) ** 2
        _need_errors(needs, outcomes, expected, rows=(train, test), into=(errors["need"], spreads["need"]))
    scored = [*names, "need"] if spreads["need"].any() else names
    scores = [(name, ACCURACY_LABELS[name], *_ratio_interval(errors[name], spreads[name], rng=rng)) for name in scored]
    return pd.DataFrame(scores, columns=list(ACCURACY_COLUMNS)).astype(ACCURACY_COLUMNS)


def forecast_accuracy_metrics(table: pd.DataFrame) -> dict[str, float]:
    """Return the metrics ``predictability.spend_r2`` and so on, with ``.low`` and ``.high``."""
    metrics: dict[str, float] = {}
    for row in table.to_dict("records"):
        metrics |= Estimate(row["r2"], row["low"], row["high"]).metrics(f"predictability.{row['name']}_r2")
    return metrics


def describe_axes(expected: Anticipation, *, names: dict[str, str]) -> pd.DataFrame:
    """List the axes: how much, and each need (its name by id).

    Returns
    -------
    pd.DataFrame
        axis, name, share (of the variance of the axes).
    """
    variance = expected.axes.var()
    value = OUTCOME_LABELS.get(expected.outcomes.columns[0]) if len(expected.outcomes.columns) else None
    labels = [f"how much: expected {value}" if value else "how much"]
    labels += [names.get(need, need) for need in expected.needs] or ["a habit"] * (len(variance) - 1)
    axes = [axis.replace("_", " ") for axis in expected.axes]
    return pd.DataFrame({"axis": axes, "name": labels, "share": (variance / variance.sum()).to_numpy()})


def map_colours(expected: Anticipation, now: CustomerData, *, names: dict[str, str]) -> pd.DataFrame:
    """Choose what the small maps are coloured by.

    Returns
    -------
    pd.DataFrame
        By customer_id: likely spend (or activity); leading need (the one furthest above its usual share); and the trend
        of activity.
    """
    columns = {}
    if len(expected.outcomes.columns):
        name = expected.outcomes.columns[0]
        columns[f"likely {OUTCOME_LABELS[name]}"] = np.expm1(expected.outcomes[name]).clip(lower=1.0)
    if len(expected.needs.columns) > 1:
        columns["leading need"] = leading_need(expected).map(names)
    if "activity_trend" in now.features:
        columns["activity: falling (−1) to rising (1)"] = now.features["activity_trend"]
    return pd.DataFrame(columns)


def leading_need(expected: Anticipation) -> pd.Series:
    """Return the id of the need whose expected share lies furthest above the average, by customer_id."""
    return (expected.needs - expected.needs.mean()).idxmax(axis=1)


def _need_errors(
    needs: Needs | None,
    outcomes: Outcomes,
    expected: Anticipation,
    *,
    rows: tuple[np.ndarray, np.ndarray],
    into: tuple[np.ndarray, np.ndarray],
) -> None:
    """Fill in squared errors and deviations of the shares of needs, summed over needs, of customers who bought."""
    if needs is None or outcomes.things[0] is None or not len(expected.needs.columns):
        return
    shares, bought = root_shares(need_amounts(needs, outcomes.things))
    train, test = rows
    usual = shares[train][bought[train]].mean(axis=0)
    into[0][test] = bought[test] * np.square(shares[test] - expected.needs.to_numpy()).sum(axis=1)
    into[1][test] = bought[test] * np.square(shares[test] - usual).sum(axis=1)


def _ratio_interval(errors: np.ndarray, spreads: np.ndarray, *, rng: np.random.Generator) -> tuple[float, float, float]:
    """Return an out-of-fold R2 with its 95 % interval, from resampled customers."""
    counts = rng.multinomial(len(errors), np.full(len(errors), 1 / len(errors)), size=400)
    drawn = 1 - (counts @ errors) / np.maximum(counts @ spreads, 1e-12)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(1 - errors.sum() / max(spreads.sum(), 1e-12)), float(low), float(high)
