"""What is known of customers: columns by role, what is not known as a block of its own, identifiers never."""

import ibis
import pandas as pd

from segkit.customers.known import common_values, known_features

ROLES = {
    "age": "demographic",
    "income": "demographic",
    "region": "geographic",
    "mail": "identifier",
    "old": "current_segment",
}


def people() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "customer_id": [f"c{i:02d}" for i in range(50)],
            "age": ["young", "old's"] * 22 + ["rare"] * 3 + [None] * 3,
            "income": [None, 10.0] * 25,
            "region": ["north"] * 25 + [None] * 25,
            "mail": "a@b.c",
            "old": "A",
        }
    )


def test_frequent_values_become_flags_and_numbers_stay_numbers() -> None:
    table = ibis.memtable(people())
    values = common_values(table, roles=ROLES)
    assert values == {"age": ["old's", "young"], "income": None, "region": ["north"]}
    found = known_features(table, roles=ROLES, values=values).to_pandas().set_index("customer_id").sort_index()
    assert list(found.columns) == [
        "demographic: age = old's",
        "demographic: age = young",
        "missing: age",
        "demographic: income",
        "missing: income",
        "geographic: region = north",
        "missing: region",
    ]
    assert found.loc["c00"].tolist() == [0, 1, 0, 0, 1, 1, 0]
    assert found.loc["c49"].tolist() == [0, 0, 1, 10, 0, 0, 1]


def test_values_learnt_on_one_table_apply_to_another() -> None:
    values = common_values(ibis.memtable(people()), roles=ROLES)
    other = ibis.memtable(people().head(1).assign(age="unseen"))
    found = known_features(other, roles=ROLES, values=values).to_pandas()
    assert found[["demographic: age = old's", "demographic: age = young", "missing: age"]].to_numpy().tolist() == [
        [0, 0, 0]
    ]
