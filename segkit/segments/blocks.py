"""Measure what each kind of data adds to the segmentation."""

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
MAX_VALUES = 20  # of one column, the most common; the others are one
MIN_VALUE_CUSTOMERS = 10  # customers; a value that fewer share is one of the others


@dataclass(frozen=True)
class Block:
    """One kind of data: customers x columns at both dates, and of which customers anything of it is known; the
    others have zeros, which is the mean of the known.
    """

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
    """All that is known of customers, by kind of data.

    Takes  then, now: signals at two dates, with the same features
    Gives  block -> Block, in the order of `vocabulary.BLOCKS`: features, as the space reads them; needs: tastes; each
           role of `people`; known: whether anything demographic is. What the source lacks, and what is the same of
           all, is left out

    Parameters
    ----------
    people : customer_id and columns with roles, or None
    roles : column -> role; demographic, geographic and survey are used
    seed : of the directions of taste
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
    """The features of the space by block; skewed ones are read on a log scale."""
    names: dict[str, list[str]] = {}
    for name in now.features.columns:
        if is_in_space(name):
            names.setdefault(block_of(name), []).append(name)
    first, second = (_log_skewed(signals.features) for signals in (then, now))
    return {block: _standardised_block(first[columns], second[columns]) for block, columns in names.items()}


def _log_skewed(features: pd.DataFrame) -> pd.DataFrame:
    skewed = features.columns[are_skewed(features.columns)]
    values = unskewed(features[skewed].to_numpy(dtype=float), skewed=np.True_)
    return features.assign(**dict(zip(skewed, values.T, strict=True)))


def _need_block(then: CustomerData, now: CustomerData, *, seed: int) -> dict[str, Block]:
    """How much of each category, and its share, in the directions in which tastes vary most at the first date; these
    have a scale of their own, in which narrow directions stay narrow.
    """
    basis = learn_mix_basis(then, seed=seed)
    if not basis.terms:
        return {}
    both = (mix_features(signals, terms=basis.terms, words=basis.words) for signals in (then, now))
    first, second = (np.hstack([logs @ basis.logs, shares @ basis.shares]) for logs, shares in both)
    return {"needs": Block(first, second, np.ones(len(first), dtype=bool), np.ones(len(second), dtype=bool))}


def _indicators(attributes: pd.DataFrame) -> pd.DataFrame:
    """Numbers as they are, missing ones as the mean; of text a column of 0 and 1 for each common value, for the
    others, and for unknown.
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
    """Clipped z-scores by the mean and spread of the first date; a row is not known where it has no values."""
    mean, spread = then.mean(), then.std(ddof=0)
    varied = spread.index[spread > 0]
    first, second = (
        ((each[varied] - mean[varied]) / spread[varied]).clip(-CLIP, CLIP).fillna(0.0).to_numpy()
        for each in (then, now)
    )
    return Block(first, second, then.notna().any(axis=1).to_numpy(), now.notna().any(axis=1).to_numpy())


DRAWS = 1000
MIN_CUSTOMERS = 80  # customers to learn from, and to judge on; fewer say nothing of a block
MIN_DIFFERENT_CUSTOMERS = (
    20  # customers who did otherwise than most; where nearly all did the same, nothing can be foreseen
)
BLOCK_LABELS = BLOCKS | {
    "needs": "needs: what they buy",
    "demographic": "demographics: who they are",
    "known": "whether demographics are known",
    "all": "all of it together",
}
ANSWERS = ("needs", "demographics", "cannot tell")


@dataclass(frozen=True)
class BlockProof:
    """`table`: each block by measure, alone and added; `leads`: needs less demographics by measure, on customers of
    whom demographics are known; no row where either is lacking.
    """

    table: pd.DataFrame
    leads: pd.DataFrame


