"""Values of an export: e-mail and phone in one form, hashed, masked, and text that no spreadsheet runs as a formula."""

import hashlib
import re
from collections.abc import Callable

import pandas as pd
import phonenumbers
from email_validator import EmailNotValidError, validate_email

LETTERS = re.compile(r"[^\W\d_]")


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
    """Return an e-mail address in lower case and without blanks, or None where it is none.

    The address is read by its form alone (``email-validator``); whether its domain exists is not looked up.

    Examples
    --------
    >>> as_email(" Ann.Lee @Example.COM"), as_email("ann@example"), as_email("=cmd@x.de,b@x.de")
    ('ann.lee@example.com', None, None)
    """
    try:
        return validate_email(re.sub(r"\s", "", value), check_deliverability=False).normalized.lower()
    except EmailNotValidError:
        return None


def as_phone(value: str, *, country_code: str = "") -> str | None:
    """Return a phone number by E.164 (plus, country, number), or None where it is none or of no known country.

    How long the numbers of a country are, and whether a leading zero belongs to them, is known to ``phonenumbers``.

    Parameters
    ----------
    country_code
        Of numbers that name no country, such as 49.

    Examples
    --------
    >>> as_phone("+49 (0)151 1234-5678"), as_phone("0151 12345678", country_code="49"), as_phone("0151 12345678")
    ('+4915112345678', '+4915112345678', None)
    >>> as_phone("06 6982 1234", country_code="39")
    '+390669821234'
    """
    if LETTERS.search(value):
        return None  # phonenumbers would dial letters, as in 1-800-FLOWERS
    given = re.sub(r"^00", "+", value.strip())
    region = phonenumbers.region_code_for_country_code(int(country_code)) if country_code else None
    try:
        number = phonenumbers.parse(given, None if given.startswith("+") else region)
    except phonenumbers.NumberParseException:
        return None
    if phonenumbers.is_possible_number_with_reason(number) != phonenumbers.ValidationResult.IS_POSSIBLE:
        return None
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


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
