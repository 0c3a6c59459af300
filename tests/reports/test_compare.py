"""What two segments are compared by."""

import pandas as pd

from segkit.reports.compare import MOST, compared_features


def test_the_largest_differences_are_compared_and_small_segments_left_out(segments: pd.DataFrame) -> None:
    sized = segments.assign(customers=[40, 40, 5])
    features = [f"f{number:02d}" for number in range(MOST + 2)]
    rows = [
        {"segment": one, "feature": name, "words": f"{way} {name}", "unit": "share", "value": 0.25, "effect": effect}
        for at, name in enumerate(features)
        for one, way, effect in (("S01", "more", at / 10), ("S02", "less", -at / 10), ("S13", "more", 9.0))
    ]
    found = compared_features(sized, pd.DataFrame(rows))
    assert [one["words"] for one in found] == [f"More {name}" for name in features[2:]]
    assert all(set(one["values"]) == set(one["effects"]) == {"S01", "S02"} for one in found)
    assert found[0]["values"]["S01"].startswith("25")
