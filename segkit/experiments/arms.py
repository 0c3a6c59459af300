"""Read an experiment made anywhere: a table with an arm, outcomes and what was known before, one row a customer."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from segkit.data.contract import AS_WRITTEN, typed_view
from segkit.data.draft import file_spec
from segkit.data.expressions import quote
from segkit.data.readers import open_file, resolve_paths
from segkit.data.sources import connect
from segkit.data.spec import FileSpec
from segkit.data.values import FALSE, TRUE, is_time_like
from segkit.errors import InputError
from segkit.format import FLOOR, joined
from segkit.vocabulary import EVERYONE

BINARY, COUNT, MONEY = "binary", "count", "money"
KIND_WORDS = {BINARY: "yes or no", COUNT: "a count", MONEY: "an amount"}
ARM_NAMES = ("arm", "variant", "variation", "treatment", "treated", "group", "testgroup", "cell", "bucket", "segment")
ID_NAMES = ("customerid", "userid", "customer", "user", "clientid", "memberid", "subscriberid", "email", "id")
OUTCOME_NAMES = (
    *("visit", "conver", "spend", "spent", "revenue", "sales", "order", "purchase", "bought", "amount", "outcome"),
    *("click", "open", "response", "respond", "target", "churn", "renew", "unsubscri", "complain", "return", "kpi"),
)
BEFORE_NAMES = ("before", "prior", "past", "pre", "history", "last", "recency", "previous", "age", "since", "tenure")
GUARD_NAMES = ("unsubscri", "complain", "churn", "return", "refund", "optout", "spam")
CONTROL = re.compile(
    r"(?i)(.*[_ -])?(control|ctrl|hold[ _-]?out|none|placebo|untreated|baseline|no[ _-].*|no|off|false|0)([_ -].*)?"
)
SENT_NAMES = ("assigned", "sent", "treated", "exposed", "enrolled")
HAPPENED_NAMES = ("converted", "ordered", "outcome")
MOST_ARMS, MOST_SEGMENTS, MOST_LEVELS = 12, 40, 12
MOST_COVARIATES = 20


@dataclass(frozen=True)
class Outcome:
    """One outcome of an experiment: its column, its kind (binary, count or money) and whether it is a guardrail."""

    name: str
    kind: str
    is_guard: bool = False

    @property
    def unit(self) -> str:
        """The unit in which pages format it."""
        return {BINARY: "share", COUNT: "orders", MONEY: "money"}[self.kind]


@dataclass(frozen=True)
class Experiment:
    """A randomised experiment, one row a customer.

    Parameters
    ----------
    arm, segment
        Of each customer; the segment is "all" where none are asked for.
    values
        Customers x outcomes; missing where it was not recorded.
    before
        Customers x covariates known before the treatment, as numbers.
    control, arms
        The arm to compare with, and the others.
    outcomes
        What was measured.
    cluster
        Household of each customer; None where each counts for one.
    early
        Outcomes that are dated before the treatment; None where nothing is dated.
    notes
        What was guessed or left out, as sentences.
    """

    arm: pd.Series
    segment: pd.Series
    values: pd.DataFrame
    before: pd.DataFrame
    control: str
    arms: tuple[str, ...]
    outcomes: tuple[Outcome, ...]
    cluster: pd.Series | None = None
    early: int | None = None
    notes: list[str] = field(default_factory=list)


def read_experiment(
    path: str | Path,
    *,
    arm: str = "",
    control: str = "",
    kpis: Sequence[str] = (),
    guards: Sequence[str] = (),
    segments: str | pd.Series | None = None,
    household: str = "",
) -> Experiment:
    """Read a table with one row a customer: the arm, outcomes, and what was known before.

    Parameters
    ----------
    path
        A file of text, JSON, Parquet or a workbook.
    arm, control
        Column of the arm, and the arm to compare with; guessed from their names by default.
    kpis, guards
        Columns of outcomes; those of guards should not get worse. Guessed by default.
    segments
        Column to break effects down by, or the segment by customer id; None does not break down.
    household
        Column of what customers share, such as an address: they count as one.

    Raises
    ------
    InputError
        Columns are missing or cannot be guessed, an outcome is no number or the same for all, a customer is there
        twice, or an arm is too small.
    SourceError
        The file cannot be read.
    """
    file = Path(path)
    if not file.is_file():
        raise InputError(f"{path}: no such file. Give a table with one row a customer: the arm and its outcomes.")
    table, wrong = _load(file)
    asked = {"arm": [arm], "kpi": kpis, "guard": guards, "household": [household]}
    asked["segment-by"] = [segments] if isinstance(segments, str) else []
    for option, names in asked.items():
        _refuse_unknown(names, table=table, option=option, label=file.name)
    named = {name for names in asked.values() for name in names}
    id_column = _id_column(table, skip=named)
    arm = arm or _arm_column(table, skip={*kpis, *guards, id_column}, label=file.name)
    table = _clean_arms(table, arm=arm, label=file.name)
    notes = table.attrs["notes"]
    control = _control(table[arm], given=control, label=file.name)
    _refuse_repeats(table, id_column=id_column, arm=arm, label=file.name)
    table, arms = _large_arms(table, arm=arm, control=control, label=file.name, notes=notes)
    others = [name for name in table if name not in {arm, id_column, household, *asked["segment-by"]}]
    outcomes = _outcomes(table[others], kpis=kpis, guards=guards, arm=arm, columns=list(table), label=file.name)
    values = {one.name: _numbers(table, one.name, wrong=wrong, label=file.name) for one in outcomes}
    kept = _kept_outcomes(values, outcomes=outcomes, label=file.name, notes=notes)
    rest = [name for name in others if name not in values]
    return Experiment(
        arm=table[arm].rename("arm"),
        segment=_segments(table, segments=segments, id_column=id_column, label=file.name, notes=notes),
        values=pd.DataFrame({one.name: values[one.name] for one in kept}),
        before=_covariates(table[rest]),
        control=control,
        arms=arms,
        outcomes=kept,
        cluster=table[household].rename("household") if household else None,
        early=_early_outcomes(table[rest]),
        notes=notes,
    )


def _load(file: Path) -> tuple[pd.DataFrame, dict[str, list[str]]]:
    """Read a table of any kind, and the texts among the numbers of each column, which could not be read."""
    con, base = connect(), file.parent.resolve()
    resolve_paths(FileSpec(path=file.name), base=base)
    spec = file_spec(file)
    text = {"arms": spec} if open_file(spec, base=base, name="arms", con=con) else {}
    view = typed_view("arms", text=text, con=con)
    rows = con.con.execute(f"select * from {quote(view)}").df()
    if rows.empty:
        raise InputError(f"{file.name}: it holds no rows. Check the export.")
    written = [str(name) for name in rows if str(name).endswith(AS_WRITTEN)]
    wrong = {}
    for name in written:
        texts = rows[name].astype("string").str.strip()
        typed = name.removesuffix(AS_WRITTEN)
        wrong[typed] = texts[rows[typed].isna() & texts.notna() & (texts != "")].tolist()
    return rows.drop(columns=written), wrong


def _refuse_unknown(names: Iterable[str], *, table: pd.DataFrame, option: str, label: str) -> None:
    unknown = [name for name in names if name and name not in table]
    if unknown:
        raise InputError(
            f"--{option} {unknown[0]}: {label} has no such column. It has {', '.join(map(str, table.columns))}."
        )


def _plain(name: object) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def _has(name: object, words: Iterable[str]) -> bool:
    return any(word in _plain(name) for word in words)


def _id_column(table: pd.DataFrame, *, skip: set[str]) -> str:
    """Find the column of customer ids by its name, or "" where there is none."""
    found = [name for word in ID_NAMES for name in table if _plain(name) == word and name not in skip]
    return found[0] if found else ""


def _arm_column(table: pd.DataFrame, *, skip: set[str], label: str) -> str:
    """Find the column of the arm: by its name, or as the only one that holds a control."""
    few = [name for name in table if name not in skip and 2 <= table[name].nunique() <= MOST_ARMS]
    named = [name for word in ARM_NAMES for name in few if _plain(name) in (word, f"{word}name", f"test{word}")]
    clear = [name for name in few if _has_control(table[name]) and not pd.api.types.is_numeric_dtype(table[name])]
    both = [name for name in named if name in clear]
    for found in (both, named, clear if len(clear) == 1 else []):
        if found:
            return str(found[0])
    constant = [name for name in table if _has(name, ARM_NAMES) and table[name].nunique() == 1]
    if constant:
        raise InputError(
            f"{label}: column '{constant[0]}' holds one arm only. An effect needs customers who were left alone: give "
            "a table with a control."
        )
    raise InputError(
        f"{label}: which column holds the arm? Name it with --arm-column. It has {', '.join(map(str, table.columns))}."
    )


def _has_control(values: pd.Series) -> bool:
    return sum(bool(CONTROL.fullmatch(str(value).strip())) for value in values.dropna().unique()) == 1


def _clean_arms(table: pd.DataFrame, *, arm: str, label: str) -> pd.DataFrame:
    """Return the rows that have an arm, written as text, with a note on the others."""
    missing = table[arm].isna() | (table[arm].astype(str).str.strip() == "")
    kept = table[~missing].reset_index(drop=True)
    names = kept[arm].map(lambda value: str(int(value)) if isinstance(value, float) and value.is_integer() else value)
    kept = kept.assign(**{arm: names.astype(str).str.strip()})
    kept.attrs["notes"] = [f"{int(missing.sum()):,} rows without an arm were left out."] if missing.any() else []
    found = kept[arm].nunique()
    if found == 1:
        raise InputError(
            f"{label}: everyone is in arm '{kept[arm].iloc[0]}'. An effect needs customers who were left alone: give a "
            "table with a control."
        )
    if found > MOST_ARMS:
        raise InputError(
            f"{label}: column '{arm}' has {found:,} values, too many for arms. Name another with --arm-column."
        )
    return kept


def _control(arms: pd.Series, *, given: str, label: str) -> str:
    """Choose the arm to compare with: as given, or the only one with the name of a control."""
    names = sorted(arms.unique())
    if given:
        if given not in names:
            raise InputError(f"--control {given}: there is no such arm. There are {joined(names)}.")
        return given
    found = [name for name in names if CONTROL.fullmatch(name)]
    if len(found) == 1:
        return found[0]
    raise InputError(f"{label}: which arm is the control? Name it with --control. There are {joined(names)}.")


def _refuse_repeats(table: pd.DataFrame, *, id_column: str, arm: str, label: str) -> None:
    if not id_column:
        return
    ids = table[id_column].dropna()
    arms = table.loc[ids.index].groupby(ids)[arm].nunique()
    if (arms > 1).any():
        raise InputError(
            f"{label}: {int((arms > 1).sum()):,} customers are in more than one arm. Leave them out, or give the arm "
            "that each was assigned to first."
        )
    repeated = int(ids.duplicated().sum())
    if repeated:
        raise InputError(
            f"{label}: {repeated:,} rows repeat a customer of column '{id_column}'. Give one row a customer, with the "
            "sum of each outcome."
        )


def _large_arms(
    table: pd.DataFrame, *, arm: str, control: str, label: str, notes: list[str]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Leave out arms of few customers; a control of few is refused."""
    sizes = table[arm].value_counts()
    if sizes[control] < FLOOR:
        raise InputError(
            f"{label}: only {sizes[control]} customers are in the control '{control}'. Fewer than {FLOOR} show nothing."
        )
    small = sorted(name for name in sizes.index if sizes[name] < FLOOR)
    arms = tuple(sorted(name for name in sizes.index if name != control and name not in small))
    if not arms:
        raise InputError(
            f"{label}: no arm but the control has {FLOOR} customers or more: {joined(small)} shows nothing."
        )
    notes += [f"Arm '{name}' was left out: it has {sizes[name]} customers, and {FLOOR} are needed." for name in small]
    kept = table[~table[arm].isin(small)].reset_index(drop=True)
    kept.attrs["notes"] = notes
    return kept, arms


