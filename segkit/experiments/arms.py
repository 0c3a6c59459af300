"""Read an experiment made anywhere: a table with an arm, outcomes and what was known before, one row a customer."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from segkit.data.arm_columns import (
    ARM_WORDS,
    BINARY,
    COUNT,
    MONEY,
    MOST_ARMS,
    find_arms,
    is_before,
    is_control,
    is_outcome,
    outcome_kind,
)
from segkit.data.contract import AS_WRITTEN, column_types, typed_view
from segkit.data.draft import file_spec
from segkit.data.expressions import quote
from segkit.data.guesses import words_in_name
from segkit.data.readers import open_file, resolve_paths
from segkit.data.sources import connect, open_source
from segkit.data.spec import FileSpec
from segkit.data.values import FALSE, TRUE, is_number, is_time_like
from segkit.errors import InputError
from segkit.format import FLOOR, joined, suppressed_cells
from segkit.vocabulary import EVERYONE

ID_NAMES = ("customerid", "userid", "customer", "user", "clientid", "memberid", "subscriberid", "email", "id")
HOUSEHOLD_NAMES = ("household", "householdid", "address", "addressid", "haushalt", "adresse")
GUARD = re.compile("unsubscri|complain|churn|return|refund|opt_?out|spam")
NONE = re.compile(r"(?i)none|no[ _-].*|no|off|false|0|baseline")  # a control where the column is known to be the arm
SENT = re.compile("assigned|sent|treated|exposed|enrolled|mailed")
HAPPENED = re.compile("converted|ordered|outcome|bought|purchased|visited")
MOST_SEGMENTS, MOST_LEVELS = 40, 12
MOST_COVARIATES = 20
MIN_FILLED = 0.5  # share of customers whose value of a covariate must be known
UNITS = {BINARY: "share", COUNT: "orders", MONEY: "money"}


@dataclass(frozen=True)
class Outcome:
    """One outcome of an experiment: its column, its kind (binary, count or money) and whether it is a guardrail."""

    name: str
    kind: str
    is_guard: bool = False

    @property
    def unit(self) -> str:
        """The unit in which pages format it."""
        return UNITS[self.kind]


@dataclass(frozen=True)
class Note:
    """What was guessed or left out when a table was read: a sentence of the page, and its facts."""

    name: str
    facts: dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """A randomised experiment, one row a customer.

    Parameters
    ----------
    label
        Name of the table.
    arm, segment
        Of each customer; the segment is "all" where none are asked for, and "" where a customer has none.
    values
        Customers x outcomes; missing where it was not recorded.
    before
        Customers x covariates known before the treatment, as numbers.
    control, arms
        The arm to compare with, and the others.
    outcomes
        What was measured, the most important first.
    cluster
        Household of each customer; None where each counts for one.
    other_tests
        Customers x columns: the arms of other experiments on the same customers.
    early
        Customers with an outcome that is dated before the treatment; None where nothing is dated.
    notes
        What was guessed or left out.
    """

    label: str
    arm: pd.Series
    segment: pd.Series
    values: pd.DataFrame
    before: pd.DataFrame
    control: str
    arms: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    cluster: pd.Series | None = None
    other_tests: pd.DataFrame = field(default_factory=pd.DataFrame)
    early: int | None = None
    notes: tuple[Note, ...] = ()

    @property
    def has_segments(self) -> bool:
        """Whether effects are broken down by segment."""
        return bool((self.segment != EVERYONE).any())


@dataclass(frozen=True)
class ArmTable:
    """A table as it was read: its rows, the type of each column, and the texts that are no numbers."""

    label: str
    rows: pd.DataFrame
    kinds: dict[str, str]
    wrong: dict[str, list[str]]
    notes: list[Note] = field(default_factory=list)

    def kind_of(self, name: str) -> str | None:
        """Return whether a column can be an outcome: binary, count or money; None where it cannot."""
        return outcome_kind(name, values=_texts(self.rows[name]), kind=self.kinds[name])

    def having(self, rows: pd.DataFrame) -> "ArmTable":
        """Return the table with other rows."""
        return ArmTable(self.label, rows=rows, kinds=self.kinds, wrong=self.wrong, notes=self.notes)

    def renamed(self, column: str) -> "ArmTable":
        """Return the table with the name customer_id for a column."""
        kinds = {"customer_id" if name == column else name: kind for name, kind in self.kinds.items()}
        rows = self.rows.rename(columns={column: "customer_id"})
        return ArmTable(self.label, rows=rows, kinds=kinds, wrong=self.wrong, notes=self.notes)


def read_experiment(
    path: str | Path,
    *,
    arm: str = "",
    control: str = "",
    kpis: Sequence[str] = (),
    guards: Sequence[str] = (),
    before: Sequence[str] = (),
    segments: str | pd.Series | None = None,
    household: str = "",
) -> Experiment:
    """Read a table with one row a customer: the arm, outcomes, and what was known before.

    Parameters
    ----------
    path
        A file of text, JSON, Parquet or a workbook, or a source with a table of customers.
    arm, control
        Column of the arm, and the arm to compare with; guessed by default.
    kpis, guards
        Columns of outcomes, the most important first; those of guards should not rise. Guessed by default.
    before
        Columns that were known before the treatment, also those to the right of the arm.
    segments
        Column to break effects down by, or the segment by customer id; None does not break down.
    household
        Column of what customers share, such as an address: they count as one. Guessed by default.

    Raises
    ------
    InputError
        Columns are missing or cannot be guessed, an outcome is no number or the same for all, a customer is there
        twice, or an arm is too small.
    SourceError
        The file cannot be read.
    """
    table = load_arm_table(path)
    by_column = segments if isinstance(segments, str) else ""
    asked = {"arm-column": [arm], "kpi": kpis, "guard": guards, "before": before, "household": [household]}
    for option, names in (asked | {"segment-by": [by_column]}).items():
        _refuse_unknown(names, table=table, option=option)
    _refuse_double(before, outcomes=(*kpis, *guards))
    id_column = _id_column(table.rows, skip={name for names in asked.values() for name in names})
    arm = arm or _arm_column(table, skip={*kpis, *guards, *before, by_column, id_column})
    table = _with_clean_arms(table, arm=arm)
    control = _control(table, arm=arm, given=control)
    _refuse_repeats(table, id_column=id_column, arm=arm)
    table, arms = _with_large_arms(table, arm=arm, control=control)
    household = household or _household_column(table.rows)
    others = [name for name in table.rows if name not in {arm, id_column, household, by_column, *before}]
    outcomes = _outcomes(table, names=others, kpis=kpis, guards=guards, arm=arm)
    values = {one.name: _numbers(table, one.name) for one in outcomes}
    kept = _kept_outcomes(values, outcomes=outcomes, table=table)
    rest = [name for name in others if name not in values]
    tests = [name for name in rest if sum(map(is_control, _texts(table.rows[name]))) == 1 and _is_few(table.rows[name])]
    segment = _segments(table, segments=segments, id_column=id_column, arm=arm)
    return Experiment(
        label=table.label,
        arm=table.rows[arm],
        segment=segment,
        values=pd.DataFrame({one.name: values[one.name] for one in kept}),
        before=_covariates(table, names=[name for name in rest if name not in tests], given=before, arm=arm),
        control=control,
        arms=arms,
        outcomes=kept,
        cluster=table.rows[household].rename(household) if household else None,
        other_tests=table.rows[tests],
        early=_early_outcomes(table.rows[rest]),
        notes=tuple(table.notes),
    )


def load_arm_table(path: str | Path) -> ArmTable:
    """Read a table of any kind, and the texts among the numbers of each column, which could not be read.

    `path`: a file, or the YAML of a source, whose table of customers is read with all its columns, also those without a
    role; customers who were erased are left out.

    Raises
    ------
    InputError
        There is no such file, it holds no rows, or the source has no table of customers.
    SourceError
        The file cannot be read.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{path}: no such file. Give a table with one row a customer: the arm and its outcomes.")
    if file.suffix.lower() in (".yaml", ".yml"):
        return _load_from_source(file)
    resolve_paths(FileSpec(path=file.name), base=file.parent.resolve())
    return _read_table(file_spec(file), base=file.parent.resolve(), label=file.name)


