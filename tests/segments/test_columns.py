"""Segments by the columns of a table of customers: planted groups are found, and chance is not taken for one."""

from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import adjusted_rand_score

from segkit.data.attributes import Attributes, read_attributes
from segkit.data.sources import connect, open_source, read_customers
from segkit.data.synth import write_scenario
from segkit.errors import InputError
from segkit.personas.differences import card_differences, column_differences, name_column_segments, persona_table
from segkit.segments.columns import column_verdict, find_segments, learn_space, validate_columns

AS_OF = date(2025, 3, 1)


@pytest.fixture(scope="module")
def company(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("people")
    write_scenario("customers_only", customers=400, out=str(out))
    return out


@pytest.fixture
def attributes(company: Path) -> Attributes:
    source = open_source(str(company / "source.yaml"))
    return read_attributes(read_customers(source, con=connect()).to_pandas(), roles=source.roles, as_of=AS_OF)


def test_planted_groups_are_found_hold_and_are_described(company: Path, attributes: Attributes) -> None:
    found = find_segments(learn_space(attributes), index=attributes.table.index, most=8)
    truth = pd.read_parquet(company / "truth.parquet").set_index("customer_id")["group"]
    assert adjusted_rand_score(truth[attributes.table.index], found.number) > 0.85
    tests = validate_columns(found, repetitions=4)
    assert column_verdict(tests, share=np.bincount(found.number) / len(found.number)) == "groups"
    assert set(tests.segments["verdict"]) == {"natural"} and tests.core.mean() > 0.9

    own = pd.Series([f"S{n + 1:02d}" for n in found.number], index=attributes.table.index)
    ids = sorted(own.unique())
    differences = column_differences(attributes, own, ids=ids)
    names = name_column_segments(differences, ids=ids)
    assert len(set(names.values())) == len(ids) and any(name.startswith("Younger") for name in names.values())
    young = next(each for each in ids if names[each].startswith("Younger"))
    first = card_differences(differences, segment=young).iloc[0]
    assert (first["column"], first["kind"]) == ("birth_date", "years") and first["value"] < first["others"] - 10
    assert first["difference_low"] <= first["difference"] <= first["difference_high"] < 0
    assert not set(differences.loc[differences["clear"], "column"]) & {
        "eye_colour",
        "visits_help_page",
        "email",
        "tier",
    }
    segments = pd.DataFrame({"segment": ids, "name": [names[each] for each in ids], "verdict": "natural"})
    segments = segments.assign(customers=own.value_counts().reindex(ids).to_numpy(), customer_share=0.2)
    card = persona_table(differences, segments, currency="EUR").set_index("segment").loc[young]
    assert card["difference_1"].startswith("Age: typically 2") and "other customers" in card["difference_1"]


def test_the_same_values_shuffled_have_no_axis_and_the_same_seed_finds_the_same(attributes: Attributes) -> None:
    one, other = (find_segments(learn_space(attributes), index=attributes.table.index, most=4) for _ in range(2))
    pd.testing.assert_frame_equal(one.tried, other.tried)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        table = attributes.table.apply(lambda column, rng=rng: column.to_numpy()[rng.permutation(len(column))])
        assert len(learn_space(replace(attributes, table=table)).strength) == 0


def test_useless_columns_are_left_out_with_the_reason() -> None:
    n = np.arange(200)
    people = pd.DataFrame(
        {
            "customer_id": [f"c{i:03d}" for i in n],
            "age": (n * 7 % 60 + 20).astype(float),
            "birth_year": (2005 - n * 7 % 60).astype(float),
            "paid": [f"€ {i * 13 % 97},{i % 10}00" for i in n],
            "city": [f"City {i % 90}" for i in n],
            "country": "DE",
            "remark": [f"text {i}" for i in n],
            "fax": [None] * 190 + ["yes"] * 10,
            "app": np.where(n % 3 > 0, "Yes", "no"),
        }
    )
    found = read_attributes(people, roles=dict.fromkeys(people.columns[1:], "demographic"), as_of=AS_OF)
    use = found.report.set_index("column")["use"].to_dict()
    assert [one.name for one in found.used] == ["age", "paid", "app"]
    assert use["birth_year"] == "left out: it says the same as age"
    assert use["city"] == "left out: 90 values, most of them rare"
    assert use["country"] == "left out: the same for everyone"
    assert use["remark"] == "left out: a text of its own for nearly every customer"
    assert use["fax"] == "left out: known of 5% of customers"
    assert found.table["paid"].iloc[1] == 13100.0 and [one.kind for one in found.used] == ["years", "money", "flag"]
    with pytest.raises(InputError, match="segments need 2 columns that tell customers apart, and 1 can be used"):
        read_attributes(people[["customer_id", "age"]], roles={"age": "demographic"}, as_of=AS_OF)
