"""Learn, one horizon back, what customers do next, and describe customers by it."""

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
MIN_AXIS_VARIANCE = (
    0.4  # an axis with less variance than this, where the first axis of the mix alone has one, is left out
)
VALUE_WEIGHT = 1.7  # of how much and how often against of what; larger buys spend, costs mix (benchmarks/README)
MIN_BUYERS = 80  # customers; fewer teach nothing about tastes
MIX_TERMS = 200  # categories or words whose share is foreseen
CLIP = 5.0  # standard deviations; one giant customer must not bend the map
DECIMALS = 9
ROWS_AT_ONCE = 200_000  # customers


@dataclass(frozen=True)
class Space:
    """The learnt map: its parts act on clipped z-scores of features, on log(1 + amount) and on square-root shares of
    terms.
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
    """`axes`: coordinates in the space; `outcomes`: expected log(1 + amount); `mix`: expected square-root shares."""

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
    """Learn what the signals of one horizon ago said about what came.

    Takes  then: signals at `as_of` - horizon; outcomes: what those customers did in the horizon, same order
    Gives  Space: apply it with `anticipate` to the signals of any date

    Parameters
    ----------
    axes : how many; by default as many as carry enough of what is foreseen (tastes in many groups need many)
    value_weight : weight of spend and orders against the mix of categories
    seed : the same seed gives the same space on one machine
    """
    features = _space_features(then.features)
    mean, scale = _moments(features)
    behaviour = _z_scores(features, mean=mean, scale=scale)
    basis = learn_mix_basis(then, seed=seed)
    logs, shares = mix_features(then, terms=basis.terms, words=basis.words)
    parts = [behaviour, logs @ basis.logs, shares @ basis.shares]
    names, values = value_outcomes(outcomes)
    value_map, value_constant = _value_map(np.hstack(parts[:2]), values)  # shares say nothing of how much
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
    """The stand-in where history is too short to learn from: behaviour, each block of features weighing the same.

    Takes  now: signals at `as_of`
    Gives  Space that foresees nothing (no outcome, no mix); its axes are the principal axes of balanced behaviour
    """
    features = _space_features(now.features)
    mean, scale = _moments(features)
    basis = learn_mix_basis(now, seed=seed)
    logs, _ = mix_features(now, terms=basis.terms, words=basis.words)
    blocks = pd.Series([block_of(name) for name in features.columns] + ["needs"] * basis.logs.shape[1])
    weights = (1.0 / np.sqrt(blocks.map(blocks.value_counts()))).to_numpy()
    design = np.hstack([_z_scores(features, mean=mean, scale=scale), logs @ basis.logs])
    centre, cut = design.mean(axis=0), len(features.columns)
    return Space(
        features=tuple(features.columns),
        mean=mean,
        scale=scale,
        terms=basis.terms,
        words=basis.words,
        mix_terms=(),
        outcome_names=(),
        behaviour_outcomes=np.eye(cut, design.shape[1]),
        log_outcomes=np.hstack([np.zeros((len(basis.terms), cut)), basis.logs]),
        share_outcomes=np.zeros((len(basis.terms), design.shape[1])),
        constant_outcomes=np.zeros(design.shape[1]),
        rotation=weights[:, None] * _principal((design - centre) * weights, axes=axes, seed=seed),
        centre=centre,
    )


def anticipate(space: Space, customers: CustomerData) -> Anticipation:
    """Say what is expected of each customer next.

    Takes  space; signals with every feature of the space (columns beyond them are ignored), any date
    Gives  Anticipation, indexed as the features: coordinates (no unit), expected log amounts, expected square-root
           shares

    Raises
    ------
    SchemaError : a feature of the space is missing, or not a number
    """
    missing = sorted(set(space.features) - set(customers.features.columns))
    if missing:
        raise SchemaError(
            f"features: there is no {missing[:5]} ({len(missing)} missing), which the model was made of. "
            f"Give signals of the same source."
        )
    features = _space_features(customers.features[list(space.features)])
    behaviour = _z_scores(features, mean=space.mean, scale=space.scale)
    logs, shares = mix_features(customers, terms=space.terms, words=space.words)
    expected = behaviour @ space.behaviour_outcomes + logs @ space.log_outcomes + shares @ space.share_outcomes
    expected = expected + space.constant_outcomes
    axes = (expected - space.centre) @ space.rotation
    index, cut, end = features.index, len(space.outcome_names), len(space.outcome_names) + len(space.mix_terms)
    names = [f"axis_{i + 1}" for i in range(axes.shape[1])]
    return Anticipation(
        axes=pd.DataFrame(axes, index=index, columns=names).round(DECIMALS),
        outcomes=pd.DataFrame(expected[:, :cut], index=index, columns=list(space.outcome_names)).round(DECIMALS),
        mix=pd.DataFrame(expected[:, cut:end], index=index, columns=list(space.mix_terms)).round(DECIMALS),
    )


def coordinates(space: Space, customers: CustomerData) -> pd.DataFrame:
    """The axes of `anticipate` alone, some customers at a time: of millions, the mix would fill the memory."""
    many = range(0, len(customers.features), ROWS_AT_ONCE)
    if len(many) < 2:
        return anticipate(space, customers).axes
    rows = np.arange(len(customers.features))
    return pd.concat([anticipate(space, customers.select(rows[at : at + ROWS_AT_ONCE])).axes for at in many])


def value_outcomes(outcomes: Outcomes) -> tuple[list[str], np.ndarray]:
    """log(1 + spend) where there is money, log(1 + orders), else log(1 + active days)."""
    totals = outcomes.totals
    names = [n for n in ("spend", "orders") if n in totals and totals[n].to_numpy().any()] or ["active_days"]
    return names, np.log1p(totals[names].clip(lower=0).to_numpy())


def _value_map(design: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients in the units of the values; the penalty is chosen on standardised ones."""
    spread = values.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    middle = values.mean(axis=0)
    slopes, constants = ridge(design, (values - middle) / spread)
    return slopes * spread, constants * spread + middle