@dataclass(frozen=True)
class _BlockData:
    """One measure: who is learnt from and what they did, who is judged and what they did, and how often each of those
    counts: once, and as in each resampling.
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
    """Learn from each block what came before the origin, one horizon ago, and judge it on what came since.

    Takes  past: what was known one and two horizons ago, and what came
    Gives  BlockProof; None where history is too short (lookback + 2 horizons: `validate.history_reason` tells)

    Parameters
    ----------
    people : customer_id and columns with roles, or None
    roles : column -> role; demographic, geographic and survey are used
    draws : resamplings of the customers; more of them firm up the intervals
    seed : the same seed gives the same table on one machine
    """
    windows = training.earlier_fit_data()
    if windows is None or windows.then is None or windows.outcomes is None or training.last is None:
        return None
    since = training.last.outcomes
    words = is_free_text(list(windows.now.categories))
    terms = scoring_terms(windows.now, words=words)
    learnt, judged = (scoring_outcomes(each, terms=terms, words=words) for each in (windows.outcomes, since))
    blocks = block_designs(windows.then, windows.now, people=people, roles=roles, seed=seed)
    return compare_blocks(blocks, train=learnt, test=judged, draws=draws, seed=seed)


def compare_blocks(
    blocks: Mapping[str, Block], *, train: ScoringOutcomes, test: ScoringOutcomes, draws: int = DRAWS, seed: int = 7
) -> BlockProof:
    """Each block alone, what it adds to all the others, and needs against demographics.

    Takes  blocks: name -> Block of the same customers; learnt, judged: what came after the first and the second date
    Gives  BlockProof; table: block, label, measure, customers (judged: those of whom the block is known), alone_r2,
           alone_low, alone_high, adds, adds_low, adds_high (all less all without it; 95 %, customers resampled in
           pairs, what was learnt held fixed), and a row `all`; leads: measure, customers, needs_r2, demographic_r2,
           lead, lead_low, lead_high

    Parameters
    ----------
    draws : resamplings of the customers; more of them firm up the intervals
    seed : of the resamplings
    """
    rng = np.random.default_rng(seed)
    rows: list[dict[str, object]] = []
    leads: list[dict[str, object]] = []
    for measure in (m for m in MEASURES if m in train.values and m in test.values):
        judges, test_outcomes = test.values[measure]
        counts = np.ones((1 + draws, len(test_outcomes)))
        counts[1:] = rng.multinomial(
            len(test_outcomes), np.full(len(test_outcomes), 1 / len(test_outcomes)), size=draws
        )
        trial = _BlockData(blocks, *train.values[measure], judges, test_outcomes, counts)
        rows += [{"measure": measure} | row for row in _block_scores(trial)]
        leads += [{"measure": measure} | row for row in _needs_lead(trial)]
    scores = ["alone_r2", "alone_low", "alone_high", "adds", "adds_low", "adds_high"]
    table = pd.DataFrame(rows, columns=["block", "label", "measure", "customers", *scores])
    lead_columns = ["measure", "customers", "needs_r2", "demographic_r2", "lead", "lead_low", "lead_high"]
    return BlockProof(
        table=table.astype(dict.fromkeys(scores, float)).round(DECIMALS),
        leads=pd.DataFrame(leads, columns=lead_columns).round(DECIMALS),
    )


def needs_or_demographics(proof: BlockProof | None, *, measure: str, reason: str = "") -> tuple[str, str]:
    """What customers buy or who they are: which of the two says more of what they do next.

    Gives  needs, demographics or cannot tell; and why it cannot be told, "" where it can

    Parameters
    ----------
    measure : spend, mix or active
    reason : why there is no proof
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
    """Why needs and demographics are not compared, from the blocks that were judged."""
    if not blocks:
        return f"there is too little {measure} to judge on"
    if "needs" not in blocks:
        return "needs are not known: the source has no categories"
    return f"demographics are known of too few customers, or those are too alike in {measure}"


def block_metrics(proof: BlockProof | None, *, reason: str = "") -> dict[str, object]:
    """The headline numbers, flat: blocks.needs.spend_r2 and .low, .high; blocks.needs.spend_adds and .low, .high;
    blocks.needs_or_demographics.mix, its .reason and the lead; blocks.reason where there is no proof.
    """
    rows = [] if proof is None else proof.table.to_dict("records")
    leads = [] if proof is None else proof.leads.to_dict("records")
    figures: dict[str, object] = {"blocks.reason": (reason or None) if proof is None else None}
    for row in rows:
        name = f"blocks.{row['block']}.{row['measure']}"
        figures |= Estimate(row["alone_r2"], row["alone_low"], row["alone_high"]).metrics(f"{name}_r2")
        if row["block"] != "all":
            figures |= Estimate(row["adds"], row["adds_low"], row["adds_high"]).metrics(f"{name}_adds")
    for measure in MEASURES:
        name = f"blocks.needs_or_demographics.{measure}"
        answer, why = needs_or_demographics(proof, measure=measure, reason=reason)
        figures |= {name: answer, f"{name}.reason": why or None}
    for row in leads:
        name = f"blocks.needs_or_demographics.{row['measure']}_lead"
        figures |= Estimate(row["lead"], row["lead_low"], row["lead_high"]).metrics(name)
    return figures


