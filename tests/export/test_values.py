"""Addresses in one form, and text that no spreadsheet runs."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segkit.data.io import escape_formula
from segkit.export.target import as_email, as_phone, as_sha256, masked


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("Ann.Lee@Example.co.uk ", "ann.lee@example.co.uk"),
        ("a+b@sub.example.com", "a+b@sub.example.com"),
        ("ann lee@example.com", "annlee@example.com"),
        ("ünal@exämple.de", "ünal@exämple.de"),
        ("ann@example", None),
        ("@example.com", None),
        ("ann@@example.com", None),
        ("a@b.com, c@d.com", None),
        ("ann@example..com", None),
        ("ann@1.2", None),
        ("x" * 250 + "@example.com", None),
    ],
)
def test_emails(given: str, found: str | None) -> None:
    assert as_email(given) == found


@pytest.mark.parametrize(
    ("given", "code", "found"),
    [
        ("+1 (800) 888-8888", "", "+18008888888"),
        ("1-800-888-8888", "1", "+18008888888"),
        ("(800) 888 8888", "1", "+18008888888"),
        ("0044 844 412 4653", "", "+448444124653"),
        ("0151/12345678", "49", "+4915112345678"),
        ("0151/12345678", "", None),
        ("+49 151 call me", "49", None),
        ("+49 12", "49", None),
        ("+0151 12345678", "49", None),
        ("+4915112345678901234", "", None),
        ("06 6982 1234", "39", "+390669821234"),  # Rome: the zero is part of the number
        ("+39 06 6982 1234", "", "+390669821234"),
        ("347 123 4567", "39", "+393471234567"),
        ("020 7946 0958", "44", "+442079460958"),
        ("+44 (0)20 7946 0958", "", "+442079460958"),
        ("01 23 45 67 89", "33", "+33123456789"),
        ("8 912 345-67-89", "7", "+79123456789"),
        ("91 123 45 67", "34", "+34911234567"),
        ("(55) 5123 4567", "52", "+525551234567"),
        ("151/12345678", "", None),
    ],
)
def test_phones(given: str, code: str, found: str | None) -> None:
    assert as_phone(given, country_code=code) == found


def test_hash_is_the_published_one() -> None:
    assert as_sha256("test@example.com") == "973dfe463ec85785f5f95af5ba3906eedb2d931c24e69824a89ea65dba4e813b"


@pytest.mark.parametrize("text", ["=1", "+a", "-x", "@b", "\tc", "\rd", "\n=e", "=HYPERLINK(1)", "-1+1|cmd"])
def test_formulas_get_an_apostrophe(text: str) -> None:
    assert escape_formula(text) == "'" + text


@pytest.mark.parametrize("text", ["-12.5", "+4915112345678", "a=b", "", "12", "it's"])
def test_what_is_no_formula_stays(text: str) -> None:
    assert escape_formula(text) == text


@settings(max_examples=40, deadline=None)
@given(st.text(max_size=20))
def test_no_text_begins_like_a_formula_but_numbers(text: str) -> None:
    found = escape_formula(text)
    assert found.lstrip("'") == text.lstrip("'")
    if found[:1] in ("=", "@", "\t", "\r", "\n"):
        raise AssertionError(found)
    assert found[:1] not in ("+", "-") or found[1:].replace(".", "").replace(",", "").isdigit()


@settings(max_examples=20, deadline=None)
@given(st.emails())
def test_an_address_is_never_shown_whole(address: str) -> None:
    assert address not in masked(address, forms=("email",))