def _mix_map(design: np.ndarray, outcomes: Outcomes, *, words: bool) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Map to square-root shares of the most common terms, learnt on customers who bought any of them."""
    nothing = [], np.zeros((design.shape[1], 0)), np.zeros(0)
    if outcomes.weights is None:
        return nothing
    weights, names, terms = common_terms(outcomes.weights, outcomes.categories, words=words, most=MIX_TERMS)
    shares, bought = mix_shares(weights, names, terms=terms)
    if len(terms) < 2 or bought.sum() < MIN_BUYERS:
        return nothing
    return terms, *ridge(design[bought], shares[bought])


def _split_by_part(value_map: np.ndarray, mix_map: np.ndarray, *, sizes: list[int]) -> list[np.ndarray]:
    """Both maps side by side, cut into behaviour, logs and shares; values take nothing from the shares."""
    unused = np.zeros((sizes[2], value_map.shape[1]))
    joined = np.hstack([np.vstack([value_map, unused]), mix_map])
    return np.split(joined, np.cumsum(sizes)[:2])


def _part_weights(expected: np.ndarray, *, n_values: int, value_weight: float) -> np.ndarray:
    """Values are standardised and share one weight; the mix is divided by its first singular value."""
    spread = expected.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    mix = expected[:, n_values:] - expected[:, n_values:].mean(axis=0)
    first = np.linalg.norm(mix, ord=2) / np.sqrt(len(mix)) if mix.shape[1] else 1.0
    value_part = value_weight / np.sqrt(n_values) / spread[:n_values]
    return np.hstack([value_part, np.full(mix.shape[1], 1.0 / first if first > 0 else 0.0)])


def _principal(points: np.ndarray, *, axes: int | None, seed: int) -> np.ndarray:
    """Loadings of the principal axes (columns x axes); each points to where its largest loading is positive."""
    from sklearn.decomposition import PCA

    most = min(MAX_AXES, *points.shape)
    fit = PCA(most, svd_solver="full", random_state=seed).fit(points)
    strong = int((fit.explained_variance_ >= MIN_AXIS_VARIANCE).sum())
    n_axes = min(axes or max(strong, MIN_AXES), most)
    loadings = fit.components_[:n_axes].T
    largest = np.abs(loadings).argmax(axis=0)
    return loadings * np.where(loadings[largest, np.arange(n_axes)] < 0, -1.0, 1.0)


def _space_features(features: pd.DataFrame) -> pd.DataFrame:
    """The features the space is made of, all of them numbers; the others describe."""
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
    """Which features are read on a log scale."""
    return np.array([is_skewed(name) for name in names], dtype=bool)


def unskewed(values: np.ndarray, *, skewed: np.ndarray) -> np.ndarray:
    """log(1 + value) in the columns that are skewed; negative values count as 0 there."""
    return np.where(skewed, np.log1p(np.maximum(values, 0.0)), values)


def z_scores(values: np.ndarray, *, skewed: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Z-scores of unskewed values, clipped to `CLIP` standard deviations."""
    return np.minimum(np.maximum((unskewed(values, skewed=skewed) - mean) / scale, -CLIP), CLIP)


def _moments(features: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    values = unskewed(features.to_numpy(dtype=float), skewed=are_skewed(features.columns))
    scale = values.std(axis=0)
    return values.mean(axis=0), np.where(scale > 0, scale, 1.0)


def _z_scores(features: pd.DataFrame, *, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return z_scores(features.to_numpy(dtype=float), skewed=are_skewed(features.columns), mean=mean, scale=scale)


FOLDS = 5
TERMS_PER_END = 3  # things told of each end of an axis
MAX_NEED_COLOURS = 7  # colours of a small map
ACCURACY_LABELS = {
    "spend": "how much they spend",
    "orders": "how often they order",
    "active_days": "how often they come",
    "mix": "what they choose",
}
OUTCOME_LABELS = {"spend": "spend", "orders": "orders", "active_days": "active days"}
ACCURACY_COLUMNS = {"name": object, "outcome": object, "r2": float, "low": float, "high": float}


def forecast_accuracy(
    then: CustomerData | None, outcomes: Outcomes | None, *, folds: int = FOLDS, seed: int = 7
) -> pd.DataFrame:
    """How much of each outcome could be foreseen, on customers the map was not learnt from.

    Takes  then, outcomes: as `learn_space`; None where history is too short
    Gives  name, outcome (words), r2 (out of fold: 1 - squared error / squared deviation), low, high (95 %, over
           customers); no row where nothing could be learnt

    Parameters
    ----------
    folds : parts of the customers, each foreseen from the others
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
    """The headline numbers: foresight.spend_r2 with .low and .high, and so on."""
    figures: dict[str, float] = {}
    for row in table.to_dict("records"):
        figures |= Estimate(row["r2"], row["low"], row["high"]).metrics(f"predictability.{row['name']}_r2")
    return figures


def describe_axes(expected: Anticipation) -> pd.DataFrame:
    """Each axis by what those at its ends are expected to do.

    Takes  what the space expects of today's customers
    Gives  axis, share (of the variance of the axes), high, low: words for the outcomes and terms whose expectation
           follows it most
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
    """What the small maps are coloured by.

    Gives  by customer_id: expected spend (or activity), main need (the term expected above its usual share most;
           rare ones are
           "other"), and how activity moved lately
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