def _outcomes(
    table: pd.DataFrame, *, kpis: Sequence[str], guards: Sequence[str], arm: str, columns: list[str], label: str
) -> tuple[Outcome, ...]:
    """List the outcomes as given, or guess them: by their names, else the numbers after the arm."""
    names = list(kpis)
    if not names:
        names = [name for name in table if _is_outcome(table[name], name=name) and not _has(name, GUARD_NAMES)]
    if not names:
        after = columns[columns.index(arm) + 1 :]
        names = [n for n in after if n in table and _is_numeric(table[n]) and not _has(n, (*BEFORE_NAMES, "id"))]
    watched = [*guards] or [n for n in table if _is_outcome(table[n], name=n) and _has(n, GUARD_NAMES)] * (not kpis)
    watched = [name for name in watched if name not in names]
    if not names:
        numeric = [name for name in table if _is_numeric(table[name])]
        raise InputError(
            f"{label}: which columns are outcomes? Name them with --kpi. Numbers are in: {joined(numeric) or 'none'}."
        )
    return (
        *(Outcome(name, kind=_kind(table[name])) for name in names),
        *(Outcome(name, kind=_kind(table[name]), is_guard=True) for name in watched),
    )


def _is_outcome(values: pd.Series, *, name: str) -> bool:
    return _has(name, OUTCOME_NAMES) and not _has(name, BEFORE_NAMES) and _is_numeric(values)


