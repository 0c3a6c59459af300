"""What two segments differ in most, for the table of segments to show them side by side."""

from typing import Any

import pandas as pd

from segkit.format import formatter_for, is_few

MOST = 8  # features of a segment that it may be compared by


def compared_features(segments: pd.DataFrame, signals: pd.DataFrame) -> list[dict[str, Any]]:
    """Collect the features in which some segment differs most from other customers, with the value in every segment.

    Parameters
    ----------
    segments
        The table ``segments``; those of a few customers are left out.
    signals
        The table ``signals``.

    Returns
    -------
    list of dict
        ``words``; by segment id ``values`` as text and ``effects`` in standard deviations.
    """
    few = segments.loc[segments["customers"].map(is_few), "segment"]
    known = signals[~signals["segment"].isin(few)].dropna(subset=["value", "effect"])
    largest = known.loc[known["effect"].abs().sort_values(ascending=False, kind="stable").index]
    chosen = set(largest.groupby("segment").head(MOST)["feature"])
    found = []
    for _, rows in known[known["feature"].isin(chosen)].groupby("feature", sort=True):
        high = rows.loc[rows["effect"].idxmax()]  # of two names of a feature, the one for more of it
        form = formatter_for(high["unit"])
        found.append(
            {
                "words": high["words"][:1].upper() + high["words"][1:],
                "values": {s: form(value) for s, value in zip(rows["segment"], rows["value"], strict=True)},
                "effects": {s: round(float(e), 3) for s, e in zip(rows["segment"], rows["effect"], strict=True)},
            }
        )
    return found
