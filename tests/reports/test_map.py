"""The map to touch as HTML: the same bytes, no customer in it, whatever the names hold."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from segkit.reports.map import map_html, map_profile


def document(made: str) -> dict:
    return json.loads(re.search(r'<script type="application/json">(.*?)</script>', made, flags=re.DOTALL)[1])


def test_same_customers_give_the_same_bytes(assignments: pd.DataFrame, segments: pd.DataFrame) -> None:
    before = assignments.copy(), segments.copy()
    made = [map_html(rows, segments, alt="A map") for rows in (assignments, assignments.sample(frac=1, random_state=2))]
    assert document(made[0]) == document(made[1]) and made[0] == map_html(assignments, segments, alt="A map")
    pd.testing.assert_frame_equal(assignments, before[0])
    pd.testing.assert_frame_equal(segments, before[1])


def test_page_holds_no_customer(assignments: pd.DataFrame, segments: pd.DataFrame) -> None:
    many = pd.concat([assignments] * 4, ignore_index=True)
    many["customer_id"] = [f"kestrel-{number}" for number in range(len(many))]
    spend = pd.DataFrame({"customer_id": many["customer_id"], "spend": 1000 * np.arange(len(many)) + 0.125})
    profile = map_profile(many, spend)
    made = map_html(many, segments, profile=profile, alt="A map")
    assert "kestrel" not in made
    assert not [value for value in spend["spend"] if str(value) in made]
    assert len(document(made)["profile"]["means"]) == 2


def test_names_cannot_break_out(assignments: pd.DataFrame, segments: pd.DataFrame) -> None:
    evil = segments.assign(name=["</script><script>alert(1)</script>", "<img src=x onerror=alert(2)>", "שלום 🎉"])
    made = map_html(assignments, evil, alt='"><script>')
    assert made.count("<script") == 1 and "<img src=x" not in made and "שלום 🎉" in made
    names = {one["name"] for one in document(made)["segments"]}
    assert names == set(evil["name"])


def test_sample_is_reported(assignments: pd.DataFrame, segments: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("segkit.reports.map.sample_customers", lambda table: table.head(5))
    assert "5 of 12 customers are drawn." in map_html(assignments, segments, alt="A map", caption="See.")


def test_customers_on_one_spot_have_a_map(assignments: pd.DataFrame, segments: pd.DataFrame) -> None:
    box = document(map_html(assignments.assign(x=1.0, y=2.0), segments, alt="A map"))["box"]
    assert box[0] < 1 < box[1] and box[2] < 2 < box[3]


@pytest.mark.slow
def test_two_hundred_thousand_customers_in_twenty_segments_fit_a_page(segments: pd.DataFrame) -> None:
    rng, ids = np.random.default_rng(4), [f"S{number:02d}" for number in range(1, 21)]
    of = rng.choice(ids, 200_000)
    plane = rng.normal(size=(len(of), 2)) + np.array([divmod(int(one[1:]), 5) for one in of]) * 4
    names = [f"customer {number}" for number in range(len(of))]
    placed = pd.DataFrame({"customer_id": names, "segment": of, "core": True, "x": plane[:, 0], "y": plane[:, 1]})
    table = pd.DataFrame([segments.iloc[0].to_dict()] * 20).assign(segment=ids, name=ids, spend_next=np.nan)
    table = table.assign(customers=10_000, revenue_share=np.nan, spend_now=np.nan)
    features = pd.DataFrame({"customer_id": names, "orders": 1.0})
    made = map_html(placed, table, profile=map_profile(placed, features), alt="A map", caption="See.")
    assert len(made) < 1.5 * 2**20 and "of 200,000 customers are drawn." in made  # Bokeh is 1.3 MB, the page has 3
    assert len(document(made)["profile"]["means"]) <= 800
