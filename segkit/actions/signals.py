"""Signals: what sets a segment apart from everyone else, in behaviour and in what its customers buy."""

import numpy as np
import pandas as pd
from scipy import sparse

from segkit.actions.labels import apart, phrase_weights
from segkit.customers.features import Signals
from segkit.customers.tastes import mix_shares
from segkit.customers.terms import are_free_text, most_common
from segkit.small_groups import FLOOR
from segkit.stats import Z95
from segkit.vocabulary import block_of, describe, is_skewed

FEWEST_BUYERS = FLOOR  # of a segment; a need that fewer show is not told of it
SMALL = 0.2  # standard deviations (Cohen 1988); a trait that is told is at least a small effect
TRAITS = ("needs", "demographic", "geographic", "survey")  # blocks that describe, and of which no space is made
TERMS, PHRASES = 300, 800  # most common categories, or product words, that a need may come from
WHOLE_NAME = 1.3  # how much stronger a lone word must be than a whole name to be told instead
LEAST_EFFECT = 0.2  # standard deviations (Cohen 1988: small); less is no need that anyone would notice
COLUMNS = ["segment", "feature", "words", "unit", "value", "others", "effect", "effect_low", "effect_high"]
NEED_COLUMNS = ["segment", "term", "effect", "effect_low", "effect_high", "share", "others", "buyers"]


def segment_signals(features: pd.DataFrame, segment: pd.Series) -> pd.DataFrame:
    """Each feature of each segment against everyone else.

    Takes  features; segment: id by customer_id, the same customers
    Gives  one row per segment and feature: value and others (means, in the feature's unit), effect (difference of
           means in standard deviations, on a log scale where the feature is skewed) with its 95 % interval;
           strongest first
    """
    own = segment.reindex(features.index).to_numpy()
    members = {name: own == name for name in sorted(set(segment))}
    rows = []
    for feature in features.columns:  # one by one: of millions of customers a copy of all is too much
        description, values = describe(feature), features[feature]
        read = np.log1p(values.clip(lower=0)) if is_skewed(feature) else values
        scaled = ((read - read.mean()) / (read.std() or np.nan)).fillna(0.0)
        for name, inside in members.items():
            here, there = scaled[inside], scaled[~inside]
            effect = here.mean() - there.mean()
            half = Z95 * np.sqrt(here.var() / inside.sum() + there.var() / max((~inside).sum(), 1))
            words = description.label if effect >= 0 else description.low_label
            means = values[inside].mean(), values[~inside].mean()
            rows.append((name, feature, words, description.unit, *means, effect, effect - half, effect + half))
    table = pd.DataFrame(rows, columns=COLUMNS)
    order = table.assign(size=table["effect"].abs()).sort_values(
        ["segment", "size", "feature"], ascending=[True, False, True]
    )
    return order.drop(columns="size").reset_index(drop=True).round(9)


def segment_traits(features: pd.DataFrame, segment: pd.Series, *, most: int = 2) -> pd.DataFrame:
    """What sets a segment apart beside its habits: needs (things bought together), and what is known of its members.

    Takes  features, as a run keeps them; segment: id by customer_id, the same customers
    Gives  block, and the columns of `segment_signals`: of each segment and block the traits that are surely above
           everyone else (the interval leaves zero out), by a small effect or more, and that at least twenty members
           share, strongest first; what the customer table says is compared among those of whom it is known

    Parameters
    ----------
    most : traits told of each segment and block
    """
    parts = []
    for has_value, columns in _traits(features):
        table = segment_signals(features.loc[has_value, columns], segment[has_value])
        sharing = (features.loc[has_value, columns] > 0).groupby(segment[has_value]).sum().stack()
        table["sharing"] = sharing.reindex(pd.MultiIndex.from_frame(table[["segment", "feature"]])).to_numpy()
        parts.append(table)
    table = pd.concat(parts) if parts else pd.DataFrame(columns=[*COLUMNS, "sharing"])
    table.insert(0, "block", pd.Categorical(table["feature"].map(block_of), categories=TRAITS, ordered=True))
    traits = table[(table["effect_low"] > 0) & (table["effect"] >= SMALL) & (table["sharing"] >= FLOOR)].drop(
        columns="sharing"
    )
    traits = traits.sort_values(["segment", "block", "effect", "feature"], ascending=[True, True, False, True])
    traits = traits.groupby(["segment", "block"], observed=True, sort=False).head(most)
    return traits.astype({"block": object}).reset_index(drop=True)


