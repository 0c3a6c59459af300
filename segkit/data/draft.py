"""Draft the YAML of a source for a table that has none: what each column probably means, every guess marked."""

import codecs
import re
import shlex
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

import ibis
import yaml

from segkit.data.contract import AS_WRITTEN, LIST, column_types, sample_values, typed_view
from segkit.data.csv_files import (
    CSV_ENDINGS,
    PACKED_ENDINGS,
    detect_encoding,
    open_bytes,
    refuse_aligned,
    starts_with_data,
)
from segkit.data.expressions import columns_used, quote, sql_literal
from segkit.data.readers import CHUNK_BYTES, EXCEL_ENDINGS, JSON_ENDINGS, PARQUET_ENDINGS, open_file, resolve_paths
from segkit.data.related import Lookups, Related, look_up_related
from segkit.data.sources import connect
from segkit.data.spec import CONTRACT, LIST_COLUMNS, FileSpec
from segkit.data.values import ambiguous_date, is_number, is_time_like
from segkit.errors import SourceError

DRAFTED_ENDINGS = (*CSV_ENDINGS, *JSON_ENDINGS, *EXCEL_ENDINGS, *PARQUET_ENDINGS)
EXPORTS = Path(__file__).with_name("exports.yaml")
MAX_KINDS = 30  # most different values of a column that can be the kind of event
MIN_KINDS = 5  # fewest kinds of event by customers for which the kinds themselves are taken as needs
MANY_ROWS = 50  # from here on, a column with a different value in nearly every row is no category
NEARLY_UNIQUE = 0.9  # different values per row
NAME_HINTS = {  # words in the name of a raw column -> contract column, the surest first
    "customer_id": (
        "customerid customer custno cust client userid user member account household shopper buyer kunde "
        "contact subscriber visitor person email mail"
    ),
    "timestamp": "timestamp datetime date time created ordered when datum bestellt day at am",
    "order_id": "orderid invoice basket order receipt transaction ticket session bestell beleg bon",
    "event": "eventtype eventname event action activity type",
    "amount": "amount total revenue sales spend value paid betrag umsatz montant gross net sum",
    "price": "unitprice price preis prix",
    "quantity": "quantity qty units count menge pieces",
    "discount": "discount rebate rabatt",
    "cost": "cost cogs",
    "category": (
        "category department productgroup warengruppe kategorie description productname group feature page product "
        "genre genres tag tags topic topics"
    ),
    "item": "item sku stockcode productid article artikel ean upc",
    "channel": "channel kanal device platform store os",
    "campaign": "campaign utm promotion",
    "text": "comment review feedback message text note",
}
BIRTH_WORDS = ("birth", "dob", "geburt", "naissance")
CURRENCY_WORDS = ("currency", "ccy", "waehrung", "währung", "devise")
COMPANY_WORDS = ("sent", "send", "delivered", "shipped", "dispatched", "impression", "invoiced")
WRITE_BY_HAND = "Write a source by hand: name, timezone, events with path and columns."
LIST_SIGNS = {"|": 0.9, ";": 0.9, ",": 0.5}  # separator -> most different parts for each different text
NUMBER_HINTS = ("amount", "price", "quantity", "discount", "cost")


@dataclass(frozen=True)
class _Table:
    """A raw table: its columns with their types, texts of the first rows, and how many values each column has."""

    file: FileSpec
    view: str
    kinds: dict[str, str]
    samples: dict[str, list[str]]
    rows: int
    distinct: dict[str, int]
    lookups: Lookups
    con: ibis.BaseBackend = field(repr=False)

    def is_constant(self, name: str) -> bool:
        """Return whether a column has the same value in all of many rows."""
        return self.rows >= MANY_ROWS and self.distinct[name] <= 1

    def is_nearly_unique(self, name: str) -> bool:
        """Return whether nearly each of many rows has a value of its own."""
        return self.rows >= MANY_ROWS and self.distinct[name] > NEARLY_UNIQUE * self.rows


@dataclass
class _Draft:
    """What the YAML of a source will say: SQL by contract column, with notes on the guesses."""

    columns: dict[str, str]
    notes: dict[str, str] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)
    where: list[tuple[str, str]] = field(default_factory=list)  # condition and why
    known: str = ""  # name of the program that wrote the table