def _load_from_source(file: Path) -> ArmTable:
    """Read the table of customers of a source as a table of arms."""
    source = open_source(str(file))
    spec = source.customers
    if spec is None:
        raise InputError(
            f"{file.name}: this source has no table of customers, and an arm is drawn for each customer. Add customers "
            "with the arm and its outcomes, or give the table itself."
        )
    table = _read_table(spec, base=source.base, label=file.name)
    own = spec.columns["customer_id"].strip('"')
    if own not in table.rows:
        raise InputError(f"{file.name}: customer_id is made by a formula ({own}). Give the table itself to --arms.")
    erased = table.rows[own].map(_as_text, na_action="ignore").map(source.privacy.is_erased, na_action="ignore")
    return table.having(table.rows[~erased.fillna(False).astype(bool)].reset_index(drop=True)).renamed(own)


def _read_table(spec: FileSpec, *, base: Path, label: str) -> ArmTable:
    """Read a table with the types that its values have."""
    con = connect()
    text = {"arms": spec} if open_file(spec, base=base, name="arms", con=con) else {}
    view = typed_view("arms", text=text, con=con)
    kinds = {str(name): kind for name, kind in column_types(view, con=con).items() if not name.endswith(AS_WRITTEN)}
    rows = con.con.execute(f"select * from {quote(view)}").df()
    if rows.empty:
        raise InputError(f"{label}: it holds no rows. Check the export.")
    written = [str(name) for name in rows if str(name).endswith(AS_WRITTEN)]
    wrong = {}
    for name in written:
        texts = rows[name].astype("string").str.strip()
        typed = name.removesuffix(AS_WRITTEN)
        wrong[typed] = texts[rows[typed].isna() & texts.notna() & (texts != "")].tolist()
        if _plain(typed) in ID_NAMES:
            rows[typed] = texts  # ids keep their leading zeros
    return ArmTable(label, rows=rows.drop(columns=written), kinds=kinds, wrong=wrong)


