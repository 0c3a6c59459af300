"""What the map of a page may know: where customers stand, their segment, and means of neighbourhoods of twenty or more.

A page travels further than a table, so no value of a single customer is in it. The plane is cut into neighbourhoods;
whoever circles customers reads the means of the neighbourhoods they stand in.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from segkit.small_groups import FLOOR
from segkit.vocabulary import describe

MOST_NEIGHBOURHOODS = 800  # on a page: more would weigh more and say no more
MOST_POINTS = 20_000  # drawn; beyond that a sample
LEAST_OF_A_SEGMENT = 60  # points of it in a sample, where it has so many
FIGURES = 4  # that count in a mean: the rest is weight
TOLD = {  # features a circle is told by: words and form
    "spend": ("spent lately, each", "number"),
    "orders": ("orders lately, each", "number"),
    "order_value": ("spent on an order", "number"),
    "recency_days": ("days since they last came", "number"),
    "discount_share": ("of the price saved by discounts", "share"),
}
NEEDS = "needs: "  # begin of the features that are shares of a need


@dataclass(frozen=True)
class Profile:
    """What a circle is told by.

    Parameters
    ----------
    columns : words, form ("share" or "number") and kind ("habit" or "need") of each
    means : a row for each neighbourhood, a column for each of `columns`; everyone : the same of all customers
    neighbourhood : of each customer, by customer_id
    """

    columns: tuple[dict[str, str], ...]
    means: np.ndarray
    everyone: np.ndarray
    neighbourhood: pd.Series


def map_profile(
    assignments: pd.DataFrame,
    features: pd.DataFrame,
    *,
    expected: pd.Series | None = None,
    horizon_days: int | None = None,
) -> Profile:
    """Means of what customers did and are expected to do, by neighbourhood of the map.

    Takes  assignments (customer_id, x, y); features with a row for each of them, by customer_id as index or column
    Gives  Profile; without columns where there are fewer than twenty customers

    Parameters
    ----------
    expected : what each is expected to spend in the next horizon, by customer_id
    """
    index = pd.Index(assignments["customer_id"])
    plane = assignments[["x", "y"]].to_numpy(dtype=float)
    keyed = features.set_index("customer_id") if "customer_id" in features.columns else features
    values, columns = _told(keyed.reindex(index), expected, horizon_days=horizon_days)
    if len(index) < FLOOR:
        values, columns = values.iloc[:, :0], ()
    least = max(FLOOR, -(-len(index) // MOST_NEIGHBOURHOODS))
    number = neighbourhoods(plane, least=least)
    return Profile(
        columns=columns,
        means=_rounded(values.groupby(number).mean().to_numpy(dtype=float)),
        everyone=_rounded(values.mean().to_numpy(dtype=float)),
        neighbourhood=pd.Series(number, index=index),
    )


def neighbourhoods(plane: np.ndarray, *, least: int = FLOOR) -> np.ndarray:
    """The number of the neighbourhood of each point: halves of halves, cut at the middle of the longer side.

    It is the partition of a k-d tree (Bentley 1975).

    Takes  points (n x 2)
    Gives  whole numbers from 0; each neighbourhood has from `least` to twice as many points; all in one if fewer
    """
    found, number, open_parts = np.zeros(len(plane), dtype=int), 0, [np.arange(len(plane))]
    while open_parts:
        rows = open_parts.pop()
        if len(rows) < 2 * least:
            found[rows] = number
            number += 1
            continue
        longer = int(np.argmax(np.ptp(plane[rows], axis=0)))
        ordered = rows[np.argsort(plane[rows, longer], kind="stable")]
        open_parts += [ordered[: len(rows) // 2], ordered[len(rows) // 2 :]]
    return found


def sample_of(assignments: pd.DataFrame, *, most: int = MOST_POINTS, seed: int = 7) -> pd.DataFrame:
    """The customers that are drawn: all, or a sample in which small segments keep enough points to be seen.

    Takes  assignments (customer_id, segment)
    Gives  rows of assignments, in their order
    """
    if len(assignments) <= most:
        return assignments
    rng = np.random.default_rng(seed)
    shuffled = assignments.iloc[rng.permutation(len(assignments))]
    place = shuffled.groupby("segment").cumcount()
    share = most / len(assignments)
    wanted = shuffled.groupby("segment")["segment"].transform("size") * share
    return shuffled[place < np.maximum(wanted, LEAST_OF_A_SEGMENT)].sort_index()


def _told(
    features: pd.DataFrame, expected: pd.Series | None, *, horizon_days: int | None
) -> tuple[pd.DataFrame, tuple[dict[str, str], ...]]:
    """The columns a circle is told by, and how each is shown."""
    values, columns = pd.DataFrame(index=features.index), []
    if expected is not None and expected.notna().any():
        values["expected"] = expected.reindex(features.index)
        ahead = f" in the next {horizon_days} days" if horizon_days else ""
        columns.append({"words": f"expected to spend{ahead}", "form": "number", "kind": "habit"})
    for name in (name for name in TOLD if name in features):
        values[name] = features[name]
        columns.append({"words": TOLD[name][0], "form": TOLD[name][1], "kind": "habit"})
    for name in (name for name in features if str(name).startswith(NEEDS)):
        values[name] = features[name]
        columns.append({"words": describe(name).label, "form": "share", "kind": "need"})
    return values.astype(float), tuple(columns)


def _rounded(values: np.ndarray) -> np.ndarray:
    """To a few figures that count; unknown stays unknown."""
    size = np.where((values == 0) | ~np.isfinite(values), 1.0, np.abs(np.nan_to_num(values, nan=1.0)))
    scale = 10.0 ** (FIGURES - 1 - np.floor(np.log10(size)))
    return np.round(values * scale) / scale


def plain_rows(values: np.ndarray) -> list[Any]:
    """Numbers as JSON has them: unknown is null."""
    return [[None if np.isnan(value) else float(value) for value in row] for row in np.atleast_2d(values)]
