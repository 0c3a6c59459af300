"""Hand-made tables that several tests of this folder share."""

import pandas as pd

from segkit.personas.traits import FAVOURITE_COLUMNS

ACTIVITY_LEVELS = ("often", "steady", "seldom", "fading")


def needs_of(**terms: list[str]) -> pd.DataFrame:
    """Needs of segments, strongest first."""
    rows = [
        (s, term, 1.0, 0.8, 1.2, 0.3 - i / 100, 0.1, 0.9 - i / 10)
        for s, names in terms.items()
        for i, term in enumerate(names)
    ]
    return pd.DataFrame(rows, columns=FAVOURITE_COLUMNS)


def members_of(segments: pd.DataFrame) -> tuple[pd.DataFrame, pd.Series]:
    """Features of the customers of the segments, which differ by segment, and the segment of each."""
    segment = segments["segment"].repeat(segments["customers"]).reset_index(drop=True)
    segment.index = pd.Index([f"c{i:03d}" for i in range(len(segment))], name="customer_id")
    at = segment.map({s: i for i, s in enumerate(segments["segment"])}).astype(float)
    features = pd.DataFrame(
        {"orders": 4 + at, "gap_days": 9.5 + 3 * at, "order_value": 20 + 7 * at}, index=segment.index
    )
    features = features.assign(lines_per_order=3 + at, weekend_share=0.2 + 0.1 * at, active_days=4 + at)
    return features.assign(stage_active=0.8, stage_cooling=0.1, stage_lapsed=0.06, stage_new=0.04), segment