def _is_numeric(values: pd.Series) -> bool:
    if pd.api.types.is_numeric_dtype(values):
        return True
    words = {str(value).strip().lower() for value in values.dropna().unique()[:10]}
    return bool(words) and words <= {*TRUE, *FALSE}


def _kind(values: pd.Series) -> str:
    filled = values.dropna()
    if not pd.api.types.is_numeric_dtype(filled) or filled.isin((0, 1)).all():
        return BINARY
    return COUNT if (filled % 1 == 0).all() and (filled >= 0).all() and filled.nunique() <= 200 else MONEY


def _numbers(table: pd.DataFrame, name: str, *, wrong: Mapping[str, list[str]], label: str) -> pd.Series:
    """Return an outcome as numbers, missing where nothing is written; a word among them is refused."""
    values, texts = table[name], list(wrong.get(name, []))
    if pd.api.types.is_numeric_dtype(values):
        found = values.astype(float)
        texts += found[found.abs() == float("inf")].astype(str).tolist()
    else:
        words = values.astype("string").str.strip().str.lower()
        found = words.map({**dict.fromkeys(TRUE, 1.0), **dict.fromkeys(FALSE, 0.0)}).astype(float)
        texts += values[found.isna() & words.notna() & (words != "")].astype(str).tolist()
    if texts:
        raise InputError(
            f"{label}: {len(texts):,} values of '{name}' are not numbers, such as {texts[0]!r}. Correct them, or leave "
            "the cell empty where nothing was recorded."
        )
    return found


