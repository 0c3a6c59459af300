"""Segments keep the names of an earlier run while these are true, and the names of a person always."""

import pandas as pd

from segkit.personas.segment_table import make_segment_table

IDS = ["S01", "S02", "S03"]


def test_a_need_that_an_analyst_names_renames_kept_segments_unless_a_person_named_them() -> None:
    people = [f"c{i}" for i in range(6)]
    made = {
        "stability": None,
        "features": pd.DataFrame({"stage_new": 0.0, "active_days": 4}, index=people),
        "segment": pd.Series(sorted(IDS * 2), index=people),
    }
    sizes = pd.DataFrame({"segment": IDS, "macro_segment": ["M1", "M1", "M2"], "customers": 2})
    needs = pd.DataFrame({"need": ["N01", "N02", None], "need_name": ["Fuel", "Fresh fruit", None]}, index=IDS)
    earlier = make_segment_table(sizes, needs=needs, names={"S03": "The rest"}, **made)
    assert earlier["name"].tolist() == ["Top: fuel", "Top: fresh fruit", "The rest"]
    assert earlier["level"].tolist() == ["Top", "Top", "Light"]
    needs["need_name"] = ["On the road", "Orchard", None]
    now = make_segment_table(sizes, needs=needs, earlier=earlier, names={"S02": "Apple lovers"}, **made)
    assert now["name"].tolist() == ["Top: on the road", "Apple lovers", "The rest"]
    assert now["need_name"].tolist()[:2] == ["On the road", "Orchard"]
