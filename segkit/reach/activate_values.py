"""Values of an export: e-mail and phone in one form, hashed, masked, and text that no spreadsheet runs as a formula."""

import hashlib
import re
from collections.abc import Callable

import pandas as pd

EMAIL = re.compile(r"[^@\s,;<>\"']+@[^@\s.,;<>\"']+(\.[^@\s.,;<>\"']+)*\.[^@\s.,;<>\"'\d][^@\s.,;<>\"']+")
LONGEST_EMAIL = 254  # RFC 5321
E164 = re.compile(r"\+[1-9]\d{7,14}")
NOT_DIALLED = re.compile(r"[\s().\-/\u00a0\u2010-\u2015]|\(0\)")
NORTH_AMERICA, NORTH_AMERICAN_DIGITS = "1", 11  # numbers there are written with the country's 1 and no plus


def as_text(value: object) -> str | None:
    """A cell as text, without blanks at the ends; whole numbers without a decimal point; None where there is nothing.

    >>> as_text(4915112345678.0), as_text(True), as_text("  "), as_text(None)
    ('4915112345678', 'true', None, None)
    """
    if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip() or None


def as_email(value: str) -> str | None:
    """An e-mail address in lower case without blanks; None where it is none.

    >>> as_email(" Ann.Lee @Example.COM"), as_email("ann@example"), as_email("=cmd@x.de,b@x.de")
    ('ann.lee@example.com', None, None)
    """
    found = re.sub(r"\s", "", value).lower()
    return found if EMAIL.fullmatch(found) and len(found) <= LONGEST_EMAIL and ".." not in found else None


def as_phone(value: str, *, country_code: str = "") -> str | None:
    """A phone number by E.164: plus, country, number; None where it is none, or of no known country.

    Parameters
    ----------
    country_code : of numbers that name none, such as 49; their leading zero is dropped

    >>> as_phone("+49 (0)151 1234-5678"), as_phone("0151 12345678", country_code="49"), as_phone("0151 12345678")
    ('+4915112345678', '+4915112345678', None)
    """
    digits = NOT_DIALLED.sub("", value.replace("(0)", ""))
    if digits.startswith("00"):
        digits = "+" + digits[2:]
    if not digits.startswith("+") and country_code:
        american = country_code == NORTH_AMERICA and len(digits) == NORTH_AMERICAN_DIGITS and digits[0] == "1"
        digits = "+" + (digits if american else country_code + digits.removeprefix("0"))
    return digits if E164.fullmatch(digits) else None


def as_sha256(value: str) -> str:
    """The SHA-256 of a text in UTF-8, as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(value.encode("utf-8")).hexdigest()


FORMS: dict[str, Callable[[str], str | None]] = {
    "email": as_email,
    "phone": as_phone,
    "no_plus": lambda value: value.removeprefix("+"),
    "lower": str.lower,
    "sha256": as_sha256,
}


def masked(value: str, *, forms: tuple[str, ...]) -> str:
    """What may be shown of a person's address.

    >>> masked("ann.lee@example.com", forms=("email",)), masked("+4915112345678", forms=("phone",))
    ('a***@e***.com', '+49***')
    >>> masked("c0042", forms=()), masked("17", forms=())
    ('c0***', '***')
    """
    if "sha256" in forms:
        return value[:6] + "***"
    if "email" in forms and "@" in value:
        name, domain = value.split("@", 1)
        return f"{name[:1]}***@{domain[:1]}***.{domain.rsplit('.', 1)[-1]}"
    return value[: min(3 if "phone" in forms else 2, max(len(value) - 3, 0))] + "***"