def draft_source(path: str) -> tuple[str, Path]:
    """Write a draft of a source for one table of events.

    Parameters
    ----------
    path
        A file of text, JSON, Parquet or a workbook.

    Returns
    -------
    tuple of str and Path
        The YAML and its path: the name of the table, in the same folder; an existing file is never overwritten.

    Raises
    ------
    SourceError
        No such file, a YAML file of that name exists, or no column looks like a customer or a time.
    """
    table = Path(path)
    target = table.with_suffix(".yaml")
    if target.exists():
        raise SourceError(f"{target} exists already. Run segkit check {target}, or move it away for a new draft.")
    raw = _open_table(table, con=connect())
    text = _yaml(raw, draft=_known_export(raw) or _guessed(raw))
    target.write_text(text, encoding="utf-8")
    return text, target


def _open_table(table: Path, *, con: ibis.BaseBackend) -> _Table:
    """Open a table and those in the same folder that a key joins to it, and look at its columns."""
    base = table.parent.resolve()
    resolve_paths(FileSpec(path=table.name), base=base)
    file = file_spec(table)
    view = typed_view(
        "draft", text={"draft": file} if open_file(file, base=base, name="draft", con=con) else {}, con=con
    )
    others = sorted(
        path
        for path in base.iterdir()
        if path.name.lower().endswith((*CSV_ENDINGS, *JSON_ENDINGS, *PARQUET_ENDINGS)) and path.name != table.name
    )
    view, lookups = look_up_related(view, others=others, file_spec=file_spec, label=table.name, con=con)
    kinds = {name: kind for name, kind in column_types(view, con=con).items() if not name.endswith(AS_WRITTEN)}
    texts = {name: f"cast({quote(name)} as varchar)" for name in kinds}
    samples = sample_values(texts, view=view, where="", label=table.name, con=con)
    counts = ", ".join(f"approx_count_distinct({text})" for text in texts.values())
    rows, *distinct = con.con.execute(f"select count(*), {counts} from {quote(view)}").fetchall()[0]
    if not rows:
        raise SourceError(f"{table.name}: it holds no rows. Check the export.")
    return _Table(
        file=file,
        view=view,
        kinds=kinds,
        samples=samples,
        rows=rows,
        distinct=dict(zip(kinds, distinct, strict=True)),
        lookups=lookups,
        con=con,
    )


def file_spec(table: Path) -> FileSpec:
    """Describe a file: its encoding, and whether its first line names the columns.

    Raises `SourceError`: its columns are aligned by spaces.
    """
    file = FileSpec(path=table.name)
    if not table.name.lower().endswith(CSV_ENDINGS) or not table.stat().st_size:
        return file
    file = file.model_copy(update={"encoding": _encoding(file, table)})
    refuse_aligned(table, file=file)
    return file.model_copy(update={"header": not starts_with_data(table, file=file)})


def _encoding(file: FileSpec, table: Path) -> str | None:
    """Return cp1252 for a CSV that is not UTF-8, and None where no encoding has to be named."""
    if table.name.lower().endswith(PACKED_ENDINGS) or detect_encoding(file, table) is not None:
        return None
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with open_bytes(table) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252"
    return None


def _known_export(table: _Table) -> _Draft | None:
    """Draft the columns of a table that a common program exports, recognised by its column names.

    Raises `SourceError`: the table of that program cannot carry segments.
    """
    for export in yaml.safe_load(EXPORTS.read_text(encoding="utf-8")):
        if set(export["has"]) <= set(table.kinds):
            if "refuse" in export:
                raise SourceError(f"{table.file.label}: {export['refuse']}")
            names = list(table.kinds)
            columns = {
                c: sql for c, sql in export["columns"].items() if columns_used(sql, columns=names) or sql[0] == "'"
            }
            draft = _Draft(columns=columns, known=export["name"], kinds=list(export.get("kinds", [])))
            if "where" in export:
                draft.where.append((export["where"], ""))
            return draft
    return None