def _traits(features: pd.DataFrame) -> list[tuple[np.ndarray, list[str]]]:
    """Columns that belong together, and of whom they are known."""
    groups: dict[str, list[str]] = {}
    for name in features.columns:
        if block_of(name) in TRAITS:
            of = "" if block_of(name) == "needs" else name.partition(": ")[2].partition(" = ")[0]
            groups.setdefault(f"missing: {of}", []).append(name)
    everyone = pd.Series(0.0, index=features.index)
    return [((features.get(missing, everyone) == 0).to_numpy(), columns) for missing, columns in groups.items()]


def segment_needs(signals: Signals, segment: pd.Series, *, most: int = 8) -> pd.DataFrame:
    """What each segment over-buys: categories, or product words where their names are free text, by effect size.

    Takes  signals with weights; segment: id by customer_id, in the order of the signals
    Gives  segment, term, effect (difference of mean square-root shares, in standard deviations) with its 95 % interval,
           share (mean share of what members bought), others, buyers (share of members who bought it); terms with at
           least twenty buyers and an effect that is not tiny, strongest first; product words that share no word

    Parameters
    ----------
    most : terms told of each segment
    """
    if signals.weights is None:
        return pd.DataFrame(columns=NEED_COLUMNS)
    weights, names, words = told_weights(signals)
    terms = most_common(weights, names, max_terms=PHRASES if words else TERMS, min_buyers=FEWEST_BUYERS)
    shares, bought = mix_shares(weights, names, terms=terms)
    spread = shares[bought].std(axis=0)
    labels = segment.to_numpy()
    tables = []
    for name in sorted(set(labels)):
        inside, outside = bought & (labels == name), bought & (labels != name)
        if not inside.any() or not outside.any():
            continue
        effect = (shares[inside].mean(axis=0) - shares[outside].mean(axis=0)) / np.where(spread > 0, spread, 1.0)
        half = Z95 * np.sqrt(shares[inside].var(axis=0) / inside.sum() + shares[outside].var(axis=0) / outside.sum())
        half = half / np.where(spread > 0, spread, 1.0)
        bought_by = (shares[inside] > 0).sum(axis=0)
        table = pd.DataFrame({"segment": name, "term": terms, "effect": effect, "buyers": bought_by / inside.sum()})
        table["effect_low"], table["effect_high"] = effect - half, effect + half
        table["share"] = np.square(shares[inside]).mean(axis=0)
        table["others"] = np.square(shares[outside]).mean(axis=0)
        table = table[(bought_by >= FEWEST_BUYERS) & (table["effect"] >= LEAST_EFFECT) & (effect > half)]
        tables.append(_strongest(table, most=most, words=words)[NEED_COLUMNS])
    return pd.concat(tables, ignore_index=True).round(9) if tables else pd.DataFrame(columns=NEED_COLUMNS)


def told_weights(signals: Signals) -> tuple[sparse.csr_array, list[str], bool]:
    """What was bought by the terms a text may name: categories, or product words where names are free text."""
    names = list(signals.categories)
    if not are_free_text(names):
        return signals.weights, names, False
    return *phrase_weights(signals.weights, names), True


def _strongest(table: pd.DataFrame, *, most: int, words: bool) -> pd.DataFrame:
    """The strongest terms; of product words whole names go first, and no word is told twice."""
    if not words:
        return table.sort_values(["effect", "term"], ascending=[False, True]).head(most)
    whole = table["term"].str.count(" ").clip(upper=2).map({0: 1.0, 1: WHOLE_NAME, 2: WHOLE_NAME + 0.05})
    ranked = table.assign(rank=table["effect"] * whole).sort_values(["rank", "term"], ascending=[False, True])
    distinct = apart(list(ranked["term"]), most=most)
    return ranked[ranked["term"].isin(distinct)]