def _block_scores(data: _BlockData) -> list[dict[str, object]]:
    """A row for all blocks together, and one for each of them that is known of enough customers."""
    everyone = np.ones(len(data.test_outcomes), dtype=bool)
    if not data.blocks or not _enough(data, everyone):
        return []
    names = list(data.blocks)
    whole = _expected(data, names)
    r2, drawn = _scores(data, [whole], rows=everyone)
    rows = [{"block": "all", "label": BLOCK_LABELS["all"], "customers": len(everyone)} | _alone(r2[0], drawn[0])]
    for name, block in data.blocks.items():
        among = block.has_data_now[data.test_rows]
        if not _enough(data, among, of=block):
            continue
        alone = _expected(data, [name], of=block)
        without = _expected(data, [other for other in names if other != name])
        r2, drawn = _scores(data, [alone, whole, without], rows=among)
        head = {"block": name, "label": BLOCK_LABELS[name], "customers": int(among.sum())}
        adds = bootstrap_interval(drawn[1] - drawn[2], at=r2[1] - r2[2]).columns("adds")
        rows.append(head | _alone(r2[0], drawn[0]) | adds)
    return rows


def _needs_lead(data: _BlockData) -> list[dict[str, object]]:
    """Needs less demographics, both learnt and judged on customers of whom demographics are known; a row, or none."""
    demographic = data.blocks.get("demographic")
    if demographic is None or "needs" not in data.blocks:
        return []
    among = demographic.has_data_now[data.test_rows]
    if not _enough(data, among, of=demographic):
        return []
    both = [_expected(data, [name], of=demographic) for name in ("needs", "demographic")]
    r2, drawn = _scores(data, both, rows=among)
    head = {"customers": int(among.sum()), "needs_r2": r2[0], "demographic_r2": r2[1]}
    return [head | bootstrap_interval(drawn[0] - drawn[1], at=r2[0] - r2[1]).columns("lead")]


def _expected(data: _BlockData, names: Sequence[str], *, of: Block | None = None) -> np.ndarray:
    """What is expected of those judged from some blocks; learnt on the customers of whom a block is known."""
    if not names:
        return np.zeros_like(data.test_outcomes)
    inside = data.train_rows if of is None else data.train_rows & of.has_data_then
    values = data.train_outcomes[inside[data.train_rows]]
    then = np.hstack([data.blocks[name].then for name in names])[inside]
    now = np.hstack([data.blocks[name].now for name in names])[data.test_rows]
    return (now - then.mean(axis=0)) @ ridge_from_products(then - then.mean(axis=0), values - values.mean(axis=0))


def _scores(data: _BlockData, expected: Sequence[np.ndarray], *, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """R2 of each expectation on some of those judged, and in each resampling (expectations x draws)."""
    outcomes = data.test_outcomes[rows]
    errors = np.column_stack(
        [_squared_deviations(outcomes - each[rows]) for each in [*expected, np.zeros_like(data.test_outcomes)]]
    )
    counted = (data.counts if rows.all() else np.ascontiguousarray(data.counts[:, rows])) @ errors
    total = counted[:, -1:]
    r2 = 1 - np.divide(counted[:, :-1], total, out=np.ones_like(counted[:, :-1]), where=total > 0)
    return r2[0], r2[1:].T


def _squared_deviations(values: np.ndarray) -> np.ndarray:
    """Squared distance of each row from the mean of all."""
    return np.square(values - values.mean(axis=0)).sum(axis=1)


def _alone(at: float, drawn: np.ndarray) -> dict[str, float]:
    score = bootstrap_interval(drawn, at=at)
    return {"alone_r2": score.value, "alone_low": score.low, "alone_high": score.high}


def _enough(data: _BlockData, rows: np.ndarray, *, of: Block | None = None) -> bool:
    """Whether enough customers are learnt from and judged, and enough of them did otherwise than most."""
    learnt = data.train_outcomes if of is None else data.train_outcomes[of.has_data_then[data.train_rows]]
    return all(
        len(v) >= MIN_CUSTOMERS and _count_unusual(v) >= MIN_DIFFERENT_CUSTOMERS
        for v in (learnt, data.test_outcomes[rows])
    )


def _count_unusual(values: np.ndarray) -> int:
    """Rows that are not as the most common one is."""
    return len(values) - int(np.unique(values.sum(axis=1), return_counts=True)[1].max())
