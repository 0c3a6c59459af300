"""The draw: who is treated and who is held out, by lot within strata, the same whatever the order of the rows.

A stratum is a segment and a band of what its customers did before. Within it customers stand in the order of a hash of
seed, salt and id, and the first of them are treated: no generator, no state, nothing but the id decides. A draw is
never repeated until it looks balanced: that would change what the intervals mean. What chance left uneven, the read-out
adjusts for.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy import stats

BANDS = 4  # of pre-period value within a segment
FEWEST_IN_BAND = 20
TREATMENT, CONTROL = "treatment", "control"


def strata_of(segment: pd.Series, pre: pd.Series) -> pd.Series:
    """The stratum of each customer: their segment, and a band of what they did before the pilot; equal values, equal
    band.

    Takes  segment, pre: by customer_id, same index
    Gives  text such as S03/2, band 1 the lowest
    """
    found = pd.Series("", index=segment.index, name="stratum")
    for name, rows in pre.groupby(segment, sort=True):
        bands = max(1, min(BANDS, len(rows) // FEWEST_IN_BAND))
        edges = np.unique(np.quantile(rows, np.arange(1, bands) / bands, method="lower"))
        number = 1 + np.searchsorted(edges, rows.to_numpy(), side="left")
        found.loc[rows.index] = [f"{name}/{n}" for n in number]
    return found


def draw(stratum: pd.Series, *, treated_share: Mapping[str, float], seed: int, salt: str) -> pd.Series:
    """Who is treated.

    Takes  stratum: by customer_id; treated_share: segment -> share of its customers to treat
    Gives  treatment or control by customer_id, in the same order

    Parameters
    ----------
    seed : another seed draws others
    salt : what makes this draw another than the last one (its start), so that not the same customers are always held
    out
    """
    arm = pd.Series(CONTROL, index=stratum.index, name="arm", dtype=object)
    for name, rows in stratum.groupby(stratum, sort=True):
        order = sorted(rows.index, key=lambda customer: _hash(f"{seed}|{salt}|{customer}"))
        wanted = len(order) * treated_share[name.rsplit("/", 1)[0]]
        fraction = int(_hash(f"{seed}|{salt}|{name}")[:8], 16) / 16**8
        arm.loc[order[: int(np.floor(wanted + fraction))]] = TREATMENT
    return arm


def imbalance(units: pd.DataFrame, *, columns: tuple[str, ...]) -> pd.DataFrame:
    """How alike treated and control were before: standardised differences of means, beside what chance gives.

    Takes  units: segment, arm, and the columns known before
    Gives  segment, column, difference (in standard deviations), chance (95 of 100 draws leave all of them below it)
    """
    rows = []
    for segment, group in units.groupby("segment", sort=True):
        treated = group["arm"] == TREATMENT
        counts = treated.sum(), (~treated).sum()
        scale = np.sqrt(1 / counts[0] + 1 / counts[1]) if min(counts) else np.nan
        for column in columns:
            spread = group[column].std()
            gap = group.loc[treated, column].mean() - group.loc[~treated, column].mean()
            rows.append((segment, column, gap / spread if spread > 0 else 0.0, scale))
    table = pd.DataFrame(rows, columns=["segment", "column", "difference", "chance"])
    table["chance"] *= stats.norm.ppf(1 - 0.05 / (2 * max(len(table), 1)))
    return table


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
