"""Recognise the table of an experiment: one row a customer, an arm, and outcomes."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from segkit.data.guesses import NEARLY_UNIQUE, RawTable, words_in_name
from segkit.data.values import INTEGER_TYPES, is_number
from segkit.format import joined

BINARY, COUNT, MONEY = "binary", "count", "money"
KIND_WORDS = {BINARY: "yes or no", COUNT: "a count", MONEY: "an amount"}
ARM_WORDS = {"arm", "variant", "variation", "treatment", "treated", "group", "testgroup", "bucket", "cell", "segment"}
CONTROL = re.compile(r"(?i)(.*\W|.*_)?(control|ctrl|hold[ _-]?out|placebo|untreated|kontrolle|no e-?mail)([\W_].*)?")
FLAGS = ({"0", "1"}, {"no", "yes"}, {"n", "y"}, {"false", "true"}, {"f", "t"})
OUTCOME = re.compile(
    "visit|conver|spend|spent|revenue|sales|order|purchase|bought|amount|outcome|click|open|respon|churn|renew|target|subscri|complain|refund"
)
AMOUNT = re.compile("spend|spent|revenue|sales|amount|turnover|profit|margin")
BEFORE = re.compile("before|prior|past|^pre|history|last|recency|previous|since|tenure|_id$|^id$")
MOST_ARMS = 12


@dataclass(frozen=True)
class ArmColumns:
    """The columns of an experiment: the arm, its values with the control first, and the kind of each outcome."""

    arm: str
    arms: tuple[str, ...]
    outcomes: dict[str, str]

    def sentence(self) -> str:
        """Describe them in a sentence."""
        measured = joined([f"{name} ({KIND_WORDS[kind]})" for name, kind in self.outcomes.items()])
        return f"column {self.arm!r} holds the arms {joined(self.arms)}, and the outcomes are {measured}"


def recognise_arms(table: RawTable, *, customer: str | None = None) -> ArmColumns | None:
    """Find the arm and the outcomes of an experiment; None where a table is none.

    Parameters
    ----------
    table
        The raw table.
    customer
        Column of the customers; a table with several rows for one is no experiment.
    """
    if customer is not None and table.distinct[customer] < NEARLY_UNIQUE * table.rows:
        return None
    own = {name: kind for name, kind in table.kinds.items() if name not in table.lookups.columns}
    return find_arms(table.samples, kinds=own)


def find_arms(values: Mapping[str, Collection[str]], *, kinds: Mapping[str, str]) -> ArmColumns | None:
    """Find the arm and the outcomes of an experiment among columns; None where there are none.

    Parameters
    ----------
    values
        Different values of each column as text, at least a sample.
    kinds
        DuckDB type of each column.
    """
    for name in kinds:
        own = set(values[name])
        control = sorted(value for value in own if is_control(value))
        named = bool(words_in_name(name) & ARM_WORDS)
        flag = bool(words_in_name(name) & {"treatment", "treated"}) and {v.lower() for v in own} in FLAGS
        if not 2 <= len(own) <= MOST_ARMS or not (flag or len(control) == 1 and (named or len(own) <= 4)):
            continue
        first = control[0] if control else min(own)
        outcomes = {
            column: kind
            for column in kinds
            if column != name
            and is_outcome(column)
            and (kind := outcome_kind(column, values=values[column], kind=kinds[column]))
        }
        if outcomes:
            return ArmColumns(arm=name, arms=(first, *sorted(own - {first})), outcomes=outcomes)
    return None


def is_outcome(name: str) -> bool:
    """Return whether the name of a column is that of an outcome.

    >>> is_outcome("spend"), is_outcome("spend_before"), is_outcome("age")
    (True, False, False)
    """
    return bool(OUTCOME.search(name.lower())) and not is_before(name)


def is_before(name: str) -> bool:
    """Return whether the name of a column says that it was known before the experiment.

    >>> is_before("spend_before"), is_before("spend")
    (True, False)
    """
    return bool(BEFORE.search(name.lower()))


def is_control(value: str) -> bool:
    """Return whether the name of an arm is that of a control.

    >>> is_control("Control group"), is_control("letter")
    (True, False)
    """
    return CONTROL.fullmatch(value.strip()) is not None


def outcome_kind(name: str, *, values: Collection[str], kind: str) -> str | None:
    """Return whether values are of two kinds, counts or amounts; None for others.

    Parameters
    ----------
    name
        Of the column: whole numbers of a column such as spend are amounts.
    values
        As text.
    kind
        Their DuckDB type.

    Examples
    --------
    >>> outcome_kind("visit", values=["0", "1"], kind="BIGINT"), outcome_kind("spend", values=["7"], kind="BIGINT")
    ('binary', 'money')
    >>> outcome_kind("orders", values=["7"], kind="BIGINT"), outcome_kind("colour", values=["red"], kind="VARCHAR")
    ('count', None)
    """
    lower = {value.lower() for value in values}
    if lower and any(lower <= flags for flags in FLAGS):
        return BINARY
    if not is_number(kind):
        return None
    is_whole = kind in INTEGER_TYPES and not any(value.startswith("-") for value in lower)
    return COUNT if is_whole and not AMOUNT.search(name.lower()) else MONEY
