"""What is known of customers, as features: the customer table by role, and what is not known as a block of its own.

Undated columns count as known at `as_of`. Identifiers, consent, the segment used today and ignored columns are never
features.
"""

from collections.abc import Mapping

import ibis.expr.types as ir
import pandas as pd

from segkit.small_groups import FLOOR

FEATURE_ROLES = ("demographic", "geographic", "survey")
MOST_VALUES = 20  # of a text column with a feature of their own, the most frequent first


def common_values(people: ir.Table, *, roles: Mapping[str, str]) -> dict[str, list[str] | None]:
    """What to tell apart in each column: learnt on one table, applied to any.

    Takes  people: customer_id and columns with roles
    Gives  column -> its frequent values, sorted; None where it is a number and taken as it is
    """
    found: dict[str, list[str] | None] = {}
    for name in sorted(people.columns):
        if roles.get(name) not in FEATURE_ROLES:
            continue
        if people[name].type().is_numeric():
            found[name] = None
            continue
        column = people.select(value=people[name].cast("string")).filter(lambda t: t.value.notnull())
        counts = column.group_by("value").aggregate(customers=column.count())
        table = counts.to_pandas()
        table = table[table["customers"] >= FLOOR].sort_values(["customers", "value"], ascending=[False, True])
        found[name] = sorted(table["value"].head(MOST_VALUES))
    return found


def known_features(people: ir.Table | None, *, roles: Mapping[str, str], index: pd.Index) -> pd.DataFrame:
    """The customer table as features of the customers wanted.

    Takes  people: customer_id and columns with roles, or None
    Gives  by `index`: "<role>: <column> = <value>" (one or zero) for text, "<role>: <column>" for numbers (zero where
           not known), and "missing: <column>" (one where not known); no column where there is no table

    Parameters
    ----------
    roles : column -> role; demographic, geographic and survey are read
    index : customer ids, in the order wanted; those the table lacks are not known
    """
    if people is None:
        return pd.DataFrame(index=index)
    values = common_values(people, roles=roles)
    columns: dict[str, ir.Value] = {}
    for name, categories in values.items():
        column, role = people[name], roles[name]
        if categories is None:
            columns[f"{role}: {name}"] = column.cast("float64").fill_null(0)
        for value in categories or []:
            same = (column.cast("string") == value).fill_null(False)
            columns[f"{role}: {name} = {value}"] = same.ifelse(1, 0).cast("float64")
        columns[f"missing: {name}"] = column.isnull().ifelse(1, 0).cast("float64")
    found = people.select("customer_id", **columns).to_pandas().set_index("customer_id").reindex(index)
    return found.fillna({name: float(name.startswith("missing: ")) for name in found})
