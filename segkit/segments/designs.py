"""Designs: each kind of data as numbers, at the date that is learnt on and at the date that is judged, on one scale."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from segkit.customers.anticipate import CLIP, are_skewed, unskewed
from segkit.customers.features import Signals
from segkit.customers.tastes import learn_basis, tastes
from segkit.vocabulary import BLOCKS, block_of, is_in_space

ASKED = ("demographic", "geographic", "survey")  # roles of the customer table
MOST_VALUES = 20  # of one column, the most common; the others are one
RAREST = 10  # customers; a value that fewer share is one of the others


@dataclass(frozen=True)
class Block:
    """One kind of data: customers x columns at both dates, and of which customers anything of it is known; the
    others have zeros, which is the mean of the known.
    """

    then: np.ndarray
    now: np.ndarray
    has_data_then: np.ndarray
    has_data_now: np.ndarray


def designs(
    then: Signals,
    now: Signals,
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
    found = _features(then, now) | _needs(then, now, seed=seed)
    if people is not None:
        table = people.set_index("customer_id")
        for role in ASKED:
            columns = sorted(c for c in table.columns if (roles or {}).get(c) == role)
            wide = _indicators(table[columns].dropna(how="all"))
            found[role] = _block(wide.reindex(then.features.index), wide.reindex(now.features.index))
    if "demographic" in found:
        demographic = found["demographic"]
        found["known"] = _block(
            *(pd.DataFrame({"known": k * 1.0}) for k in (demographic.has_data_then, demographic.has_data_now))
        )
    return {name: found[name] for name in (*BLOCKS, "known") if name in found and found[name].then.shape[1]}


def _features(then: Signals, now: Signals) -> dict[str, Block]:
    """The features of the space by block; skewed ones are read on a log scale."""
    names: dict[str, list[str]] = {}
    for name in now.features.columns:
        if is_in_space(name):
            names.setdefault(block_of(name), []).append(name)
    first, second = (_unskewed(signals.features) for signals in (then, now))
    return {block: _block(first[columns], second[columns]) for block, columns in names.items()}


def _unskewed(features: pd.DataFrame) -> pd.DataFrame:
    skewed = features.columns[are_skewed(features.columns)]
    values = unskewed(features[skewed].to_numpy(dtype=float), skewed=np.True_)
    return features.assign(**dict(zip(skewed, values.T, strict=True)))


def _needs(then: Signals, now: Signals, *, seed: int) -> dict[str, Block]:
    """How much of each category, and its share, in the directions in which tastes vary most at the first date; these
    have a scale of their own, in which narrow directions stay narrow.
    """
    basis = learn_basis(then, seed=seed)
    if not basis.terms:
        return {}
    both = (tastes(signals, terms=basis.terms, words=basis.words) for signals in (then, now))
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
        common = counts[counts >= RAREST].index[:MOST_VALUES]
        parts.append(pd.get_dummies(text.where(text.isin(common), "other"), prefix=name, dtype=float))
    return pd.concat(parts, axis=1)


def _block(then: pd.DataFrame, now: pd.DataFrame) -> Block:
    """Clipped z-scores by the mean and spread of the first date; a row is not known where it has no values."""
    mean, spread = then.mean(), then.std(ddof=0)
    varied = spread.index[spread > 0]
    first, second = (
        ((each[varied] - mean[varied]) / spread[varied]).clip(-CLIP, CLIP).fillna(0.0).to_numpy()
        for each in (then, now)
    )
    return Block(first, second, then.notna().any(axis=1).to_numpy(), now.notna().any(axis=1).to_numpy())
