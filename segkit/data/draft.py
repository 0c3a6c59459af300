"""A first YAML for a table that has none: every guess is marked, and a person has the last word."""

import codecs
import re
import shlex
import unicodedata
from pathlib import Path

import ibis

from segkit.data.csv_files import encoding_of
from segkit.data.expressions import quoted
from segkit.data.files import CHUNK_BYTES, CSV_ENDINGS, EXCEL_ENDINGS, PARQUET_ENDINGS, open_file, paths_of
from segkit.data.raw import AS_WRITTEN, columns_of, sample_of, typed_view
from segkit.data.sources import connect
from segkit.data.spec import CONTRACT, FileSpec
from segkit.data.times import reads_as_time, unclear_dates
from segkit.data.values import is_number
from segkit.errors import SourceError

DRAFTED_ENDINGS = (*CSV_ENDINGS, *EXCEL_ENDINGS, *PARQUET_ENDINGS)
PLAIN_CSV = tuple(ending for ending in CSV_ENDINGS if not ending.endswith(".gz"))
KINDS_MOST = 30  # different values up to which a column can be the kind of event
NAMES = {  # words in the name of a raw column -> contract column, the surest first
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
        "category department productgroup warengruppe kategorie description productname group feature page product"
    ),
    "item": "item sku stockcode productid article artikel ean upc",
    "channel": "channel kanal device platform store os",
    "campaign": "campaign utm promotion",
    "text": "comment review feedback message text note",
}
BY_THE_COMPANY = ("sent", "send", "delivered", "shipped", "dispatched", "impression", "invoiced")
KINDS_FEWEST = 5  # of events done by customers, before what they do is taken for what they need
NUMBERS = ("amount", "price", "quantity", "discount", "cost")


def draft_source(path: str) -> tuple[str, Path]:
    """Propose a source for one table of events.

    Takes  the path of a csv, tsv, parquet or xlsx file
    Gives  the YAML text and where it was written: beside the table, under its name; never over a file that is there

    Raises
    ------
    SourceError : no such file, a draft is there already, or no column looks like a customer or a time
    """
    table = Path(path)
    target = table.with_suffix(".yaml")
    if target.exists():
        raise SourceError(f"{target} is there already. Run segkit check {target}, or move it away for a new draft.")
    con = connect()
    file = FileSpec(path=table.name)
    paths_of(file, base=table.parent.resolve())
    file = file.model_copy(update={"encoding": _encoding(table)})
    is_text = open_file(file, base=table.parent.resolve(), name="draft", con=con)
    view = typed_view("draft", text={"draft": file} if is_text else {}, con=con)
    kinds = {name: kind for name, kind in columns_of(view, con=con).items() if not name.endswith(AS_WRITTEN)}
    samples = sample_of(
        {name: f"cast({quoted(name)} as varchar)" for name in kinds}, view=view, where="", label=table.name, con=con
    )
    text = _yaml(
        file, kinds=kinds, samples=samples, mapping=_guess(kinds, samples=samples, label=table.name), view=view, con=con
    )
    target.write_text(text, encoding="utf-8")
    return text, target


def _guess(kinds: dict[str, str], *, samples: dict[str, list[str]], label: str) -> dict[str, str]:
    """Contract column (and price) -> raw column, by name and by what the values look like."""
    found: dict[str, str] = {}
    for contract, named in NAMES.items():
        words = tuple(named.split())
        fitting = [
            name for name in kinds if name not in found.values() and _fits(contract, name, kinds=kinds, samples=samples)
        ]
        ranked = sorted((_rank(name, hints=words), n, name) for n, name in enumerate(fitting))
        if ranked and ranked[0][0] < len(words):
            found[contract] = ranked[0][2]
    for contract, test in (("timestamp", reads_as_time), ("customer_id", _repeats)):
        if contract not in found:
            other = [name for name in kinds if name not in found.values() and test(samples[name])]
            if not other:
                what = "a time" if contract == "timestamp" else "a customer"
                raise SourceError(
                    f"{label}: no column looks like {what}; it has {', '.join(kinds)}. Write a source by hand: "
                    "name, timezone, events with path and columns."
                )
            found[contract] = other[0]
    return found


