"""Consent: who may be contacted. What is not a clear yes is a no, and so is silence where the source asks."""

from collections.abc import Mapping

import pandas as pd

YES = frozenset({"true", "t", "yes", "y", "1", "1.0", "on", "granted", "opt-in", "opted in", "subscribed"})


def consent_columns(roles: Mapping[str, str]) -> list[str]:
    """The columns of the customer table that say whether a customer may be contacted."""
    return sorted(name for name, role in roles.items() if role == "consent")


def may_contact(people: pd.DataFrame | None, *, roles: Mapping[str, str], index: pd.Index) -> pd.Series:
    """Whether each customer may be contacted.

    Takes  people: customer_id and columns with roles, or None; index: customer ids
    Gives  a flag by customer_id, in the order of the index: true for all where the source asks for no consent; else
           true only where every column of consent holds a clear yes

    Parameters
    ----------
    roles : column -> role
    """
    asked = consent_columns(roles)
    if not asked:
        return pd.Series(True, index=index, name="may_contact")
    if people is None:
        return pd.Series(False, index=index, name="may_contact")
    answers = people.set_index("customer_id")[asked].reindex(index)
    answered_yes = answers.apply(lambda column: column.map(_is_yes))
    return answered_yes.all(axis=1).astype(bool).rename("may_contact")


def _is_yes(value: object) -> bool:
    return str(value).strip().lower() in YES
