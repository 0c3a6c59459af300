"""Draft the YAML of a source for a table that has none: what each column probably means, every guess marked."""

import codecs
import math
import re
import shlex
import unicodedata
from pathlib import Path

import yaml

from segkit.data.arm_columns import recognise_arms
from segkit.data.contract import AS_WRITTEN, column_types, sample_values, typed_view
from segkit.data.csv_files import (
    CSV_ENDINGS,
    PACKED_ENDINGS,
    SPACES,
    detect_encoding,
    is_aligned,
    open_bytes,
    starts_with_data,
)
from segkit.data.draft_customers import customer_key, guess_currency, guess_decimal, guess_roles
from segkit.data.exports import Draft, known_export
from segkit.data.expressions import quote, sql_literal
from segkit.data.guesses import MAX_KINDS, RawTable, guess_columns, guess_customer
from segkit.data.readers import CHUNK_BYTES, JSON_ENDINGS, PARQUET_ENDINGS, naming_sheets, open_file, resolve_paths
from segkit.data.related import Related, look_up_related
from segkit.data.sources import connect
from segkit.data.spec import CONTRACT, FileSpec
from segkit.data.values import ambiguous_date
from segkit.errors import SourceError

MIN_KINDS = 5  # fewest kinds of event by customers for which the kinds themselves are taken as needs
CURRENCY_WORDS = (
    *("currency", "ccy", "waehrung", "währung", "devise", "valuta", "moneda", "moeda", "waluta"),
    *("валюта", "货币", "币种"),
)
KIND_WORDS = {  # kinds of event that segkit knows -> what programs call them
    "purchase": (
        "order completed", "placed order", "order", "orders", "transaction", "sale", "buy", "bought", "payment",
        "charge", "checkout completed", "donation", "invoice paid", "order placed", "purchased", "kauf", "bestellung",
    ),
    "return": ("refund", "refunded", "returned", "order refunded", "refunded order", "sent back", "retoure"),
    "cancel": (
        "cancelled", "canceled", "cancellation", "subscription cancelled", "subscription canceled", "churned",
        "contract cancelled", "customer subscription deleted", "kuendigung",
    ),
}  # fmt: skip
BOUGHT_FLAGS = re.compile(r"(is|has)?_?(booking|booked|purchased?|bought|ordered|converted|conversion|sale)", re.I)
NO_NEEDS = ("purchase", "return", "session_start", "first_visit", "user_engagement")  # kinds that show no need
MIN_PURCHASES = 0.5  # of the events with a category, for purchases alone to show needs
NOT_BOUGHT = re.compile(
    "cancel|fail|void|refus|declin|abort|storn|annul|fraud|expired|unpaid|pending.?payment|"
    "anul|no.?show|no.?present|отмен",
    re.I,
)
MAX_STATUSES = 15
ANONYMOUS = (  # what stands in the place of a customer who is not known
    *("anonymous", "anonym", "anonyme", "anonimo", "anónimo", "anoniem", "аноним", "匿名", "guest", "gast", "unknown"),
    *("unbekannt", "inconnu", "walk-in", "cash customer", "no name", "not registered"),
)
GENERIC_NAMES = set("data events export items lines log orders purchases ratings sales transactions".split())
COMPANY_WORDS = ("sent", "send", "delivered", "shipped", "dispatched", "impression", "invoiced")
YAML_WORDS = ("true", "false", "null", "yes", "no", "on", "off")  # that are no text
LIST_SIGNS = {"|": 0.9, ";": 0.9, ",": 0.5}  # separator -> most different parts for each different text