def _guessed(table: _Table) -> _Draft:
    """Guess the columns from their names and values."""
    mapping = _guess(table)
    columns = {
        contract: quote(raw) if not re.fullmatch(r"[A-Za-z_]\w*", raw) else raw
        for contract, raw in mapping.items()
        if contract != "price"
    }
    draft = _Draft(columns=columns)
    _add_amount(draft, mapping=mapping)
    _add_time(draft, values=table.samples[mapping["timestamp"]], raw=mapping["timestamp"])
    if table.kinds.get(mapping.get("category", "")) == "VARCHAR":
        _split_category(draft, values=table.samples[mapping["category"]], raw=mapping["category"])
    _add_event(draft, mapping=mapping, table=table)
    filter_sql = f"{quote(mapping['customer_id'])} is not null"
    empty = _count(table, f"not ({filter_sql})")
    if empty:
        draft.where.append((filter_sql, f"{empty:,} of {table.rows:,} rows have no customer"))
    return draft


def _guess(table: _Table) -> dict[str, str]:
    """Guess the raw column of each contract column (and of price) from names and values."""
    found: dict[str, str] = {}
    for contract, named in NAME_HINTS.items():
        words = tuple(named.split())
        left = [name for name in table.kinds if name not in found.values() and _is_candidate(contract, name, table)]
        ranked = sorted((_rank(name, hints=words), n, name) for n, name in enumerate(left))
        if ranked and ranked[0][0] < len(words):
            found[contract] = ranked[0][2]
    if "timestamp" not in found:
        left = [
            n for n in table.kinds if n not in found.values() and is_time_like(table.samples[n]) and not _is_birth(n)
        ]
        if not left:
            raise SourceError(_no_time(table, customer=found.get("customer_id")))
        found["timestamp"] = left[0]
    if "customer_id" not in found:
        left = [n for n in table.kinds if n not in found.values() and _has_repeats(table.samples[n])]
        if not left:
            raise SourceError(
                f"{table.file.label}: no column looks like a customer; it has {', '.join(table.kinds)}. {WRITE_BY_HAND}"
            )
        found["customer_id"] = left[0]
    return found


def _no_time(table: _Table, *, customer: str | None) -> str:
    """Explain a table without a time: one line for each customer is a table of customers, not of events."""
    label, has = table.file.label, ", ".join(table.kinds)
    customer = customer or next(iter(table.kinds))
    if table.rows > 1 and len(table.kinds) > 1 and table.distinct[customer] > NEARLY_UNIQUE * table.rows:
        return (
            f"{label}: no column looks like the time of an event; it has {has}. With one line for each {customer}, it "
            "is a table of customers: name it under 'customers' in the source of a table of events."
        )
    return f"{label}: no column looks like a time; it has {has}. {WRITE_BY_HAND}"


def _rank(name: str, *, hints: tuple[str, ...]) -> int:
    """Return the position of the first hint in the name of a column; the number of hints if there is none."""
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    parts = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    return next((n for n, word in enumerate(hints) if word in parts or (len(word) > 3 and word in letters)), len(hints))


def _is_candidate(contract: str, name: str, table: _Table) -> bool:
    values, kind = table.samples[name], table.kinds[name]
    if contract == "timestamp":
        return is_time_like(values) and not _is_birth(name) and (not is_number(kind) or kind == "BIGINT")
    if contract in NUMBER_HINTS:
        return is_number(kind)
    if contract == "event":
        return not is_number(kind) and len(set(values)) <= MAX_KINDS
    if contract in ("category", "channel", "campaign", "text"):
        unique = contract != "text" and table.is_nearly_unique(name)
        return (
            kind in ("VARCHAR", *([LIST] if contract in LIST_COLUMNS else []))
            and not is_time_like(values)
            and not unique
        )
    if kind == "VARCHAR" and is_time_like(values):
        return False
    if contract == "customer_id" and table.is_constant(name) or contract == "item" and table.is_nearly_unique(name):
        return False
    return kind != "DOUBLE" or all(value.endswith(".0") for value in values)


def _is_birth(name: str) -> bool:
    return any(word in name.lower() for word in BIRTH_WORDS)


def _has_repeats(values: list[str]) -> bool:
    return 1 < len(set(values)) < len(values)


def _count(table: _Table, condition: str) -> int:
    sql = f"select count(*) from {quote(table.view)} where {condition}"
    return table.con.con.execute(sql).fetchall()[0][0]


