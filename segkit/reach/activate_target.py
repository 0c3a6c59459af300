"""Targets of an export: each is a small YAML file that says which columns it takes, in which form, and its limits."""

from importlib import resources
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from segkit.data.safe_yaml import OneOrMore, Text, YamlModel, nearest, one_of, parse_yaml, read_utf8
from segkit.errors import InputError
from segkit.reach.activate_values import FORMS

OF_RUN = ("customer_id", "segment", "segment_name", "macro_segment", "confidence", "core", "need", "action", "as_of")
CONTACT = {"email": ("mail",), "phone": ("phone", "mobile", "tel", "cell")}  # field -> words in the column's name
FORMATS = ("csv", "parquet", "table")
LINE_ENDS = {"lf": "\n", "crlf": "\r\n"}
Limit = Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False, description="a number of zero or more")]
Headers = Annotated[tuple[Text, ...], OneOrMore]


class Column(YamlModel):
    """A column of a target: the field it comes from, its forms one after the other, whether a row without it is left
    out, and what it holds for customers who left the run.
    """

    field: Text = Field(description="a field, such as segment, email or the name of an identifier")
    forms: Annotated[tuple[Annotated[Text, one_of("form", FORMS)], ...], OneOrMore] = Field(
        (), alias="form", description="one or more forms, such as [email, sha256]"
    )
    required: bool = Field(False, description="true or false")
    left: Text | None = Field(None, description="a text")

    @property
    def is_personal(self) -> bool:
        """Whether it tells who somebody is."""
        return self.field not in OF_RUN or self.field == "customer_id"


class Target(YamlModel):
    """A target as its YAML states it; `read` is the day on which the statement of its format was read.

    With {segment} in `file`, each segment has a file of its own; one above a limit is split (0: no limit). `missing`
    stands for an unknown value.
    """

    name: str = Field(description="a text")
    title: str = Field("", description="a text")
    read: Text = Field("", description="a date")
    statement: str = Field("", repr=False, description="a text")
    columns: dict[
        Text, Annotated[Column, BeforeValidator(lambda told: {"field": told} if isinstance(told, str) else told)]
    ] = Field(description="a field for each header, e.g. {Email: {field: email, form: email}}")
    format: Annotated[Text, one_of("format", FORMATS)] = Field("csv", description=", ".join(FORMATS))
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
        strange = sorted(set(headers) - set(info.data.get("columns", headers)))
        if strange:
            raise ValueError(f"there is no column {strange[0]!r}.{nearest(strange[0], info.data['columns'])}")
        return headers

    @field_validator("changed_only")
    @classmethod
    def _of_a_file(cls, changed_only: bool, info: ValidationInfo) -> bool:
        if changed_only and info.data.get("format") == "table":
            raise ValueError("a table is brought up to date as a whole. Leave it out.")
        return changed_only

    @property
    def by_segment(self) -> bool:
        return "{segment}" in self.file


def known_targets() -> list[str]:
    """Names of the targets that come with the package."""
    found = resources.files("segkit.reach").joinpath("targets").iterdir()
    return sorted(path.name.removesuffix(".yaml") for path in found if path.name.endswith(".yaml"))


def read_target(name: str) -> Target:
    """A target by name, or by the path of its YAML file.

    Raises
    ------
    InputError : no such target, or a file that says something else than a target can
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise InputError(f"{name}: no such file. A target is a YAML file as those in segkit/reach/targets.")
        return parse_yaml(read_utf8(path), Target, label=path.name)
    if name not in known_targets():
        raise InputError(
            f"--to {name}: no such target.{nearest(name, known_targets())} Or give a YAML file of your own."
        )
    text = resources.files("segkit.reach").joinpath("targets", f"{name}.yaml").read_text(encoding="utf-8")
    return parse_yaml(text, Target, label=f"{name}.yaml")
