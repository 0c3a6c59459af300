"""The rivals: the segmentations that everyone could have had from the same data on the same date."""

from collections.abc import Mapping
from datetime import date

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans

from segkit.customers.features import Signals
from segkit.data.store import Run
from segkit.segments.ledger import standing_segments
from segkit.segments.place import model_from
from segkit.stats import rank_groups
from segkit.vocabulary import is_in_space

LABELS = {
    "ours": "micro-segments",
    "as_today": "the same, as many as today",
    "rfm11": "RFM, its 11 usual names",
    "rfm25": "recency x frequency (5 x 5)",
    "rfm125": "RFM (5 x 5 x 5)",
    "kmeans": "KMeans on behaviour",
    "kmeans_space": "KMeans in the same space",
    "demographic": "demographics (KMeans on the known)",
    "geographic": "geography",
    "survey": "survey answers (KMeans)",
    "current_segment": "the segments used today",
    "last_run": "the segments of the last run",
}
RFM_NAMES = (  # by fifth of recency (rows: longest ago first) and of frequency (columns: rarest first)
    ("Lost", "Lost", "At Risk", "At Risk", "Can't Lose Them"),
    ("Hibernating", "Hibernating", "At Risk", "At Risk", "Can't Lose Them"),
    ("About to Sleep", "About to Sleep", "Need Attention", "Loyal", "Loyal"),
    ("Promising", "Potential Loyalist", "Potential Loyalist", "Loyal", "Loyal"),
    ("New Customers", "Potential Loyalist", "Potential Loyalist", "Champions", "Champions"),
)
FIFTHS = 5  # of recency, frequency and money
GROUPED = ("demographic", "geographic", "survey")
MOST_GROUPS = 12  # of customers by what is known of them


def rivals(now: Signals, *, axes: pd.DataFrame, count: int, seed: int = 7) -> dict[str, np.ndarray]:
    """The segmentations that everyone could have had from the same data at the same date.

    Takes  now: signals; axes: coordinates of the same customers; count: of segments, for KMeans
    Gives  name -> group of each customer, in the order of `now`
    """
    f = now.features
    recent, often = _recent_and_often(f)
    found = {"rfm11": rfm_names(f), "rfm25": recent * FIFTHS + often}
    if "spend" in f:
        found["rfm125"] = found["rfm25"] * FIFTHS + rank_groups(f["spend"], parts=FIFTHS)
    behaviour = f[[name for name in f.columns if is_in_space(name)]]
    scaled = np.log1p(behaviour.clip(lower=0)).to_numpy()
    spread = scaled.std(axis=0)
    scaled = (scaled - scaled.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    found["kmeans"] = KMeans(count, n_init=5, random_state=seed).fit_predict(scaled)
    found["kmeans_space"] = KMeans(count, n_init=5, random_state=seed).fit_predict(axes.to_numpy())
    return found


def rfm_names(features: pd.DataFrame) -> np.ndarray:
    """The usual name of each customer's cell of recency and frequency, as most tools print it; needs no money.

    Takes  features with recency_days, and orders or active_days
    Gives  one of eleven names for each customer, in order; equal values get equal scores, so some may be empty
    """
    recent, often = _recent_and_often(features)
    return np.array(RFM_NAMES, dtype=object)[recent, often]


def last_run(previous: Run | None, then: Signals | None) -> dict[str, pd.Series]:
    """The segments of the run before as a rival: its model as it stands, applied to customers one horizon ago.

    Takes  previous: a finished run, or None; then: signals at the origin of the backtest, or None
    Gives  last_run -> group by customer_id; nothing where there is no such run
    """
    if previous is None or then is None:
        return {}
    return {"last_run": standing_segments(model_from(*previous.load_model()), then)}


def last_run_label(previous: Run | None, *, origin: date) -> dict[str, str]:
    """A label that says when the run before was made, and how much it had seen of the days it is judged on."""
    if previous is None:
        return {}
    made = previous.period.as_of
    seen = max(0, (made - origin).days)
    saw = f", which saw {seen} of the days judged" if seen else ""
    return {"last_run": f"the run of {made.isoformat()}{saw}"}


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
    filled = table.dropna(how="all")
    if len(filled.columns) == 1 and filled.iloc[:, 0].nunique() <= MOST_GROUPS:
        return filled.iloc[:, 0].astype(object)
    text = filled.select_dtypes(exclude="number").astype(object).fillna("unknown").astype(str)
    numeric = filled.select_dtypes(include="number")
    parts = [pd.get_dummies(text, dtype=float)] if len(text.columns) else []
    if len(numeric.columns):
        spread = numeric.std().replace(0, 1.0)
        parts.append(((numeric - numeric.mean()) / spread).fillna(0.0).astype(float))
    joined = pd.concat(parts, axis=1).to_numpy()
    count = min(MOST_GROUPS, len(np.unique(joined, axis=0)))
    return pd.Series(KMeans(count, n_init=5, random_state=seed).fit_predict(joined), index=filled.index, dtype=object)


def _recent_and_often(features: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Fifths of recency (4: just now) and of frequency (4: most often): orders, or active days where there are none."""
    often = features["orders"] if "orders" in features else features["active_days"]
    return rank_groups(-features["recency_days"], parts=FIFTHS), rank_groups(often, parts=FIFTHS)