def _refuse_unknown(names: Iterable[str], *, table: ArmTable, option: str) -> None:
    unknown = [name for name in names if name and name not in table.rows]
    if unknown:
        has = ", ".join(map(str, table.rows.columns))
        raise InputError(f"--{option} {unknown[0]}: {table.label} has no such column. It has {has}.")


def _refuse_double(before: Sequence[str], *, outcomes: Sequence[str]) -> None:
    both = [name for name in before if name in outcomes]
    if both:
        raise InputError(
            f"--before {both[0]}: it is an outcome too. A column was measured before or after: name it once."
        )


def _plain(name: object) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def _texts(values: pd.Series) -> set[str]:
    """Return the different values of a column as text, whole numbers without decimals."""
    return {_as_text(value) for value in values.dropna().unique()}


def _as_text(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value).strip()


def _is_few(values: pd.Series) -> bool:
    return 2 <= values.nunique() <= MOST_ARMS


def _id_column(rows: pd.DataFrame, *, skip: set[str]) -> str:
    """Find the column of customer ids by its name, or "" where there is none."""
    found = [name for word in ID_NAMES for name in rows if _plain(name) == word and name not in skip]
    return found[0] if found else ""


def _household_column(rows: pd.DataFrame) -> str:
    """Find the column of a household that some customers share, or "" where there is none."""
    found = [name for name in rows if _plain(name) in HOUSEHOLD_NAMES and rows[name].dropna().duplicated().any()]
    return found[0] if found else ""