def _kept_outcomes(
    values: Mapping[str, pd.Series], *, outcomes: tuple[Outcome, ...], label: str, notes: list[str]
) -> tuple[Outcome, ...]:
    """Leave out outcomes that are the same for everyone."""
    kept = tuple(one for one in outcomes if values[one.name].nunique() > 1)
    gone = [one.name for one in outcomes if one not in kept]
    if not any(not one.is_guard for one in kept):
        raise InputError(
            f"{label}: {joined(gone)} has the same value for every customer, so no arm can differ. Check the export."
        )
    notes += [f"'{name}' was left out: it has the same value for every customer." for name in gone]
    return kept


def _segments(
    table: pd.DataFrame, *, segments: str | pd.Series | None, id_column: str, label: str, notes: list[str]
) -> pd.Series:
    if segments is None or (isinstance(segments, str) and not segments):
        return pd.Series(EVERYONE, index=table.index, name="segment")
    if isinstance(segments, str):
        found = table[segments].astype("string").str.strip()
        if found.nunique() > MOST_SEGMENTS:
            raise InputError(
                f"--segment-by {segments}: it has {found.nunique():,} values, and {MOST_SEGMENTS} can be read. "
                "Group them first."
            )
    else:
        if not id_column:
            raise InputError(
                f"{label}: no column holds customer ids, so the segments of a run cannot be found. Add customer_id."
            )
        found = table[id_column].astype("string").map(segments).astype("string")
    known = found.notna() & (found != "")
    if not known.any():
        raise InputError(f"{label}: none of its customers has a segment. Check that the ids are those of the run.")
    if not known.all():
        missing = f"{int((~known).sum()):,} of {len(table):,} customers"
        notes.append(f"{missing} have no segment; they count in the total only.")
    return found.where(known, "").astype(str).rename("segment")


def _covariates(table: pd.DataFrame) -> pd.DataFrame:
    """Return what was known before as numbers: numbers as they are, words of few levels as flags."""
    parts: dict[str, pd.Series] = {}
    for name in table:
        values = table[name]
        if _has(name, OUTCOME_NAMES) and not _has(name, BEFORE_NAMES):
            continue  # it may have been measured after the treatment
        if pd.api.types.is_bool_dtype(values) or pd.api.types.is_numeric_dtype(values):
            if values.nunique() > 1 and not (_plain(name).endswith("id") and values.is_unique):
                parts[str(name)] = values.astype(float)
        elif 2 <= values.nunique() <= MOST_LEVELS:
            for level in sorted(map(str, values.dropna().unique()))[1:]:
                parts[f"{name}: {level}"] = (values.astype(str) == level).astype(float)
    chosen = dict(list(parts.items())[:MOST_COVARIATES])
    found = pd.DataFrame(chosen, index=table.index)
    return found.fillna(found.mean())


def _early_outcomes(table: pd.DataFrame) -> int | None:
    """Count outcomes that are dated before the treatment; None where the table has no such pair of dates."""
    dates = {}
    for role, words in (("sent", SENT_NAMES), ("happened", HAPPENED_NAMES)):
        for name in table:
            values = table[name]
            is_date = pd.api.types.is_datetime64_any_dtype(values)
            texts = [str(value) for value in values.dropna().head(50)]
            if role not in dates and _has(name, words) and (is_date or (texts and is_time_like(texts))):
                dates[role] = pd.to_datetime(values, errors="coerce")
    if len(dates) < 2:
        return None
    return int((dates["happened"] < dates["sent"]).sum())
