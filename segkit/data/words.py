"""How a source says things: its categories in plain words, and its currency."""

import re

from segkit.errors import SourceError

CURRENCY = re.compile(r"[A-Z]{3}")
LONGEST = 40  # characters of a label; it stands in names and sentences


def labels_of(value: object, *, where: str) -> dict[str, str]:
    """The map from categories to plain words.

    Raises
    ------
    SourceError : not a mapping of text to text, or a label that is empty or too long for a name
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise SourceError(f"{where}: labels maps categories to plain words, e.g. {{FRZN PIZZA: frozen pizza}}.")
    nested = [category for category, label in value.items() if isinstance(label, dict | list)]
    if nested:
        raise SourceError(f"{where}: the label of {str(nested[0])!r} is no text. Write it as one.")
    found = {str(category): " ".join(str(label or "").split()) for category, label in value.items()}
    wrong = sorted(category for category, label in found.items() if not 0 < len(label) <= LONGEST)
    if wrong:
        raise SourceError(
            f"{where}: the labels of {wrong[:3]} must have 1 to {LONGEST} characters. Shorten or fill them."
        )
    return found


def currency_of(value: object, *, where: str) -> str:
    """The currency as three letters, or nothing.

    Raises
    ------
    SourceError : not a code of three capital letters
    """
    if value is None:
        return ""
    if not CURRENCY.fullmatch(str(value)):
        raise SourceError(f"{where}: currency {str(value)!r} is not a code such as USD, EUR or GBP.")
    return str(value)