def _arm_column(table: ArmTable, *, skip: set[str]) -> str:
    """Find the column of the arm: as `segkit check` does, or else by its name, or as the only one with a control."""
    own = [name for name in table.rows if name not in skip]
    few = [name for name in own if _is_few(table.rows[name])]
    found = find_arms({n: _texts(table.rows[n]) for n in own}, kinds={n: table.kinds[n] for n in own})
    if found:
        return found.arm
    named = [name for name in few if words_in_name(name) & ARM_WORDS]
    clear = [name for name in few if sum(map(is_control, _texts(table.rows[name]))) == 1]
    for names in ([one for one in named if one in clear], named, clear if len(clear) == 1 else []):
        if names:
            return names[0]
    constant = [name for name in own if words_in_name(name) & ARM_WORDS and table.rows[name].nunique() == 1]
    if constant:
        raise InputError(_one_arm(table, arm=_as_text(table.rows[constant[0]].dropna().iloc[0])))
    raise InputError(
        f"{table.label}: which column holds the arm? Name it with --arm-column. It has {', '.join(own) or 'none'}."
    )


def _one_arm(table: ArmTable, *, arm: str) -> str:
    return (
        f"{table.label}: everyone is in arm '{arm}'. An effect needs customers who were left alone: give a table with "
        "a control."
    )


def _with_clean_arms(table: ArmTable, *, arm: str) -> ArmTable:
    """Return the rows that have an arm, written as text, with a note on the others."""
    missing = table.rows[arm].isna() | (table.rows[arm].astype(str).str.strip() == "")
    kept = table.rows[~missing].reset_index(drop=True)
    kept = kept.assign(**{arm: kept[arm].map(_as_text).astype(str)})
    if missing.any():
        table.notes.append(Note("no_arm", {"customers": int(missing.sum()), "column": arm}))
    found = kept[arm].nunique()
    if found <= 1:
        raise InputError(_one_arm(table, arm=kept[arm].iloc[0] if len(kept) else ""))
    if found > MOST_ARMS:
        raise InputError(
            f"{table.label}: column '{arm}' has {found:,} values, too many for arms. Name another with --arm-column."
        )
    return table.having(kept)


def _control(table: ArmTable, *, arm: str, given: str) -> str:
    """Choose the arm to compare with: as given, or the only one with the name of a control."""
    names = sorted(table.rows[arm].unique())
    if given:
        if given not in names:
            raise InputError(f"--control {given}: there is no such arm. There are {joined(names)}.")
        return given
    for found in ([n for n in names if is_control(n)], [n for n in names if NONE.fullmatch(n)]):
        if len(found) == 1:
            table.notes.append(Note("columns", {"arm": arm, "control": found[0]}))
            return found[0]
    raise InputError(f"{table.label}: which arm is the control? Name it with --control. There are {joined(names)}.")


def _refuse_repeats(table: ArmTable, *, id_column: str, arm: str) -> None:
    """Refuse a table in which a customer has several rows."""
    if not id_column:
        return
    ids = table.rows[id_column].dropna()
    arms = table.rows.loc[ids.index].groupby(ids)[arm].nunique()
    repeated, mixed = int(ids.duplicated().sum()), int((arms > 1).sum())
    if mixed and repeated > 0.1 * len(ids):
        raise InputError(
            f"{table.label}: {mixed:,} of {len(arms):,} customers have rows in more than one arm, so the arm was drawn "
            "for each row (order or visit), not for each customer. Draw it for each customer, and give one row a "
            "customer."
        )
    if mixed:
        raise InputError(
            f"{table.label}: {mixed:,} customers are in more than one arm. Leave them out, or give the arm that each "
            "was assigned to first."
        )
    if repeated:
        raise InputError(
            f"{table.label}: {repeated:,} rows repeat a customer of column '{id_column}', as a table of orders does. "
            "Give one row a customer, with the sum of each outcome."
        )


def _with_large_arms(table: ArmTable, *, arm: str, control: str) -> tuple[ArmTable, tuple[str, ...]]:
    """Leave out arms of few customers; a control of few is refused."""
    sizes = table.rows[arm].value_counts()
    if sizes[control] < FLOOR:
        raise InputError(
            f"{table.label}: only {sizes[control]} customers are in the control '{control}'. Fewer than {FLOOR} show "
            "nothing: give more, or another --control."
        )
    small = sorted(name for name in sizes.index if sizes[name] < FLOOR)
    arms = tuple(sorted(name for name in sizes.index if name != control and name not in small))
    if not arms:
        fewer = joined([f"'{name}' ({sizes[name]})" for name in small])
        raise InputError(
            f"{table.label}: no arm but the control '{control}' has {FLOOR} customers: {fewer}. So few show nothing: "
            "run the test with more."
        )
    table.notes.extend(Note("small_arm", {"arm": name}) for name in small)
    return table.having(table.rows[~table.rows[arm].isin(small)].reset_index(drop=True)), arms


