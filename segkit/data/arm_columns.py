"""Recognise the table of an experiment: one row a customer, an arm, and outcomes."""

import re
from dataclasses import dataclass

from segkit.data.guesses import NEARLY_UNIQUE, RawTable, words_in_name
from segkit.data.values import is_number
from segkit.format import joined

BINARY, COUNT, MONEY = "binary", "count", "money"
KIND_WORDS = {BINARY: "yes or no", COUNT: "a count", MONEY: "an amount"}
ARM_WORDS = {"arm", "variant", "variation", "treatment", "treated", "group", "testgroup", "bucket", "cell", "segment"}
CONTROL = re.compile(r"(?i)(.*\W|.*_)?(control|ctrl|hold[ _-]?out|placebo|untreated|kontrolle|no e-?mail)([\W_].*)?")
FLAGS = ({"0", "1"}, {"no", "yes"}, {"n", "y"}, {"false", "true"}, {"f", "t"})
OUTCOME = re.compile(
    "visit|conver|spend|spent|revenue|sales|order|purchase|bought|amount|outcome|click|open|respon|churn|renew|target|subscri|complain|refund"
)
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
    own = [name for name in table.kinds if name not in table.lookups.columns]
    for name in own:
        values = set(table.samples[name])
        control = sorted(value for value in values if CONTROL.fullmatch(value.strip()))
        named = bool(words_in_name(name) & ARM_WORDS)
        flag = bool(words_in_name(name) & {"treatment", "treated"}) and {v.lower() for v in values} in FLAGS
        if not 2 <= len(values) <= MOST_ARMS or not (flag or len(control) == 1 and (named or len(values) <= 4)):
            continue
        first = control[0] if control else min(values)
        outcomes = {column: kind for column in own if column != name and (kind := _outcome(table, column))}
        if outcomes:
            return ArmColumns(arm=name, arms=(first, *sorted(values - {first})), outcomes=outcomes)
    return None


def _outcome(table: RawTable, name: str) -> str | None:
    """Return the kind of an outcome, by its name and values; None for another column."""
    lower, values = name.lower(), {value.lower() for value in table.samples[name]}
    if not OUTCOME.search(lower) or BEFORE.search(lower):
        return None
    if values and any(values <= flags for flags in FLAGS):
        return BINARY
    if not is_number(table.kinds[name]):
        return None
    return COUNT if table.kinds[name] == "BIGINT" and not any(value.startswith("-") for value in values) else MONEY
