"""Describe export targets: formats of marketing tools and the values they accept."""

import hashlib
import re
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import phonenumbers
from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from segkit.data.yaml_models import OneOrMore, Text, YamlModel, one_of, parse_yaml, read_utf8, suggest
from segkit.errors import InputError

LETTERS = re.compile(r"[^\W\d_]")


def as_text(value: object) -> str | None:
    """Return a cell as stripped text, whole numbers without a decimal point; None where there is nothing.

    Examples
    --------
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
    """Return the SHA-256 of a text in UTF-8, as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(value.encode("utf-8")).hexdigest()


VALUE_FORMS: dict[str, Callable[[str], str | None]] = {
    "email": as_email,
    "phone": as_phone,
    "no_plus": lambda value: value.removeprefix("+"),
    "lower": str.lower,
    "sha256": as_sha256,
}


def masked(value: str, *, forms: tuple[str, ...]) -> str:
    """Mask an address or id for a preview.

    Examples
    --------
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


FORECAST_FIELDS = {  # field -> column of the run's predictions
    "expected_spend": "spend_mean",
    "expected_spend_low": "spend_low",
    "expected_spend_high": "spend_high",
    "next_order": "next_order_date",
    "next_order_from": "next_order_low",
    "next_order_to": "next_order_high",
}
NUMBER_FIELDS = ("confidence", "expected_spend", "expected_spend_low", "expected_spend_high")  # all others are text
RUN_FIELDS = (
    "customer_id",
    "segment",
    "segment_name",
    "macro_segment",
    "level",
    "confidence",
    "core",
    "need",
    "need_name",
    *FORECAST_FIELDS,
    "currency",
    "expected_until",
    "action",
    "as_of",
)
CONTACT_WORDS = {"email": ("mail",), "phone": ("phone", "mobile", "tel", "cell")}  # field -> words in the column's name
TARGET_FORMATS = ("csv", "parquet", "table", "webhook")
LINE_ENDS = {"lf": "\n", "crlf": "\r\n"}
Limit = Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False, description="a number of zero or more")]
Headers = Annotated[tuple[Text, ...], OneOrMore]


class Column(YamlModel):
    """One column of a target.

    It has the field it is read from, the forms applied one after the other, whether rows without a value are left out,
    and the value for customers who left the run.
    """

    field: Text = Field(description="a field, such as segment, email or the name of an identifier")
    forms: Annotated[tuple[Annotated[Text, one_of("form", VALUE_FORMS)], ...], OneOrMore] = Field(
        (), alias="form", description="one or more forms, such as [email, sha256]"
    )
    required: bool = Field(False, description="true or false")
    left: Text | None = Field(None, description="a text")

    @property
    def is_personal(self) -> bool:
        """Return whether the value identifies a customer."""
        return self.field not in RUN_FIELDS or self.field == "customer_id"


class Target(YamlModel):
    """An export target as its YAML describes it; `read` is the day on which the documentation of its format was read.

    With {segment} in `file`, each segment has a file of its own; one above a limit is split (0: no limit). `missing`
    stands for an unknown value.
    """

    name: str = Field(description="a text")
    title: str = Field("", description="a text")
    read: Text = Field("", description="a date")
    statement: str = Field("", repr=False, description="a text")
    columns: dict[
        Text, Annotated[Column, BeforeValidator(lambda value: {"field": value} if isinstance(value, str) else value)]
    ] = Field(description="a field for each header, e.g. {Email: {field: email, form: email}}")
    format: Annotated[Text, one_of("format", TARGET_FORMATS)] = Field("csv", description=", ".join(TARGET_FORMATS))
    file: Text = Field(None, validate_default=True, description="a plain file name")
    encoding: str = Field("utf-8", description="a text such as utf-8")
    line_end: Annotated[Text, one_of("line end", LINE_ENDS), AfterValidator(LINE_ENDS.get)] = Field(
        "\n", description=" or ".join(LINE_ENDS)
    )
    missing: str = Field("", description="a text")
    max_rows: Limit = 0
    max_megabytes: Limit = 0
    unique: Headers = Field((), description="headers of which no value may come twice")
    any_of: Headers = Field((), description="headers of which a row needs at least one")
    changed_only: bool = Field(False, description="true (only rows that differ from the last export) or false")

    @field_validator("file", mode="before")
    @classmethod
    def _inside_the_folder(cls, file: Any, info: ValidationInfo) -> str:
        file = f"{info.data.get('name')}.{info.data.get('format')}" if file is None else file
        if not isinstance(file, str) or Path(file).name != file or file in ("", "..") or "\\" in file or "\0" in file:
            raise ValueError(f"{str(file)!r} must be a plain file name; the folder is that of --out.")
        return file

    @field_validator("unique", "any_of")
    @classmethod
    def _among_columns(cls, headers: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        unknown = sorted(set(headers) - set(info.data.get("columns", headers)))
        if unknown:
            raise ValueError(f"there is no column {unknown[0]!r}.{suggest(unknown[0], info.data['columns'])}")
        return headers

    @field_validator("changed_only")
    @classmethod
    def _of_a_file(cls, changed_only: bool, info: ValidationInfo) -> bool:
        if changed_only and info.data.get("format") in ("table", "webhook"):
            raise ValueError(f"a {info.data['format']} is updated as a whole. Leave changed_only out.")
        return changed_only

    @property
    def by_segment(self) -> bool:
        """Return whether each segment has a file of its own."""
        return "{segment}" in self.file


def list_targets() -> list[str]:
    """Return the names of the targets that come with the package."""
    found = resources.files("segkit.export").joinpath("targets").iterdir()
    return sorted(path.name.removesuffix(".yaml") for path in found if path.name.endswith(".yaml"))


def read_target(name: str) -> Target:
    """Read a target by name, or from its YAML file.

    Raises `InputError`: no such target, or a file that does not describe one.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise InputError(f"{name}: no such file. A target is a YAML file like those in segkit/export/targets.")
        return parse_yaml(read_utf8(path), Target, label=path.name)
    if name not in list_targets():
        raise InputError(
            f"--to {name}: no such target.{suggest(name, list_targets())} Or give a YAML file of your own."
        )
    text = resources.files("segkit.export").joinpath("targets", f"{name}.yaml").read_text(encoding="utf-8")
    return parse_yaml(text, Target, label=f"{name}.yaml")
