"""Targets of an export: each is a small YAML file that says which columns it takes, in which form, and its limits."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from segkit.data.safe_yaml import load_yaml, nearest
from segkit.errors import InputError
from segkit.reach.activate_values import FORMS

OF_RUN = ("customer_id", "segment", "segment_name", "macro_segment", "confidence", "core", "need", "action", "as_of")
CONTACT = {"email": ("mail",), "phone": ("phone", "mobile", "tel", "cell")}  # field -> words in the column's name
FORMATS = ("csv", "parquet", "table")
LINE_ENDS = {"lf": "\n", "crlf": "\r\n"}
KEYS = {
    *("name", "title", "read", "statement", "format", "file", "encoding", "line_end", "missing", "max_rows"),
    *("max_megabytes", "unique", "any_of", "changed_only", "columns"),
}
OF_COLUMN = {"field", "form", "required", "left"}


@dataclass(frozen=True)
class Column:
    """A column of a target: its header, the field it comes from, its forms one after the other, whether a row without
    it is left out, and what it holds for customers who left the run.
    """

    header: str
    field: str
    forms: tuple[str, ...] = ()
    required: bool = False
    left: str | None = None

    @property
    def personal(self) -> bool:
        """Whether it tells who somebody is."""
        return self.field not in OF_RUN or self.field == "customer_id"


@dataclass(frozen=True)
class Target:
    """A target as its YAML states it.

    Parameters
    ----------
    file : name of the file; with {segment} in it, one file for each segment
    missing : what stands for an unknown value
    max_rows, max_megabytes : of one file, above which it is split; 0: no limit
    unique : headers of which no value may come twice
    any_of : headers of which a row needs at least one
    changed_only : only rows that differ from the last export
    """

    name: str
    columns: tuple[Column, ...]
    format: str = "csv"
    title: str = ""
    read: str = ""
    statement: str = field(default="", repr=False)
    file: str = ""
    encoding: str = "utf-8"
    line_end: str = "\n"
    missing: str = ""
    max_rows: int = 0
    max_megabytes: float = 0
    unique: tuple[str, ...] = ()
    any_of: tuple[str, ...] = ()
    changed_only: bool = False

    @property
    def by_segment(self) -> bool:
        return "{segment}" in self.file

    def column(self, header: str) -> Column:
        return next(column for column in self.columns if column.header == header)


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
        try:
            return _parsed(path.read_text(encoding="utf-8"), label=path.name)
        except UnicodeDecodeError:
            raise InputError(f"{path.name}: not a text in UTF-8. Save it as UTF-8.") from None
    if name not in known_targets():
        raise InputError(
            f"--to {name}: no such target.{nearest(name, known_targets())} Or give a YAML file of your own."
        )
    text = resources.files("segkit.reach").joinpath("targets", f"{name}.yaml").read_text(encoding="utf-8")
    return _parsed(text, label=f"{name}.yaml")


def _parsed(text: str, *, label: str) -> Target:
    held = load_yaml(text, label=label)
    if not isinstance(held, dict) or not isinstance(held.get("columns"), dict) or not held.get("name"):
        raise InputError(f"{label}: a target has a name, and columns: header -> field.")
    _refuse_unknown(held, KEYS, label=label)
    columns = tuple(_column(header, told, label=label) for header, told in held["columns"].items())
    headers = {column.header for column in columns}
    for key in ("unique", "any_of"):
        strange = sorted(set(held.get(key, [])) - headers)
        if strange:
            raise InputError(f"{label}: {key} names {', '.join(strange)}, which is not among its columns.")
    form, line_end = held.get("format", "csv"), held.get("line_end", "lf")
    if form not in FORMATS or line_end not in LINE_ENDS:
        raise InputError(f"{label}: format is one of {', '.join(FORMATS)}, line_end one of {', '.join(LINE_ENDS)}.")
    if form == "table" and held.get("changed_only"):
        raise InputError(f"{label}: a table is brought up to date as a whole. Leave changed_only out.")
    parts = {k: v for k, v in held.items() if k not in ("columns", "line_end", "read", "unique", "any_of")}
    more = {key: tuple(held.get(key, ())) for key in ("unique", "any_of")}
    file = held.get("file", f"{held['name']}.{form}")
    _refuse_values({**held, "file": file}, label=label)
    return Target(
        **{**parts, "file": file}, columns=columns, line_end=LINE_ENDS[line_end], read=str(held.get("read", "")), **more
    )


def _refuse_values(held: Mapping[str, Any], *, label: str) -> None:
    """A file of a target stays in the folder of the export, and its limits are numbers."""
    file = held["file"]
    if not isinstance(file, str) or Path(file).name != file or file in ("", ".", "..") or "\\" in file or "\0" in file:
        raise InputError(f"{label}: file {str(file)!r} must be a plain file name; the folder is that of --out.")
    for key in ("max_rows", "max_megabytes"):
        value = held.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
            raise InputError(f"{label}: {key} must be a number of zero or more, found {value!r}.")
    for key in ("name", "encoding", "missing", "title", "statement"):
        if not isinstance(held.get(key, ""), str):
            raise InputError(f"{label}: {key} must be a text, found {held[key]!r}.")


def _column(header: Any, told: Any, *, label: str) -> Column:
    if isinstance(told, str):
        return Column(str(header), told)
    if not isinstance(told, Mapping) or "field" not in told:
        raise InputError(
            f"{label}: column {header!r} needs a field, such as segment, email or the name of an identifier."
        )
    _refuse_unknown(told, OF_COLUMN, label=f"{label}, column {header}")
    forms = told.get("form", ())
    forms = (forms,) if isinstance(forms, str) else tuple(forms)
    strange = sorted(set(forms) - set(FORMS))
    if strange:
        raise InputError(f"{label}: column {header!r} has the form {', '.join(strange)}. There are {', '.join(FORMS)}.")
    left = told.get("left")
    return Column(str(header), told["field"], forms, bool(told.get("required")), None if left is None else str(left))


def _refuse_unknown(held: Mapping[str, Any], known: set[str], *, label: str) -> None:
    strange = sorted(map(str, set(held) - known))
    if strange:
        raise InputError(f"{label}: {strange[0]!r} means nothing here.{nearest(strange[0], known)}")