def _outcomes(
    table: ArmTable, *, names: Sequence[str], kpis: Sequence[str], guards: Sequence[str], arm: str
) -> tuple[Outcome, ...]:
    """List the outcomes as given, or guess them: by their names, else the numbers to the right of the arm."""
    kinds = {name: table.kind_of(name) for name in dict.fromkeys((*names, *kpis, *guards))}
    named = [name for name in names if kinds[name] and is_outcome(name)]
    chosen = list(kpis) or [name for name in named if not GUARD.search(name.lower()) and name not in guards]
    if not chosen:
        right = list(table.rows.columns)[list(table.rows.columns).index(arm) + 1 :]
        chosen = [n for n in right if n in names and kinds[n] and not is_before(n) and n not in guards]
    if not chosen:
        numeric = [name for name in names if kinds[name]]
        raise InputError(
            f"{table.label}: which columns are outcomes? Name them with --kpi. Numbers are in: "
            f"{joined(numeric) or 'none'}."
        )
    if not kpis:
        order = {MONEY: 0, BINARY: 1, COUNT: 2}
        chosen = sorted(chosen, key=lambda name: order[kinds[name]])
        table.notes.append(Note("guessed_kpis", {"kpis": chosen}))
    watched = list(guards) or [n for n in named if GUARD.search(n.lower())] * (not kpis)
    return (
        *(Outcome(name, kind=kinds[name] or MONEY) for name in dict.fromkeys(chosen)),
        *(Outcome(name, kind=kinds[name] or MONEY, is_guard=True) for name in watched if name not in chosen),
    )


def _numbers(table: ArmTable, name: str) -> pd.Series:
    """Return an outcome as numbers, missing where nothing is written; a word among them is refused."""
    values, texts = table.rows[name], list(table.wrong.get(name, []))
    if pd.api.types.is_numeric_dtype(values):
        found = values.astype(float)
        texts += found[found.abs() == float("inf")].astype(str).tolist()
    else:
        words = values.astype("string").str.strip().str.lower()
        numbers = pd.to_numeric(words, errors="coerce").astype(float)
        flags = words.map({**dict.fromkeys(TRUE, 1.0), **dict.fromkeys(FALSE, 0.0)}).astype(float)
        found = numbers.where(numbers.notna(), flags)
        texts += values[found.isna() & words.notna() & (words != "")].astype(str).tolist()
    if texts:
        raise InputError(
            f"{table.label}: {len(texts):,} values of '{name}' are not numbers, such as {texts[0]!r}. Correct them, or "
            "leave the cell empty where nothing was recorded."
        )
    return found


def _kept_outcomes(
    values: Mapping[str, pd.Series], *, outcomes: tuple[Outcome, ...], table: ArmTable
) -> tuple[Outcome, ...]:
    """Leave out outcomes that are the same for everyone."""
    kept = tuple(one for one in outcomes if values[one.name].nunique() > 1)
    gone = [one.name for one in outcomes if one not in kept]
    if not any(not one.is_guard for one in kept):
        raise InputError(
            f"{table.label}: {joined(gone)} has the same value for every customer, so no arm can differ. Check the "
            "export."
        )
    table.notes.extend(Note("constant", {"kpi": name}) for name in gone)
    return kept


