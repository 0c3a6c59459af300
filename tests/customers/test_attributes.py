"""What is known of customers: columns by role, what is not known as a block of its own, identifiers never."""

import ibis
import pandas as pd

from segkit.customers.profile import attribute_features, common_values
from segkit.vocabulary import describe

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
    found = attribute_features(table, roles=ROLES, index=pd.Index(["c49", "c00", "not there"]))
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
    assert found.loc["not there"].tolist() == [0, 0, 1, 0, 1, 0, 1]
    assert {name: describe(name).unit for name in found.columns[-4:]} == {
        "demographic: income": "value",
        "missing: income": "share",
        "geographic: region = north": "share",
        "missing: region": "share",
    }


def test_without_a_customer_table_nothing_is_known() -> None:
    assert attribute_features(None, roles={}, index=pd.Index(["a", "b"])).shape == (2, 0)
