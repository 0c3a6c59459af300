"""Recognise a table of customers alone, and guess the roles of its columns."""

import re

from segkit.data.attributes import ID_WORDS, NO_WORDS, YES_WORDS, decimal_sign
from segkit.data.guesses import MANY_ROWS, RawTable, customer_columns, fold, is_birth, words_in_name
from segkit.data.values import NO_VALUE, is_number, is_time_like

ROLE_WORDS = {  # role -> words in the name of a column, the surest role first
    "consent": (
        "consent optin opt permission gdpr dsgvo marketing newsletter unsubscribed emailable contactable einwilligung"
    ),
    "identifier": (
        "email mail phone mobile tel telephone telefon firstname lastname surname forename fullname name vorname "
        "nachname street strasse address adresse iban ssn passport username login url twitter instagram card"
    ),
    "current_segment": "segment cluster persona tier rfm",
    "geographic": (
        "city town region state country county province district zip zipcode postcode postal plz ort stadt land "
        "bundesland ville pays ciudad pais latitude longitude lat lon location area"
    ),
    "survey": "survey nps satisfaction csat likert rating agree answer question umfrage",
}
QUESTION = re.compile(r"q_?\d+\w*", re.IGNORECASE)
CURRENCIES = {"€": "EUR", "$": "USD", "£": "GBP"}
ADDRESSES = {"email", "mail", "phone"}  # by which a customer is called only where there is no id
MOST_SEGMENTS = 30  # different values of a segment that customers are in


def customer_key(table: RawTable) -> str | None:
    """Find the id of a table with one row for each customer; None for a table of events.

    The column that is named as a customer has a value of its own in each of many rows: no customer was seen twice. Or
    the table has no time, and another column is its key.
    """
    own = [name for name in table.kinds if name not in table.lookups.columns]
    named = next((name for name in customer_columns(table) if name in own), None)
    timed = [name for name in own if is_time_like(table.samples[name]) and not is_birth(name)]
    keys = [name for name in own if table.kinds[name] in ("VARCHAR", "BIGINT") and _is_key(name, table=table)]
    numbered = next((name for name in keys if words_in_name(name) & ID_WORDS), None)
    if numbered and named in keys and words_in_name(named) & ADDRESSES:
        named = numbered
    if named and _is_key(named, table=table):
        return named if table.rows >= MANY_ROWS or not timed else None
    if timed or len(own) < 2 or table.rows < 2 or (named and table.distinct[named] < table.rows / 2):
        return None
    return numbered or (keys[0] if keys[:1] == own[:1] else None)


def _is_key(name: str, *, table: RawTable) -> bool:
    return table.count_distinct(name) == table.rows


def guess_roles(table: RawTable, *, key: str) -> dict[str, str]:
    """Guess the role of each column of a table of customers from its name and values."""
    return {
        name: _guess_role(name, table=table)
        for name in table.kinds
        if name != key and name not in table.lookups.columns
    }


def _guess_role(name: str, *, table: RawTable) -> str:
    words, letters = words_in_name(name), re.sub(r"[\W_]", "", fold(name))
    values = {value.strip().lower() for value in table.samples[name]} - set(NO_VALUE)
    is_flag = bool(values) and values <= YES_WORDS | NO_WORDS
    if QUESTION.fullmatch(name):
        return "survey"
    for role, listed in ROLE_WORDS.items():
        if not (words & set(listed.split()) or role == "identifier" and letters in listed.split()):
            continue
        if role == "consent" and not is_flag:
            continue
        if role == "identifier" and (is_flag or is_number(table.kinds[name]) and table.distinct[name] <= MOST_SEGMENTS):
            continue  # has_phone, number of cards
        if role == "current_segment" and (table.distinct[name] > MOST_SEGMENTS or is_flag):
            continue
        return role
    samples = table.samples[name]
    is_number_like = is_number(table.kinds[name]) or decimal_sign(_filled(samples)) != ""
    is_text = not is_number_like and not is_time_like(samples)
    own = table.is_nearly_unique(name) and (is_text or words & ID_WORDS)
    return "ignore" if own else "demographic"


def _filled(samples: list[str]) -> list[str]:
    return [value for value in samples if value.strip().lower() not in NO_VALUE]


def guess_decimal(table: RawTable) -> str:
    """Guess the decimal sign where texts are numbers that could be read in two ways; empty where none could."""
    for name, kind in table.kinds.items():
        samples = _filled(table.samples[name])
        sign = decimal_sign(samples) if kind == "VARCHAR" and not is_time_like(samples) else ""
        if sign and any("," in value or "." in value for value in samples):
            return sign
    return ""


def guess_currency(table: RawTable) -> str:
    """Guess the currency from the signs in the first column that has any; empty where none has."""
    for name, kind in table.kinds.items():
        for sign, code in CURRENCIES.items():
            if kind == "VARCHAR" and table.samples[name] and all(sign in value for value in table.samples[name][:5]):
                return code
    return ""
