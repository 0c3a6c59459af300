"""Side by side: what one would take the same customers for by who they are, and by the segment they are in."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from segkit.actions.signals import told_weights
from segkit.customers.features import Signals
from segkit.customers.tastes import mix_shares
from segkit.customers.terms import most_common
from segkit.small_groups import FLOOR
from segkit.stats import Z95, proportion_interval, rank_groups

LABELS = {"ours": "micro-segment", "demographic": "who they are"}
FEWEST = 2 * FLOOR  # customers who are known; half of them teach, half of them are read
TERMS = 100  # most common things; each customer's need is the one they over-buy most
PARTS = 3  # of spend: low, middle, high
READINGS = {"need": "what they over-buy most", "spend": "spend: low, middle or high"}
COLUMNS = [
    *("grouping", "label", "reading", "words", "groups", "distinct_readings", "customers"),
    *("wrong", "wrong_low", "wrong_high", "chance", "fewer_wrong", "fewer_low", "fewer_high"),
]


def read_by(
    signals: Signals, segment: pd.Series, groups: Mapping[str, pd.Series], *, needs: pd.DataFrame | None, seed: int = 7
) -> pd.DataFrame:
    """How often a customer is read wrong when the persona of their group is taken for them.

    The reading of a group is what is most frequent in it among half of the customers; the other half is read.

    Takes  signals; segment and groups ("demographic") by customer_id: those without a group are left out of both;
           needs: shares by customer_id, as `needs.need_shares` gives them, or None for the things themselves
    Gives  a row for each grouping and reading: wrong (share read wrong, 95 %), chance (the share wrong when everyone
           gets the most frequent reading), distinct_readings (different readings among the groups), and of the groups
           fewer_wrong (how much less often the segment is wrong, in pairs, 95 %)
    """
    group = groups.get("demographic")
    if group is None:
        return pd.DataFrame(columns=COLUMNS)
    index = signals.features.index
    has_group = group.reindex(index).notna().to_numpy()
    if has_group.sum() < FEWEST:
        return pd.DataFrame(columns=COLUMNS)
    ours, theirs = segment.reindex(index).to_numpy()[has_group], group.reindex(index).astype(str).to_numpy()[has_group]
    rows = []
    for reading, truth in _truths(signals, needs=needs).items():
        truth = truth[has_group]
        has_target = truth != ""
        teach = np.random.default_rng([seed, 53]).permutation(has_target.sum()) % 2 == 0
        own = _one("ours", reading, ours[has_target], truth[has_target], train=teach)
        other = _one("demographic", reading, theirs[has_target], truth[has_target], train=teach)
        rows += [own[0], {**other[0], **_lead(other[1].astype(float) - own[1])}]
    return pd.DataFrame(rows).reindex(columns=COLUMNS).round(9)


def _truths(signals: Signals, *, needs: pd.DataFrame | None) -> dict[str, np.ndarray]:
    """What is to be read of each customer; "" where nothing is there to read."""
    found = {}
    if needs is not None:
        found["need"] = _main(needs.to_numpy(), np.array([n.removeprefix("needs: ") for n in needs]))
    elif signals.weights is not None:
        weights, names, _words = told_weights(signals)
        terms = most_common(weights, names, max_terms=TERMS, min_buyers=20)
        if len(terms) > 1:
            found["need"] = _main(mix_shares(weights, names, terms=terms)[0], np.array(terms))
    if "spend" in signals.features:
        found["spend"] = np.array(["low", "middle", "high"])[rank_groups(signals.features["spend"], parts=PARTS)]
    return found


def _main(shares: np.ndarray, names: np.ndarray) -> np.ndarray:
    """The thing each customer has most of, against what is usual of it."""
    spread = shares.std(axis=0)
    over = np.round((shares - shares.mean(axis=0)) / np.where(spread > 0, spread, 1.0), 9)
    return np.where(shares.sum(axis=1) > 0, names[over.argmax(axis=1)], "")


def _one(
    grouping: str, target_name: str, group: np.ndarray, target: np.ndarray, *, train: np.ndarray
) -> tuple[dict[str, object], np.ndarray]:
    """How one grouping reads, and for each customer read whether it was wrong."""
    taught = pd.DataFrame({"group": group[train], "truth": target[train]})
    usual = _mode(taught["truth"])
    predicted_by_group = taught.groupby("group")["truth"].agg(_mode)
    read = pd.Series(group[~train]).map(predicted_by_group).fillna(usual).to_numpy()
    wrong = read != target[~train]
    share, low, high = proportion_interval(int(wrong.sum()), len(wrong))
    row = {"grouping": grouping, "label": LABELS[grouping], "reading": target_name, "words": READINGS[target_name]}
    row |= {
        "groups": len(predicted_by_group),
        "distinct_readings": predicted_by_group.nunique(),
        "customers": len(wrong),
    }
    row |= {"wrong": share, "wrong_low": low, "wrong_high": high, "chance": float((target[~train] != usual).mean())}
    return row, wrong


def _mode(values: pd.Series) -> str:
    """The most frequent value; of equally frequent ones the first by name."""
    counts = values.value_counts()
    return str(min(counts.index[counts == counts.max()]))


def _lead(difference: np.ndarray) -> dict[str, float]:
    middle, half = difference.mean(), Z95 * difference.std(ddof=1) / np.sqrt(len(difference))
    return {"fewer_wrong": float(middle), "fewer_low": float(middle - half), "fewer_high": float(middle + half)}
