"""Measure what each kind of data adds to the forecast of customers' next horizon, by ridge regression out of time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from segkit.customers.anticipation import CLIP, are_skewed, unskewed
from segkit.customers.category_mix import is_free_text, learn_mix_basis, mix_features
from segkit.customers.features import DECIMALS, CustomerData
from segkit.segments.fit import TrainingWindows
from segkit.segments.scoring import MEASURES, ScoringOutcomes, scoring_outcomes
from segkit.segments.validation import scoring_terms
from segkit.stats import Estimate, bootstrap_interval, ridge_from_products
from segkit.vocabulary import BLOCKS, block_of, is_in_space

ATTRIBUTE_ROLES = ("demographic", "geographic", "survey")  # roles of the customer table
MAX_VALUES = 20  # the most common values of a column; all others count as one
MIN_VALUE_CUSTOMERS = 10  # customers; a value that fewer have counts as one of the others


@dataclass(frozen=True)
class Block:
    """One kind of data at both dates (customers x columns), and who has any of it; the others are at the mean, 0."""

    then: np.ndarray
    now: np.ndarray
    has_data_then: np.ndarray
    has_data_now: np.ndarray


def block_designs(
    then: CustomerData,
    now: CustomerData,
    *,
    people: pd.DataFrame | None = None,
    roles: Mapping[str, str] | None = None,
    seed: int = 7,
) -> dict[str, Block]:
    """Build the feature matrices of each kind of data.

    Parameters
    ----------
    then, now
        Customers at two dates, with the same features.
    people
        customer_id and columns with roles, or None.
    roles
        Column -> role; demographic, geographic and survey are used.
    seed
        Seed of the directions of the category mix.

    Returns
    -------
    dict
        Block name -> Block, in the order of `vocabulary.BLOCKS`: features on the scale of the space, needs (the
        category mix), each role of `people`, and whether demographics are known; no missing or constant block.
    """
    found = _feature_blocks(then, now) | _need_block(then, now, seed=seed)
    if people is not None:
        table = people.set_index("customer_id")
        for role in ATTRIBUTE_ROLES:
            columns = sorted(c for c in table.columns if (roles or {}).get(c) == role)
            wide = _indicators(table[columns].dropna(how="all"))
            found[role] = _standardised_block(wide.reindex(then.features.index), wide.reindex(now.features.index))
    if "demographic" in found:
        demographic = found["demographic"]
        found["known"] = _standardised_block(
            *(pd.DataFrame({"known": k * 1.0}) for k in (demographic.has_data_then, demographic.has_data_now))
        )
    return {name: found[name] for name in (*BLOCKS, "known") if name in found and found[name].then.shape[1]}


def _feature_blocks(then: CustomerData, now: CustomerData) -> dict[str, Block]:
    """Group the features of the space by block; skewed ones on a log scale."""
    names: dict[str, list[str]] = {}
    for name in now.features.columns:
        if is_in_space(name):
            names.setdefault(block_of(name), []).append(name)
    first, second = (customers.features for customers in (then, now))
    skewed = first.columns[are_skewed(first.columns)]
    first, second = (
        each.assign(**dict(zip(skewed, unskewed(each[skewed].to_numpy(dtype=float), skewed=np.True_).T, strict=True)))
        for each in (first, second)
    )
    return {block: _standardised_block(first[columns], second[columns]) for block, columns in names.items()}


def _need_block(then: CustomerData, now: CustomerData, *, seed: int) -> dict[str, Block]:
    """Return shares of categories in the directions in which they vary most at the first date; amounts tell spend.

    These have a scale of their own, in which narrow directions stay narrow.
    """
    basis = learn_mix_basis(then, seed=seed)
    if not basis.terms:
        return {}
    both = (mix_features(customers, terms=basis.terms, words=basis.words)[1] for customers in (then, now))
    first, second = (shares @ basis.shares for shares in both)
    return {"needs": Block(first, second, np.ones(len(first), dtype=bool), np.ones(len(second), dtype=bool))}


def _indicators(attributes: pd.DataFrame) -> pd.DataFrame:
    """Return numbers as they are, and a 0/1 column for each common value of a text.

    Missing numbers are the mean; other and missing values of a text have columns of their own.
    """
    parts = [pd.DataFrame(index=attributes.index)]
    for name, values in attributes.items():
        if pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values):
            finite = values.astype(float).replace([np.inf, -np.inf], np.nan)
            parts.append(finite.fillna(finite.mean()).to_frame())
            continue
        text = values.astype(object).where(values.notna(), "unknown").astype(str)
        counts = text.value_counts().sort_index().sort_values(ascending=False, kind="stable")
        common = counts[counts >= MIN_VALUE_CUSTOMERS].index[:MAX_VALUES]
        parts.append(pd.get_dummies(text.where(text.isin(common), "other"), prefix=name, dtype=float))
    return pd.concat(parts, axis=1)


def _standardised_block(then: pd.DataFrame, now: pd.DataFrame) -> Block:
    """Return clipped z-scores by the mean and spread of the first date; a row without values has no data."""
    mean, spread = then.mean(), then.std(ddof=0)
    varied = spread.index[spread > 0]
    middle, width = mean[varied].to_numpy(), spread[varied].to_numpy()
    first, second = (
        np.nan_to_num(np.clip((each[varied].to_numpy(dtype=float) - middle) / width, -CLIP, CLIP))
        for each in (then, now)
    )
    return Block(first, second, then.notna().any(axis=1).to_numpy(), now.notna().any(axis=1).to_numpy())


DRAWS = 400
MIN_CUSTOMERS = 80  # customers to train on, and to score on
MIN_DIFFERENT_CUSTOMERS = 20  # customers who differ from most; where nearly all do the same, nothing can be predicted
BLOCK_LABELS = BLOCKS | {
    "needs": "needs: what they buy",
    "demographic": "demographics: who they are",
    "known": "whether demographics are known",
    "all": "all of it together",
}
ANSWERS = ("needs", "demographics", "cannot tell")


@dataclass(frozen=True)
class BlockProof:
    """Hold what each kind of data adds.

    Parameters
    ----------
    table
        Each block by measure, alone and added to all others.
    leads
        Needs less demographics by measure, on customers with demographics; no row where either is missing.
    """

    table: pd.DataFrame
    leads: pd.DataFrame


@dataclass(frozen=True)
class _BlockData:
    """One measure: training rows and outcomes, test rows and outcomes, and how often each test row counts in each draw.

    The first row of `counts` is all ones, the others are resamplings.
    """

    blocks: Mapping[str, Block]
    train_rows: np.ndarray
    train_outcomes: np.ndarray
    test_rows: np.ndarray
    test_outcomes: np.ndarray
    counts: np.ndarray


def score_blocks(
    training: TrainingWindows,
    *,
    people: pd.DataFrame | None = None,
    roles: Mapping[str, str] | None = None,
    draws: int = DRAWS,
    seed: int = 7,
) -> BlockProof | None:
    """Train on each block one horizon earlier, and score it on what customers did since.

    Parameters
    ----------
    training
        Training windows one and two horizons ago.
    people
        customer_id and columns with roles, or None.
    roles
        Column -> role; demographic, geographic and survey are used.
    draws
        Resamplings of the customers; more make the intervals more precise.
    seed
        The same seed gives the same table on one machine.

    Returns
    -------
    BlockProof or None
        None where history is too short (lookback + 2 horizons); `validation.reason_without_backtest` explains it.
    """
    data = training.earlier_fit_data()
    if data is None or data.then is None or data.outcomes is None or training.last is None:
        return None
    words = is_free_text(list(data.now.categories))
    terms = scoring_terms(data.now, words=words)
    train, test = (scoring_outcomes(each, terms=terms, words=words) for each in (data.outcomes, training.last.outcomes))
    blocks = block_designs(data.then, data.now, people=people, roles=roles, seed=seed)
    return compare_blocks(blocks, train=train, test=test, draws=draws, seed=seed)


def compare_blocks(
    blocks: Mapping[str, Block], *, train: ScoringOutcomes, test: ScoringOutcomes, draws: int = DRAWS, seed: int = 7
) -> BlockProof:
    """Score each block alone, what it adds to all others, and needs against demographics.

    Parameters
    ----------
    blocks
        Name -> Block of the same customers.
    train, test
        Outcomes after the first and after the second date.
    draws
        Resamplings of the customers; more make the intervals more precise.
    seed
        Seed of the resamplings.

    Returns
    -------
    BlockProof
        `table`: block, label, measure, customers (scored: those with data), alone_r2, alone_low, alone_high, adds,
        adds_low, adds_high (all blocks less all without it; 95 %, customers resampled in pairs, models fixed), and a
        row `all`. `leads`: measure, customers, needs_r2, demographic_r2, lead, lead_low, lead_high.
    """
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    leads: list[dict[str, object]] = []
    for measure in (m for m in MEASURES if m in train.values and m in test.values):
        test_rows, test_outcomes = test.values[measure]
        counts = np.ones((1 + draws, len(test_outcomes)))
        counts[1:] = rng.multinomial(
            len(test_outcomes), np.full(len(test_outcomes), 1 / len(test_outcomes)), size=draws
        )
        data = _BlockData(blocks, *train.values[measure], test_rows, test_outcomes, counts)
        rows += [{"measure": measure} | row for row in _block_scores(data)]
        leads += [{"measure": measure} | row for row in _needs_lead(data)]
    scores = ["alone_r2", "alone_low", "alone_high", "adds", "adds_low", "adds_high"]
    table = pd.DataFrame(rows, columns=["block", "label", "measure", "customers", *scores])
    lead_columns = ["measure", "customers", "needs_r2", "demographic_r2", "lead", "lead_low", "lead_high"]
    return BlockProof(
        table=table.astype(dict.fromkeys(scores, float)).round(DECIMALS),
        leads=pd.DataFrame(leads, columns=lead_columns).round(DECIMALS),
    )


def needs_or_demographics(proof: BlockProof | None, *, measure: str, reason: str = "") -> tuple[str, str]:
    """Decide whether needs or demographics predict the next horizon better.

    Parameters
    ----------
    proof
        The result of `score_blocks`.
    measure
        spend, mix or active.
    reason
        Why there is no proof.

    Returns
    -------
    tuple
        needs, demographics or cannot tell; and the reason if it cannot be decided, else "".
    """
    if proof is None:
        return ANSWERS[2], reason
    leads = proof.leads.set_index("measure")
    if measure not in leads.index:
        return ANSWERS[2], _reason_missing(
            set(proof.table.loc[proof.table["measure"] == measure, "block"]), measure=measure
        )
    low, high = leads.loc[measure, ["lead_low", "lead_high"]]
    if low > 0 or high < 0:
        return ANSWERS[0 if low > 0 else 1], ""
    return ANSWERS[2], "the 95 % interval of the difference holds zero"


def _reason_missing(blocks: set[str], *, measure: str) -> str:
    """Explain why needs and demographics are not compared, from the blocks that were scored."""
    if not blocks:
        return f"there is too little {measure} to judge on"
    if "needs" not in blocks:
        return "needs are not known: the source has no categories"
    return f"demographics are known of too few customers, or those are too alike in {measure}"


def block_metrics(proof: BlockProof | None, *, reason: str = "") -> dict[str, object]:
    """Return the headline numbers, flat, or the reason why there are none.

    They are blocks.needs.spend_r2 and blocks.needs.spend_adds with .low and .high, and so on;
    blocks.needs_or_demographics.mix with its .reason and lead; blocks.reason where there is no proof.
    """
    rows = [] if proof is None else proof.table.to_dict("records")
    leads = [] if proof is None else proof.leads.to_dict("records")
    metrics: dict[str, object] = {"blocks.reason": (reason or None) if proof is None else None}
    for row in rows:
        name = f"blocks.{row['block']}.{row['measure']}"
        metrics |= Estimate(row["alone_r2"], row["alone_low"], row["alone_high"]).metrics(f"{name}_r2")
        if row["block"] != "all":
            metrics |= Estimate(row["adds"], row["adds_low"], row["adds_high"]).metrics(f"{name}_adds")
    for measure in MEASURES:
        name = f"blocks.needs_or_demographics.{measure}"
        answer, why_not = needs_or_demographics(proof, measure=measure, reason=reason)
        metrics |= {name: answer, f"{name}.reason": why_not or None}
    for row in leads:
        name = f"blocks.needs_or_demographics.{row['measure']}_lead"
        metrics |= Estimate(row["lead"], row["lead_low"], row["lead_high"]).metrics(name)
    return metrics


def _block_scores(data: _BlockData) -> list[dict[str, object]]:
    """Return a row for all blocks together, and one for each block that enough customers have."""
    everyone = np.ones(len(data.test_outcomes), dtype=bool)
    if not data.blocks or not _enough(data, everyone):
        return []
    names = list(data.blocks)
    whole = _expected(data, names)
    r2, drawn = _scores(data, [whole], rows=everyone)
    rows = [{"block": "all", "label": BLOCK_LABELS["all"], "customers": len(everyone)} | _alone(r2[0], drawn[0])]
    for name, block in data.blocks.items():
        rows_with_data = block.has_data_now[data.test_rows]
        if not _enough(data, rows_with_data, of=block):
            continue
        alone = _expected(data, [name], of=block)
        without = _expected(data, [other for other in names if other != name])
        r2, drawn = _scores(data, [alone, whole, without], rows=rows_with_data)
        head = {"block": name, "label": BLOCK_LABELS[name], "customers": int(rows_with_data.sum())}
        adds = bootstrap_interval(drawn[1] - drawn[2], at=r2[1] - r2[2]).columns("adds")
        rows.append(head | _alone(r2[0], drawn[0]) | adds)
    return rows


def _needs_lead(data: _BlockData) -> list[dict[str, object]]:
    """Compare needs and demographics, trained and scored on customers with demographics; a row, or none."""
    demographic = data.blocks.get("demographic")
    if demographic is None or "needs" not in data.blocks:
        return []
    rows_with_data = demographic.has_data_now[data.test_rows]
    if not _enough(data, rows_with_data, of=demographic):
        return []
    both = [_expected(data, [name], of=demographic) for name in ("needs", "demographic")]
    r2, drawn = _scores(data, both, rows=rows_with_data)
    head = {"customers": int(rows_with_data.sum()), "needs_r2": r2[0], "demographic_r2": r2[1]}
    return [head | bootstrap_interval(drawn[0] - drawn[1], at=r2[0] - r2[1]).columns("lead")]


def _expected(data: _BlockData, names: Sequence[str], *, of: Block | None = None) -> np.ndarray:
    """Predict the test outcomes from some blocks; trained on customers who have data of the block `of`."""
    if not names:
        return np.zeros_like(data.test_outcomes)
    inside = data.train_rows if of is None else data.train_rows & of.has_data_then
    values = data.train_outcomes[inside[data.train_rows]]
    then = np.hstack([data.blocks[name].then for name in names])[inside]
    now = np.hstack([data.blocks[name].now for name in names])[data.test_rows]
    return (now - then.mean(axis=0)) @ ridge_from_products(then - then.mean(axis=0), values - values.mean(axis=0))


def _scores(data: _BlockData, expected: Sequence[np.ndarray], *, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return R2 of each prediction on some test rows, and in each resampling (predictions x draws)."""
    outcomes = data.test_outcomes[rows]
    errors = np.column_stack(
        [_squared_deviations(outcomes - each[rows]) for each in [*expected, np.zeros_like(data.test_outcomes)]]
    )
    counted = (data.counts if rows.all() else np.ascontiguousarray(data.counts[:, rows])) @ errors
    total = counted[:, -1:]
    r2 = 1 - np.divide(counted[:, :-1], total, out=np.ones_like(counted[:, :-1]), where=total > 0)
    return r2[0], r2[1:].T


def _squared_deviations(values: np.ndarray) -> np.ndarray:
    """Return the squared distance of each row from the mean of all."""
    return np.square(values - values.mean(axis=0)).sum(axis=1)


def _alone(at: float, drawn: np.ndarray) -> dict[str, float]:
    """Return the columns of a block's own score."""
    score = bootstrap_interval(drawn, at=at)
    return {"alone_r2": score.value, "alone_low": score.low, "alone_high": score.high}


def _enough(data: _BlockData, rows: np.ndarray, *, of: Block | None = None) -> bool:
    """Return whether there are enough training and test customers, and enough of them differ from most."""
    trained = data.train_outcomes if of is None else data.train_outcomes[of.has_data_then[data.train_rows]]
    return all(
        len(v) >= MIN_CUSTOMERS and _count_unusual(v) >= MIN_DIFFERENT_CUSTOMERS
        for v in (trained, data.test_outcomes[rows])
    )


def _count_unusual(values: np.ndarray) -> int:
    """Count rows that differ from the most common one."""
    return len(values) - int(np.unique(values.sum(axis=1), return_counts=True)[1].max())
