"""The rivals: the segmentations that everyone could have had from the same data on the same date."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans

from segkit.customers.features import Signals
from segkit.vocabulary import is_in_space

LABELS = {
    "ours": "micro-segments",
    "rfm25": "recency x frequency (5 x 5)",
    "rfm125": "RFM (5 x 5 x 5)",
    "kmeans": "KMeans on behaviour",
    "kmeans_space": "KMeans in the same space",
    "demographic": "demographics (KMeans on the known)",
    "geographic": "geography",
    "survey": "survey answers (KMeans)",
    "current_segment": "the segments used today",
}
GROUPED = ("demographic", "geographic", "survey")
MOST_GROUPS = 12  # of customers by what is known of them


def rivals(now: Signals, *, axes: pd.DataFrame, count: int, seed: int = 7) -> dict[str, np.ndarray]:
    """The segmentations that everyone could have had from the same data at the same date.

    Takes  now: signals; axes: coordinates of the same customers; count: of segments, for KMeans
    Gives  name -> group of each customer, in the order of `now`
    """
    f = now.features
    often = f["orders"] if "orders" in f else f["active_days"]
    quintiles = [_quantiles(-f["recency_days"]), _quantiles(often)]
    found = {"rfm25": quintiles[0] * 5 + quintiles[1]}
    if "spend" in f:
        found["rfm125"] = found["rfm25"] * 5 + _quantiles(f["spend"])
    behaviour = f[[name for name in f.columns if is_in_space(name)]]
    scaled = np.log1p(behaviour.clip(lower=0)).to_numpy()
    spread = scaled.std(axis=0)
    scaled = (scaled - scaled.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    found["kmeans"] = KMeans(count, n_init=5, random_state=seed).fit_predict(scaled)
    found["kmeans_space"] = KMeans(count, n_init=5, random_state=seed).fit_predict(axes.to_numpy())
    return found


def known_groups(people: pd.DataFrame | None, *, roles: Mapping[str, str], seed: int = 7) -> dict[str, pd.Series]:
    """Customers grouped by what is known of them: who they are, where they live, what they answered, the segment
    used today.

    Takes  people: customer_id and columns with roles, or None
    Gives  role -> group by customer_id; missing where nothing of that role is known
    """
    if people is None:
        return {}
    table = people.set_index("customer_id")
    found = {}
    for role in GROUPED:
        columns = sorted(c for c in table.columns if roles.get(c) == role)
        if columns:
            found[role] = _clustered(table[columns], seed=seed)
    today = sorted(c for c in table.columns if roles.get(c) == "current_segment")
    if today:
        found["current_segment"] = table[today[0]].astype(object)
    return found


def _clustered(table: pd.DataFrame, *, seed: int) -> pd.Series:
    """One column is taken as it is when it has few values; several are joined by KMeans on their indicators."""
    known = table.dropna(how="all")
    if len(known.columns) == 1 and known.iloc[:, 0].nunique() <= MOST_GROUPS:
        return known.iloc[:, 0].astype(object)
    text = known.select_dtypes(exclude="number").astype(object).fillna("unknown").astype(str)
    numeric = known.select_dtypes(include="number")
    parts = [pd.get_dummies(text, dtype=float)] if len(text.columns) else []
    if len(numeric.columns):
        spread = numeric.std().replace(0, 1.0)
        parts.append(((numeric - numeric.mean()) / spread).fillna(0.0).astype(float))
    joined = pd.concat(parts, axis=1).to_numpy()
    count = min(MOST_GROUPS, len(np.unique(joined, axis=0)))
    return pd.Series(KMeans(count, n_init=5, random_state=seed).fit_predict(joined), index=known.index, dtype=object)


def _quantiles(values: pd.Series, *, parts: int = 5) -> np.ndarray:
    """Fifth of each value, 0-4: equal values get the same fifth, even if that leaves a fifth empty."""
    rank = values.rank(method="average").to_numpy() - 0.5
    return (rank * parts / len(values)).astype(int)
