"""Columns of tables, as `segkit.schema` and its parts spell them."""

import pandera.pandas as pa

SHARE = pa.Check.in_range(0, 1)
NOT_NEGATIVE = pa.Check.ge(0)
SEGMENT_ID = pa.Check.str_matches(r"^S\d{2,}$")


def text(*checks: pa.Check, nullable: bool = False, unique: bool = False) -> pa.Column:
    """Text."""
    return pa.Column(str, list(checks), nullable=nullable, unique=unique)


def number(*checks: pa.Check, nullable: bool = False) -> pa.Column:
    """A floating number; whole ones are taken too."""
    return pa.Column(float, list(checks), nullable=nullable, coerce=True)


def whole(*checks: pa.Check) -> pa.Column:
    """A whole number, always known."""
    return pa.Column("int64", list(checks), coerce=True)


def scores(*names: str) -> dict[str, pa.Column]:
    """R2 of each measure, with its 95 % interval."""
    return {f"{n}_{part}": number(nullable=True) for n in names for part in ("r2", "low", "high")}


def ranged(name: str, *checks: pa.Check) -> dict[str, pa.Column]:
    """A figure that may be unknown, with its 95 % interval."""
    return {column: number(*checks, nullable=True) for column in (name, f"{name}_low", f"{name}_high")}