def _rank(name: str, *, hints: tuple[str, ...]) -> int:
    plain = re.sub(r"[^a-z0-9]", "", name.lower())
    parts = re.findall(r"[a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower())
    return next((n for n, word in enumerate(hints) if word in parts or (len(word) > 3 and word in plain)), len(hints))


def _fits(contract: str, name: str, *, kinds: dict[str, str], samples: dict[str, list[str]]) -> bool:
    values = samples[name]
    if contract == "timestamp":
        return reads_as_time(values) and (not is_number(kinds[name]) or kinds[name] == "BIGINT")
    if contract in NUMBERS:
        return is_number(kinds[name])
    if contract == "event":
        return not is_number(kinds[name]) and len(set(values)) <= KINDS_MOST
    if contract in ("category", "channel", "campaign", "text"):
        return kinds[name] == "VARCHAR" and not reads_as_time(values)
    if kinds[name] == "VARCHAR" and reads_as_time(values):
        return False
    return kinds[name] != "DOUBLE" or all(value.endswith(".0") for value in values)


def _repeats(values: list[str]) -> bool:
    return 1 < len(set(values)) < len(values)


def _encoding(table: Path) -> str | None:
    """The encoding to name for a CSV: that of Windows where the file is not UTF-8; None where it shows itself."""
    file = FileSpec(path=table.name)
    if not table.name.lower().endswith(PLAIN_CSV) or encoding_of(file, table) is not None:
        return None
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with table.open("rb") as stream:
            while chunk := stream.read(CHUNK_BYTES):
                decoder.decode(chunk)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return "cp1252"
    return None


def _yaml(
    file: FileSpec,
    *,
    kinds: dict[str, str],
    samples: dict[str, list[str]],
    mapping: dict[str, str],
    view: str,
    con: ibis.BaseBackend,
) -> str:
    columns, notes, events = _columns(mapping, samples=samples)
    if "event" in mapping:
        rows = con.con.execute(
            f"select distinct trim({quoted(mapping['event'])}) from {quoted(view)} order by 1 limit {KINDS_MOST}"
        ).fetchall()
        events = [row[0] for row in rows if row[0]]
    company_kinds = [event for event in events if set(re.findall(r"[a-z]+", event.lower())) & set(BY_THE_COMPANY)]
    empty = con.con.execute(
        f"select count(*) filter (where {quoted(mapping['customer_id'])} is null), count(*) from {quoted(view)}"
    ).fetchall()[0]
    table = Path(file.label)
    ascii_name = unicodedata.normalize("NFKD", table.name.split(".")[0]).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", ascii_name).strip("_") or "source"
    lines = [
        f"# A draft for {table.name}. Look at each line marked 'guess'; then: segkit check "
        f"{shlex.quote(table.with_suffix('.yaml').name)}",
        f"name: {name}",
        "timezone: UTC  # guess: the zone of the times in the file, e.g. Europe/London",
        "kinds:  # guess: who does each: customer or company",
        *(f"  {_scalar(event)}: {'company' if event in company_kinds else 'customer'}" for event in events),
        *_needs(events, company_kinds=company_kinds, columns=columns, notes=notes, event=mapping.get("event")),
        "events:",
        f"  - path: {_scalar(table.name)}",
        *([f"    encoding: {file.encoding}  # guess: the file is not UTF-8"] if file.encoding else []),
        "    columns:",
    ]
    lines += [
        f"      {contract}: {_scalar(columns[contract])}  # guess{notes.get(contract, '')}"
        for contract in CONTRACT
        if contract in columns
    ]
    if empty[0]:
        lines.append(
            f"    where: {_scalar(quoted(mapping['customer_id']) + ' is not null')}  # guess: {empty[0]:,} of "
            f"{empty[1]:,} rows have no customer"
        )
    used = set(mapping.values())
    left = [column for column in kinds if column not in used]
    return "\n".join([*lines, *([f"# not used: {', '.join(left)}"] if left else []), ""])


def _needs(
    events: list[str], *, company_kinds: list[str], columns: dict[str, str], notes: dict[str, str], event: str | None
) -> list[str]:
    """The kinds whose categories are needs, where there are no purchases; with no categories, what they do is what they
    need, if they do enough kinds of things.
    """
    own = [kind for kind in events if kind not in company_kinds]
    if event is None or not own:
        return []
    if "category" in columns and "purchase" in own:
        return []
    if "category" not in columns:
        if len(own) < KINDS_FEWEST:
            return []
        columns["category"], notes["category"] = columns["event"], ": what they do says what they need"
    return [f"needs: [{', '.join(_scalar(kind) for kind in own)}]  # guess: kinds whose categories are needs"]


def _columns(
    mapping: dict[str, str], *, samples: dict[str, list[str]]
) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Contract column -> SQL, contract column -> a word on the guess, and the kinds of event."""
    columns = {
        contract: quoted(raw) if not re.fullmatch(r"\w+", raw) else raw
        for contract, raw in mapping.items()
        if contract != "price"
    }
    notes: dict[str, str] = {}
    sign = next(
        (
            quoted(mapping[c])
            for c in ("quantity", "amount")
            if c in mapping and any(v.startswith("-") for v in samples[mapping[c]])
        ),
        None,
    )
    if "amount" not in mapping and "price" in mapping:
        columns["amount"] = (
            f"{quoted(mapping['quantity'])} * {quoted(mapping['price'])}"
            if "quantity" in mapping
            else quoted(mapping["price"])
        )
    unclear = unclear_dates(samples[mapping["timestamp"]])
    if unclear:
        separator, year = re.search(r"[./-]", unclear)[0], "Y" if re.search(r"\d{4}$", unclear) else "y"
        clock = _clock(samples[mapping["timestamp"]][0])
        columns["timestamp"] = f"strptime({quoted(mapping['timestamp'])}, '%d{separator}%m{separator}%{year}{clock}')"
        notes["timestamp"] = ": the day comes first"
    if "event" in mapping:
        return columns, notes, []
    if sign is not None:
        columns |= {c: f"abs({columns[c]})" for c in ("quantity", "amount") if c in columns}
        columns["event"] = f"case when {sign} < 0 then 'return' else 'purchase' end"
        return columns, notes | {"event": ": negative numbers are returns"}, ["purchase", "return"]
    kind = "purchase" if {"amount", "order_id", "quantity"} & set(columns) else "visit"
    return columns | {"event": f"'{kind}'"}, notes, [kind]


def _clock(value: str) -> str:
    found = re.search(r"[ T](\d{1,2}:\d{2}(:\d{2})?)$", value.strip())
    return "" if not found else " %H:%M:%S" if found[2] else " %H:%M"


def _scalar(text: str) -> str:
    """A text as a YAML scalar, quoted where YAML would read it otherwise."""
    return (
        text
        if re.fullmatch(r"[A-Za-z_][\w.-]*( [\w.-]+)*", text) and text.lower() not in ("true", "false", "null")
        else "'" + text.replace("'", "''") + "'"
    )