def _add_amount(draft: _Draft, *, mapping: dict[str, str]) -> None:
    """Calculate the amount from price and quantity where it has no column of its own."""
    if "amount" in mapping or "price" not in mapping:
        return
    parts = [quote(mapping[name]) for name in ("quantity", "price") if name in mapping]
    draft.columns["amount"] = " * ".join(parts)


def _add_time(draft: _Draft, *, values: list[str], raw: str) -> None:
    """Guess that the day comes first where no value tells day and month apart."""
    unclear = ambiguous_date(values)
    if unclear:
        separator, year = re.search(r"[./-]", unclear)[0], "Y" if re.search(r"\d{4}$", unclear) else "y"
        clock = _time_format(values[0])
        draft.columns["timestamp"] = f"strptime({quote(raw)}, '%d{separator}%m{separator}%{year}{clock}')"
        draft.notes["timestamp"] = ": the day comes first"


def _time_format(value: str) -> str:
    found = re.search(r"[ T](\d{1,2}:\d{2}(:\d{2})?)$", value.strip())
    return "" if not found else " %H:%M:%S" if found[2] else " %H:%M"


def _split_category(draft: _Draft, *, values: list[str], raw: str) -> None:
    """Split texts that are lists, such as Drama|Comedy: most have the separator, and their parts repeat."""
    for sign, most in LIST_SIGNS.items():
        parts = {part.strip() for value in values for part in value.split(sign)} - {""}
        joined = sum(sign in value for value in values) > len(values) / 2
        if joined and len(parts) <= len(set(values)) * most:
            draft.columns["category"] = f"string_split({quote(raw)}, {sql_literal(sign)})"
            draft.notes["category"] = ": a list, in which each part is a category"
            return


def _add_event(draft: _Draft, *, mapping: dict[str, str], table: _Table) -> None:
    """Name the kinds of event: those of a column, or purchases and returns by sign, or one kind."""
    if "event" in mapping:
        return
    sign = next(
        (
            quote(mapping[name])
            for name in ("quantity", "amount")
            if name in mapping and any(value.startswith("-") for value in table.samples[mapping[name]])
        ),
        None,
    )
    if sign is not None:
        draft.columns |= {c: f"abs({draft.columns[c]})" for c in ("quantity", "amount") if c in draft.columns}
        draft.columns["event"] = f"case when {sign} < 0 then 'return' else 'purchase' end"
        draft.notes["event"], draft.kinds = ": negative numbers are returns", ["purchase", "return"]
    else:
        bought = {"amount", "order_id", "quantity"} & set(draft.columns)
        draft.kinds = ["purchase" if bought else "visit"]
        draft.columns["event"] = f"'{draft.kinds[0]}'"


def _yaml(table: _Table, *, draft: _Draft) -> str:
    """Write the YAML of a draft."""
    if not draft.kinds:
        draft.kinds = _kinds_of_events(table, sql=draft.columns["event"])
    company = [kind for kind in draft.kinds if set(re.findall(r"[a-z]+", kind.lower())) & set(COMPANY_WORDS)]
    needs = _needs(draft, company=company)
    currency = _currency(table, draft=draft)
    path = Path(table.file.label)
    ascii_name = unicodedata.normalize("NFKD", path.name.split(".")[0]).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", ascii_name).strip("_") or "source"
    made_by = f", which looks like an export of {draft.known}" if draft.known else ""
    return "\n".join(
        [
            f"# A draft for {path.name}{made_by}. Look at each line marked 'guess'; then: segkit run --source "
            f"{shlex.quote(path.with_suffix('.yaml').name)}",
            f"name: {name}",
            "timezone: UTC  # guess: the zone of the times in the file, e.g. Europe/London",
            *currency,
            "kinds:  # guess: who does each: customer or company",
            *(f"  {_scalar(kind)}: {'company' if kind in company else 'customer'}" for kind in draft.kinds),
            *needs,
            "events:",
            *_table_lines(table, draft=draft),
            *_comments(table, draft=draft),
            "",
        ]
    )