def _segments(table: ArmTable, *, segments: str | pd.Series | None, id_column: str, arm: str) -> pd.Series:
    """Return the segment of each customer; "" where there is none, or too few customers in an arm."""
    if segments is None or (isinstance(segments, str) and not segments):
        return pd.Series(EVERYONE, index=table.rows.index, name="segment")
    if isinstance(segments, str):
        found = table.rows[segments].map(_as_text, na_action="ignore").astype("string")
        if found.nunique() > MOST_SEGMENTS:
            raise InputError(
                f"--segment-by {segments}: it has {found.nunique():,} values, and {MOST_SEGMENTS} can be read. "
                "Group them first."
            )
    elif not id_column:
        raise InputError(
            f"{table.label}: no column holds customer ids, so the segments of a run cannot be found. Add customer_id."
        )
    else:
        found = table.rows[id_column].map(_as_text, na_action="ignore").map(segments).astype("string")
    found = found.fillna("").astype(str).replace(EVERYONE, f"{EVERYONE} ")
    if not (found != "").any():
        raise InputError(
            f"{table.label}: none of its customers has a segment. Check that the ids are those of the run."
        )
    if (found == "").any():
        table.notes.append(Note("no_segment", {"customers": int((found == "").sum()), "of": len(found)}))
    counts = pd.crosstab(found[found != ""], table.rows[arm]).min(axis=1)
    small = counts.index[suppressed_cells(counts.clip(lower=1))]
    if len(small):
        table.notes.append(Note("small_segments", {"segments": len(small)}))
    return found.mask(found.isin(small), "").rename("segment")


def _covariates(table: ArmTable, *, names: Sequence[str], given: Sequence[str], arm: str) -> pd.DataFrame:
    """Return what was known before as numbers: numbers as they are, words of few levels as flags.

    Columns to the left of the arm are taken as known before, and so are those whose name says it; others may have been
    measured after the treatment.
    """
    place = {name: number for number, name in enumerate(table.rows.columns)}
    known = [n for n in names if not is_outcome(n) and (is_before(n) or place[n] < place[arm])]
    parts: dict[str, pd.Series] = {}
    for name in dict.fromkeys((*given, *known)):
        parts |= _as_numbers(table.rows[name], name=name, is_numeric=is_number(table.kinds[name]))
    chosen = dict(list(parts.items())[:MOST_COVARIATES])
    used = [name for name in place if any(part == name or part.startswith(f"{name}: ") for part in chosen)]
    unused = [n for n in names if n not in used and n not in known and table.kind_of(n)]
    if used:
        table.notes.append(Note("covariates", {"columns": used}))
    if unused:
        table.notes.append(Note("unused", {"columns": unused}))
    found = pd.DataFrame(chosen, index=table.rows.index)
    return found.fillna(found.mean())


def _as_numbers(values: pd.Series, *, name: str, is_numeric: bool) -> dict[str, pd.Series]:
    """Write a covariate as numbers: itself, or a flag for each level but one; none where it is an id or a date."""
    texts = [str(value) for value in values.dropna().head(50)]
    if values.isna().mean() > 1 - MIN_FILLED or values.nunique() < 2:
        return {}
    if is_numeric or pd.api.types.is_bool_dtype(values):
        is_id = _plain(name).endswith("id") and values.nunique() == values.count()
        return {} if is_id else {name: values.astype(float)}
    if values.nunique() > MOST_LEVELS or pd.api.types.is_datetime64_any_dtype(values) or is_time_like(texts):
        return {}
    levels = sorted(map(str, values.dropna().unique()))[1:]
    return {f"{name}: {level}": (values.astype(str) == level).astype(float) for level in levels}


def _early_outcomes(rows: pd.DataFrame) -> int | None:
    """Count outcomes that are dated before the treatment; None where the table has no such pair of dates."""
    dates: dict[str, pd.Series] = {}
    for role, words in (("sent", SENT), ("happened", HAPPENED)):
        for name in rows:
            texts = [str(value) for value in rows[name].dropna().head(50)]
            is_date = pd.api.types.is_datetime64_any_dtype(rows[name]) or bool(texts and is_time_like(texts))
            if role not in dates and words.search(str(name).lower()) and is_date:
                dates[role] = pd.to_datetime(rows[name], errors="coerce")
    if len(dates) < 2:
        return None
    return int((dates["happened"] < dates["sent"]).sum())