def draft_source(path: str) -> tuple[str, Path]:
    """Write a draft of a source for one table of events, or for one of customers alone.

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
        No such file, a YAML file of that name exists, no column looks like a customer or a time, or the table is the
        result of an experiment.
    """
    table = Path(path)
    target = table.with_suffix(".yaml")
    if target.exists():
        raise SourceError(f"{target} exists already. Run segkit check {target}, or move it away for a new draft.")
    raw = open_raw_table(table)
    found = recognise_arms(raw, customer=guess_customer(raw))
    if found:
        raise SourceError(
            f"{table.name}: it looks like the result of an experiment: {found.sentence()}. Read it out with segkit "
            f"readout --arms {table.name}. Segments are made of events: give a table with several for a customer."
        )
    folder = table.resolve().parent.name
    raw, known = known_export(raw)
    key = None if known else customer_key(raw)
    with naming_sheets(raw.file, base=table.resolve().parent):
        draft = None if key else known or _guessed(raw)
    text = _customers_yaml(raw, key=key, folder=folder) if key else _yaml(raw, draft=draft, folder=folder)
    target.write_text(text, encoding="utf-8")
    return text, target


def open_raw_table(table: Path) -> RawTable:
    """Open a table and those in the same folder that a key joins to it, and look at its columns."""
    base, con = table.parent.resolve(), connect()
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
    return RawTable(
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

    Raises `SourceError`: its columns are aligned by spaces, and it is unclear where they end.
    """
    file = FileSpec(path=table.name)
    if not table.name.lower().endswith(CSV_ENDINGS) or not table.stat().st_size:
        return file
    file = file.model_copy(update={"encoding": _encoding(file, table)})
    if is_aligned(table, file=file):
        file = file.model_copy(update={"delimiter": SPACES})
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


def _guessed(table: RawTable) -> Draft:
    """Guess the columns from their names and values."""
    mapping = guess_columns(table)
    columns = {
        contract: quote(raw) if not re.fullmatch(r"[A-Za-z_]\w*", raw) else raw
        for contract, raw in mapping.items()
        if contract not in ("price", "time")
    }
    draft = Draft(columns=columns)
    _add_amount(draft, mapping=mapping)
    _add_time(draft, values=table.samples[mapping["timestamp"]], raw=mapping["timestamp"])
    if "time" in mapping:
        _join_time(draft, day=mapping["timestamp"], time=mapping["time"], values=table.samples[mapping["time"]])
    if table.kinds.get(mapping.get("category", "")) == "VARCHAR":
        _split_category(draft, values=table.samples[mapping["category"]], raw=mapping["category"])
    _add_event(draft, mapping=mapping, table=table)
    _leave_out_cancelled(draft, table=table)
    _leave_out_anonymous(draft, customer=mapping["customer_id"], table=table)
    filter_sql = f"{quote(mapping['customer_id'])} is not null"
    empty = table.count(f"not ({filter_sql})")
    if empty:
        draft.where.append((filter_sql, f"{empty:,} of {table.rows:,} rows have no customer"))
    return draft


def _add_amount(draft: Draft, *, mapping: dict[str, str]) -> None:
    """Calculate the amount from price and quantity where it has no column of its own."""
    if "amount" in mapping or "price" not in mapping:
        return
    parts = [quote(mapping[name]) for name in ("quantity", "price") if name in mapping]
    draft.columns["amount"] = " * ".join(parts)


def _add_time(draft: Draft, *, values: list[str], raw: str) -> None:
    """Guess that the day comes first where no value tells day and month apart."""
    unclear = ambiguous_date(values)
    if unclear:
        separator, year = re.search(r"[./-]", unclear)[0], "Y" if re.search(r"\d{4}$", unclear) else "y"
        clock = _time_format(values[0])
        draft.columns["timestamp"] = f"strptime({quote(raw)}, '%d{separator}%m{separator}%{year}{clock}')"
        draft.notes["timestamp"] = ": the day comes first"


def _join_time(draft: Draft, *, day: str, time: str, values: list[str]) -> None:
    """Put the time of day behind the day, where both have a column of their own."""
    clock = f"cast({quote(time)} as varchar)"
    readable = f"try_cast({clock} as time)"
    if any(re.search(r"\d ?[ap]", value, re.I) for value in values):
        seconds = ":%S" if values[0].count(":") > 1 else ""
        readable = f"cast(try_strptime({clock}, '%I:%M{seconds} %p') as time)"
    if "timestamp" in draft.notes:  # the day was read by a format
        draft.columns["timestamp"] = f"cast({draft.columns['timestamp']} as date) + coalesce({readable}, time '00:00')"
    else:
        draft.columns["timestamp"] = f"concat_ws(' ', cast({quote(day)} as varchar), cast({readable} as varchar))"
    draft.notes["timestamp"] = f"{draft.notes.get('timestamp', '')}: {day} and {time}"


def _time_format(value: str) -> str:
    found = re.search(r"[ T](\d{1,2}:\d{2}(:\d{2})?)$", value.strip())
    return "" if not found else " %H:%M:%S" if found[2] else " %H:%M"


def _split_category(draft: Draft, *, values: list[str], raw: str) -> None:
    """Split texts that are lists, such as Drama|Comedy: most have the separator, and their parts repeat."""
    for sign, most in LIST_SIGNS.items():
        parts = {part.strip() for value in values for part in value.split(sign)} - {""}
        joined = sum(sign in value for value in values) > len(values) / 2
        if joined and len(parts) <= len(set(values)) * most:
            draft.columns["category"] = f"string_split({quote(raw)}, {sql_literal(sign)})"
            draft.notes["category"] = ": a list, in which each part is a category"
            return


def _add_event(draft: Draft, *, mapping: dict[str, str], table: RawTable) -> None:
    """Name the kinds of event: those of a column, or purchases and returns by sign, by a flag, or one kind."""
    if "event" in mapping:
        _name_kinds(draft, table=table)
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
    elif flag := next((name for name in table.kinds if _is_flag(name, table=table)), None):
        draft.columns["event"] = f"case when {quote(flag)} = 1 then 'purchase' else 'visit' end"
        draft.kinds = ["purchase", "visit"]
    else:
        bought = {"amount", "order_id", "quantity"} & set(draft.columns)
        draft.kinds = ["purchase" if bought else "visit"]
        draft.columns["event"] = f"'{draft.kinds[0]}'"


def _leave_out_cancelled(draft: Draft, *, table: RawTable) -> None:
    """Leave out what was ordered and not bought, by the column of a status."""
    name = next(
        (name for name in table.kinds if re.search("status|state$|estado|statut|stato$|статус", name, re.I)), None
    )
    values = sorted({value.lower() for value in table.samples[name]}) if name else []
    wrong = [value for value in values if NOT_BOUGHT.search(value)]
    if not wrong or len(values) > MAX_STATUSES or draft.kinds not in (["purchase"], ["visit"]):
        return
    listed = ", ".join(sql_literal(value) for value in wrong)
    why = "these were not bought" if draft.kinds == ["purchase"] else "these did not take place"
    draft.where.append((f"coalesce(lower({quote(name)}), '') not in ({listed})", why))


def _leave_out_anonymous(draft: Draft, *, customer: str, table: RawTable) -> None:
    """Leave out lines of customers who are not known, and share a word for that."""
    text = f"trim(lower(cast({quote(customer)} as varchar)))"
    words = sorted({value.strip().lower() for value in table.samples[customer]} & set(ANONYMOUS))
    if words:
        lines = table.count(f"{text} in ({', '.join(map(sql_literal, words))})")
        why = f"{lines:,} of {table.rows:,} lines are of customers who are not known"
        draft.where.append((f"{text} not in ({', '.join(map(sql_literal, words))})", why))


def _is_flag(name: str, *, table: RawTable) -> bool:
    """Return whether a column says by 0 and 1 which lines were bought."""
    return bool(BOUGHT_FLAGS.fullmatch(name)) and set(table.samples[name]) == {"0", "1"}


def _name_kinds(draft: Draft, *, table: RawTable) -> None:
    """Call what was paid for, given back and ended by the names that segkit knows: only purchases count as spend."""
    raw = draft.columns["event"]
    kinds = _kinds_of_events(table, sql=raw)
    money = "amount" in draft.columns
    known = {word: name for name, words in KIND_WORDS.items() if money or name == "cancel" for word in words}
    named = {kind: known.get(re.sub(r"[\W_]+", " ", kind).strip().lower(), kind) for kind in kinds}
    named = {kind: name for kind, name in named.items() if name != kind and name not in kinds}
    if not named:
        return
    cases = " ".join(f"when {sql_literal(kind)} then {sql_literal(name)}" for kind, name in named.items())
    draft.columns["event"] = f"case trim({raw}) {cases} else {raw} end"
    draft.notes["event"] = ": only a purchase counts as spend" if "purchase" in named.values() else ""
    draft.kinds = sorted({*kinds, *named.values()} - set(named))


def _yaml(table: RawTable, *, draft: Draft, folder: str) -> str:
    """Write the YAML of a draft."""
    if not draft.kinds:
        draft.kinds = _kinds_of_events(table, sql=draft.columns["event"])
    company = [kind for kind in draft.kinds if set(re.findall(r"[a-z]+", kind.lower())) & set(COMPANY_WORDS)]
    needs = _needs(draft, table=table, company=company)
    currency = _currency(table, draft=draft)
    path = Path(table.file.label)
    made_by = f", which looks like an export of {draft.known}" if draft.known else ""
    return "\n".join(
        _one_line(line)
        for line in [
            f"# A draft for {path.name}{made_by}. Look at each line marked 'guess'; then: segkit run --source "
            f"{shlex.quote(path.with_suffix('.yaml').name)}",
            f"name: {_source_name(path, folder=folder)}",
            "timezone: UTC  # guess: the zone of the times in the file, e.g. Europe/London",
            *currency,
            "kinds:  # guess: who does each: customer or company",
            *(f"  {_scalar(kind)}: {'company' if kind in company else 'customer'}" for kind in draft.kinds),
            *needs,
            "events:",
            *_table_lines(table, draft=draft),
            *(_table_lines(table, draft=draft.returns) if draft.returns else []),
            *_comments(table, draft=draft),
            "",
        ]
    )


def _source_name(path: Path, *, folder: str) -> str:
    name = _short_name(path.name.split(".")[0])
    if name.lower() in GENERIC_NAMES:  # two sources of one name would continue each other's runs
        return _short_name(f"{folder}_{name}")
    return name


def _customers_yaml(table: RawTable, *, key: str, folder: str) -> str:
    """Write the YAML of a draft for a table of customers alone."""
    path, roles, currency = Path(table.file.label), guess_roles(table, key=key), guess_currency(table)
    columns = {"customer_id": key} | {name: name for name in roles if name != "customer_id"}
    sqls = {name: raw if re.fullmatch(r"[A-Za-z_]\w*", raw) else quote(raw) for name, raw in columns.items()}
    decimal = guess_decimal(table)
    lines = [
        f"# A draft for {path.name}, a table of customers alone. Look at each line marked 'guess'; then: segkit run "
        f"--source {shlex.quote(path.with_suffix('.yaml').name)}",
        f"name: {_source_name(path, folder=folder)}",
        *([f"currency: {currency}  # guess: from the signs in the file"] if currency else []),
        "customers:",
        f"  path: {_scalar(path.name)}",
        *(line[2:] for line in _file_lines(table.file)),
        *([f"  decimal: '{decimal}'  # guess: the sign before decimals"] if decimal else []),
        "  columns:",
        *(
            f"    {_scalar(name)}: {_scalar(sql)}{'  # guess' if name == 'customer_id' else ''}"
            for name, sql in sqls.items()
        ),
        "  roles:  # guess; identifier, consent and ignore shape no segment, and current_segment is only compared with",
        *(f"    {_scalar(name)}: {role}" for name, role in roles.items() if name != "customer_id"),
        "",
    ]
    return "\n".join(_one_line(line) for line in lines)


def _short_name(text: str) -> str:
    """Write a text with letters and digits only, as the name of a folder."""
    ascii_name = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9_-]+", "_", ascii_name).strip("_") or "source"


def _table_lines(table: RawTable, *, draft: Draft) -> list[str]:
    """Write the table of events: path, options, columns, condition and lookups."""
    lines = [f"  - path: {_scalar(Path(table.file.label).name)}", *_file_lines(table.file)]
    for key, names in draft.fill.items():
        listed = ", ".join(map(_scalar, names))
        lines.append(f"    fill: {{{_scalar(key)}: [{listed}]}}  # guess: only the first line of an order holds these")
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


def _file_lines(file: FileSpec) -> list[str]:
    """Write how a file is read, where it is not read as most are."""
    lines = []
    if file.encoding:
        lines.append(f"    encoding: {file.encoding}  # guess: the file is not UTF-8")
    if file.delimiter:
        lines.append(f"    delimiter: {file.delimiter}  # guess: the columns are aligned by spaces")
    if not file.header:
        lines.append("    header: false  # guess: the first line is data already; columns are called by their place")
    return lines


def _used(draft: Draft) -> str:
    """Return all SQL of a draft as one text."""
    texts = [*draft.columns.values(), *(condition for condition, _ in draft.where)]
    return " ".join([*texts, _used(draft.returns)] if draft.returns else texts)


def _is_used(column: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(column)}(?!\w)", text) is not None


def _comments(table: RawTable, *, draft: Draft) -> list[str]:
    """Say what is left over: columns that are not used, and tables in the same folder."""
    used = _used(draft)
    left = [column for column in table.kinds if column not in table.lookups.columns and not _is_used(column, used)]
    notes = [*draft.remarks, *([f"not used: {', '.join(left)}"] if left else []), *table.lookups.notes]
    return [f"# {note}" for note in notes]


def _kinds_of_events(table: RawTable, *, sql: str) -> list[str]:
    rows = table.con.con.execute(
        f"select distinct trim({sql}) from {quote(table.view)} order by 1 limit {MAX_KINDS}"
    ).fetchall()
    return [row[0] for row in rows if row[0]]


def _needs(draft: Draft, *, table: RawTable, company: list[str]) -> list[str]:
    """Draft the kinds of event that show needs, for a source without purchases.

    Without a category, the kinds themselves become the categories if customers do enough kinds of things.
    """
    own = [kind for kind in draft.kinds if kind not in company]
    if own == ["purchase", "visit"] and draft.columns["event"].startswith("case"):
        return ["needs: [visit]  # guess: few lines were bought, so what is looked at shows needs"]
    if draft.columns["event"].startswith("'") or own == ["purchase", "return"] or not own:
        return []
    own = [kind for kind in own if kind not in ("return", "cancel")] or own
    if "category" in draft.columns and "purchase" in own:
        own = _kinds_with_categories(draft, table=table, own=own)
        if "purchase" in own:
            return []
    if "category" not in draft.columns:
        if len(own) < MIN_KINDS:
            return []
        draft.columns["category"] = draft.columns["event"]
        draft.notes["category"] = ": what customers do shows what they need"
        own = [kind for kind in own if kind not in NO_NEEDS] or own
    return [f"needs: [{', '.join(_scalar(kind) for kind in own)}]  # guess: kinds whose categories are needs"]


def _kinds_with_categories(draft: Draft, *, table: RawTable, own: list[str]) -> list[str]:
    """List the kinds of event that have most of the categories: purchases, or else what comes before them."""
    event = f"trim({draft.columns['event']})"
    rows = {
        kind: table.count(f"{event} = {sql_literal(kind)} and len({draft.columns['category']}) > 0") for kind in own
    }
    if rows["purchase"] >= MIN_PURCHASES * sum(rows.values()):
        return ["purchase"]
    return [kind for kind in own if rows[kind] and kind != "purchase"]


def _currency(table: RawTable, *, draft: Draft) -> list[str]:
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
        for one in [draft, *([draft.returns] if draft.returns else [])]:
            one.where.append((f"{sql} = {sql_literal(counts[0][0])}", why))
    return [f"currency: {_scalar(counts[0][0])}  # guess: from column {column}"]


def _scalar(text: str) -> str:
    """Write text as a YAML scalar in one line, quoted where YAML would read something else."""
    if not text.isprintable():
        return yaml.safe_dump(text, default_style='"', width=math.inf, allow_unicode=True).strip()
    is_plain = re.fullmatch(r"[A-Za-z_][\w.-]*( [\w.-]+)*", text) and text.lower() not in YAML_WORDS
    return text if is_plain else "'" + text.replace("'", "''") + "'"


def _one_line(text: str) -> str:
    """Replace what could end a line of YAML: a name of a file or column in a comment must not become a key."""
    return "".join(sign if sign.isprintable() else " " for sign in text)