def _table_lines(table: _Table, *, draft: _Draft) -> list[str]:
    """Write the table of events: path, options, columns, condition and lookups."""
    file = table.file
    lines = [f"  - path: {_scalar(Path(file.label).name)}"]
    if file.encoding:
        lines.append(f"    encoding: {file.encoding}  # guess: the file is not UTF-8")
    if not file.header:
        lines.append("    header: false  # guess: the first line is data already; columns are called by their place")
    lines.append("    columns:")
    lines += [
        f"      {contract}: {_scalar(draft.columns[contract])}  # guess{draft.notes.get(contract, '')}"
        for contract in CONTRACT
        if contract in draft.columns
    ]
    if draft.where:
        why = "; ".join(reason for _, reason in draft.where if reason)
        condition = " and ".join(condition for condition, _ in draft.where)
        lines.append(f"    where: {_scalar(condition)}  # guess{f': {why}' if why else ''}")
    used = _used(draft)
    lookups: list[Related] = []  # from the last joined, as a table may be needed only for the key of a later one
    for one in reversed(table.lookups.found):
        if any(_is_used(column, used) for column in one.adds) or any(other.key in one.adds for other in lookups):
            lookups.insert(0, one)
    if lookups:
        lines.append("    lookups:")
        lines += [
            f"      - {{path: {_scalar(one.path)}, on: {_scalar(one.key)}}}  # guess: {one.why}" for one in lookups
        ]
    return lines


def _used(draft: _Draft) -> str:
    """Return all SQL of a draft as one text."""
    return " ".join([*draft.columns.values(), *(condition for condition, _ in draft.where)])


def _is_used(column: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(column)}(?!\w)", text) is not None


def _comments(table: _Table, *, draft: _Draft) -> list[str]:
    """Say what is left over: columns that are not used, and tables in the same folder."""
    used = _used(draft)
    left = [column for column in table.kinds if column not in table.lookups.columns and not _is_used(column, used)]
    return [*([f"# not used: {', '.join(left)}"] if left else []), *(f"# {note}" for note in table.lookups.notes)]


def _kinds_of_events(table: _Table, *, sql: str) -> list[str]:
    rows = table.con.con.execute(
        f"select distinct trim({sql}) from {quote(table.view)} order by 1 limit {MAX_KINDS}"
    ).fetchall()
    return [row[0] for row in rows if row[0]]


def _needs(draft: _Draft, *, company: list[str]) -> list[str]:
    """Draft the kinds of event that show needs, for a source without purchases.

    Without a category, the kinds themselves become the categories if customers do enough kinds of things.
    """
    own = [kind for kind in draft.kinds if kind not in company]
    if draft.columns["event"].startswith(("'", "case")) or not own:
        return []
    if "category" in draft.columns and "purchase" in own:
        return []
    if "category" not in draft.columns:
        if len(own) < MIN_KINDS:
            return []
        draft.columns["category"] = draft.columns["event"]
        draft.notes["category"] = ": what customers do shows what they need"
    return [f"needs: [{', '.join(_scalar(kind) for kind in own)}]  # guess: kinds whose categories are needs"]


def _currency(table: _Table, *, draft: _Draft) -> list[str]:
    """Draft the currency, and leave out the lines of all but the first where there are several."""
    if "amount" not in draft.columns:
        return []
    codes = re.compile("[A-Za-z]{3}")
    column = next(
        (
            name
            for name in table.kinds
            if any(word in name.lower() for word in CURRENCY_WORDS)
            and table.samples[name]
            and all(codes.fullmatch(value) for value in table.samples[name])
        ),
        None,
    )
    if column is None:
        return []
    sql, known = f"upper({quote(column)})", f"{quote(column)} is not null"
    counts = table.con.con.execute(
        f"select {sql}, count(*) from {quote(table.view)} where {known} group by 1 order by 2 desc, 1"
    ).fetchall()
    if len(counts) > 1:
        shown = " and ".join(f"{code} ({lines:,} lines)" for code, lines in counts[:4])
        why = f"amounts are in {shown}, which do not add up; convert them, or segment each on its own"
        draft.where.append((f"{sql} = {sql_literal(counts[0][0])}", why))
    return [f"currency: {counts[0][0]}  # guess: from column {column}"]


def _scalar(text: str) -> str:
    """Write text as a YAML scalar, quoted where YAML would read something else."""
    return (
        text
        if re.fullmatch(r"[A-Za-z_][\w.-]*( [\w.-]+)*", text) and text.lower() not in ("true", "false", "null")
        else "'" + text.replace("'", "''") + "'"
    )
