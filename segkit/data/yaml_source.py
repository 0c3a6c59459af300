"""The YAML of a source, read safely and checked word by word before any data is touched."""

from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from segkit.data.safe_yaml import load_yaml
from segkit.data.spec import (
    ALLOW_SET_ASIDE,
    CONTRACT,
    REQUIRED,
    ROLES,
    CustomerTable,
    EventTable,
    FileSpec,
    Lookup,
    Source,
    nearest,
)
from segkit.data.words import currency_of, labels_of
from segkit.errors import SourceError

SOURCE_KEYS = (
    "name",
    "timezone",
    "kinds",
    "events",
    "customers",
    "as_of",
    "allow_set_aside",
    "needs",
    "labels",
    "currency",
)
FILE_KEYS = ("path", "database", "table", "columns", "where", "encoding", "delimiter", "decimal", "sheet")
TABLE_KEYS = (*FILE_KEYS, "timezone", "lookups")
LOOKUP_KEYS = ("path", "database", "table", "on", "encoding", "delimiter", "decimal", "sheet")
CUSTOMER_KEYS = (*FILE_KEYS, "roles")


def parse_source(text: str, *, label: str, base: Path) -> Source:
    """Read the text of a YAML source.

    Takes  the YAML text
    Gives  Source, every key and name checked; no file is opened

    Parameters
    ----------
    label : name of the YAML file, for messages
    base : folder that relative paths start from

    Raises
    ------
    SourceError : not YAML, an unknown or missing key, an unknown contract column, role, kind or time zone
    """
    top = _load(text, label=label)
    known_keys(top, SOURCE_KEYS, where=label)
    for key in ("name", "timezone", "events"):
        if not top.get(key):
            raise SourceError(
                f"{label}: the key {key!r} is missing. Add it; segkit check FILE.csv drafts a whole source."
            )
    timezone = _zone(top["timezone"], where=label)
    events = _entries(top["events"], where=f"{label}: events")
    tables = tuple(
        _event_table(entry, timezone=timezone, where=f"{label}: events {n}") for n, entry in enumerate(events, start=1)
    )
    kinds = _kinds(top.get("kinds"), where=label)
    customers, roles = _customer_table(top.get("customers"), where=f"{label}: customers")
    return Source(
        name=_name(top["name"], where=label),
        timezone=timezone,
        kinds=kinds,
        roles=roles,
        tables=tables,
        customers=customers,
        base=base,
        default_as_of=_as_of(top.get("as_of"), where=label),
        needs=_needs(top.get("needs"), kinds=kinds, where=label),
        labels=labels_of(top.get("labels"), where=label),
        currency=currency_of(top.get("currency"), where=label),
        allow_set_aside=_share(top.get("allow_set_aside", ALLOW_SET_ASIDE), where=label),
        text=text,
    )


def known_keys(mapping: dict, known: tuple[str, ...], *, where: str) -> None:
    """Refuse keys that mean nothing, naming the nearest that does."""
    for key in mapping:
        if key not in known:
            raise SourceError(f"{where}: unknown key {key!r}.{nearest(key, known)}")


def _load(text: str, *, label: str) -> dict:
    top = load_yaml(text, label=label)
    if not isinstance(top, dict):
        raise SourceError(
            f"{label}: a source is a YAML mapping with name, timezone and events; found "
            f"{type(top).__name__}. segkit check FILE.csv drafts one for a table of events."
        )
    return top


def _event_table(entry: dict, *, timezone: str, where: str) -> EventTable:
    known_keys(entry, TABLE_KEYS, where=where)
    file = _file(entry, where=where)
    columns = _columns(entry, where=f"{where} ({file.label})")
    for name in columns:
        if name not in CONTRACT:
            raise SourceError(f"{where} ({file.label}): unknown contract column {name!r}.{nearest(name, CONTRACT)}")
    for name in REQUIRED:
        if name not in columns:
            raise SourceError(
                f"{where} ({file.label}): columns must say where {name} comes from. "
                f"Add '{name}: <column>' to its columns."
            )
    zone = _zone(entry["timezone"], where=where) if "timezone" in entry else timezone
    lookups = tuple(
        _lookup(item, where=f"{where} ({file.label}): lookups")
        for item in _entries(entry.get("lookups") or [], where=f"{where}: lookups", may_be_empty=True)
    )
    return EventTable(file=file, columns=columns, timezone=zone, where=_expression(entry.get("where")), lookups=lookups)


def _lookup(entry: dict, *, where: str) -> Lookup:
    known_keys(entry, LOOKUP_KEYS, where=where)
    on = entry.get("on")
    if not isinstance(on, (str, dict)) or not on:
        raise SourceError(f"{where}: 'on' must name the key column, e.g. on: product_id, or on: {{product_id: id}}.")
    pairs = {on: on} if isinstance(on, str) else {str(left): str(right) for left, right in on.items()}
    return Lookup(file=_file(entry, where=where), on=pairs)


def _customer_table(entry: dict | None, *, where: str) -> tuple[CustomerTable | None, dict[str, str]]:
    if entry is None:
        return None, {}
    if not isinstance(entry, dict):
        raise SourceError(f"{where}: expected a mapping with path, columns and roles; found {type(entry).__name__}.")
    known_keys(entry, CUSTOMER_KEYS, where=where)
    file, columns = _file(entry, where=where), _columns(entry, where=where)
    if "customer_id" not in columns:
        raise SourceError(f"{where} ({file.label}): columns must say where customer_id comes from.")
    given = entry.get("roles") or {}
    if not isinstance(given, dict):
        raise SourceError(f"{where}: roles map columns to one of: {', '.join(ROLES)}; found {type(given).__name__}.")
    roles = {str(name): str(role) for name, role in given.items()}
    for name in columns:
        if name != "customer_id" and name not in roles:
            raise SourceError(
                f"{where} ({file.label}): column {name!r} has no role. Add it to roles as one of: {', '.join(ROLES)}."
            )
    for name, role in roles.items():
        if name not in columns or name == "customer_id":
            raise SourceError(
                f"{where} ({file.label}): roles name {name!r}, which is not among columns.{nearest(name, columns)}"
            )
        if role not in ROLES:
            raise SourceError(
                f"{where} ({file.label}): column {name!r} has unknown role {role!r}.{nearest(role, ROLES)}"
            )
    return CustomerTable(file=file, columns=columns, where=_expression(entry.get("where"))), roles


def _file(entry: dict, *, where: str) -> FileSpec:
    path, database, table = entry.get("path"), entry.get("database"), entry.get("table")
    if (path is None) == (database is None):
        raise SourceError(f"{where}: give either path (a file or glob) or database (an Ibis URL) with table.")
    if database is not None and not table:
        raise SourceError(f"{where}: database needs table, the name of the table in it.")
    if path is not None and table is not None:
        raise SourceError(f"{where}: table goes with database, not with path. For a sheet of a workbook use sheet.")
    settings = {
        key: str(entry[key]) for key in ("encoding", "delimiter", "decimal", "sheet") if entry.get(key) is not None
    }
    if len(settings.get("delimiter", ",")) != 1 or settings.get("delimiter", ",") in '"\r\n':
        raise SourceError(f"{where}: delimiter must be one sign such as ';', found {settings['delimiter']!r}.")
    if settings.get("decimal", ".") not in (",", "."):
        raise SourceError(f"{where}: decimal must be ',' or '.', found {settings['decimal']!r}.")
    label = Path(str(path)).name if path is not None else str(table)
    return FileSpec(
        label=label,
        path=None if path is None else str(path),
        database=None if database is None else str(database),
        table=None if table is None else str(table),
        **settings,
    )


def _columns(entry: dict, *, where: str) -> dict[str, str]:
    columns = entry.get("columns")
    if not isinstance(columns, dict) or not columns:
        raise SourceError(
            f"{where}: columns must map contract columns to columns of the file, e.g. customer_id: CustomerID."
        )
    for name, value in columns.items():
        if value is None or isinstance(value, (dict, list)) or str(value).strip() == "":
            raise SourceError(f"{where}: column {name!r} needs a column name or an SQL expression, found {value!r}.")
    return {str(name): _expression(value) for name, value in columns.items()}


def _expression(value: object) -> str | None:
    if isinstance(value, bool):
        return str(value).lower()
    return None if value is None else str(value).strip()


def _entries(value: object, *, where: str, may_be_empty: bool = False) -> list[dict]:
    entries = [value] if isinstance(value, dict) else value
    if not isinstance(entries, list) or not (entries or may_be_empty) or not all(isinstance(e, dict) for e in entries):
        raise SourceError(f"{where}: expected a list of tables, each with path and columns.")
    return entries


def _kinds(value: object, *, where: str) -> dict[str, str]:
    kinds = {"purchase": "customer"} if value is None else value
    if not isinstance(kinds, dict) or not kinds:
        raise SourceError(
            f"{where}: kinds must say who does each kind of event, e.g. {{purchase: customer, email_sent: company}}."
        )
    for kind, actor in kinds.items():
        if actor not in ("customer", "company"):
            raise SourceError(f"{where}: kind {kind!r} is done by {actor!r}; it must be customer or company.")
    return {str(kind): str(actor) for kind, actor in kinds.items()}


def _needs(value: object, *, kinds: dict[str, str], where: str) -> tuple[str, ...]:
    """Kinds whose categories show what customers need: purchases, or where there are none all that customers do."""
    own = [kind for kind, who in kinds.items() if who == "customer"]
    if value is None:
        return ("purchase",) if "purchase" in own else tuple(own)
    asked = [value] if isinstance(value, str) else value
    if not isinstance(asked, list) or not asked:
        raise SourceError(f"{where}: needs lists kinds of event whose categories show needs, e.g. [feature_use].")
    wrong = sorted(str(kind) for kind in asked if kind not in own)
    if wrong:
        raise SourceError(f"{where}: needs names {wrong}, no kinds that customers do.{nearest(wrong[0], own)}")
    return tuple(str(kind) for kind in asked)


def _zone(value: object, *, where: str) -> str:
    try:
        return ZoneInfo(str(value)).key
    except (KeyError, ValueError, OSError):
        raise SourceError(
            f"{where}: unknown time zone {str(value)!r}. Use an IANA name such as Europe/London or UTC."
        ) from None


def _name(value: object, *, where: str) -> str:
    name = str(value)
    if not name.replace("_", "").replace("-", "").isalnum():
        raise SourceError(f"{where}: name {name!r} becomes a folder name; use letters, digits, '_' and '-' only.")
    return name


def _as_of(value: object, *, where: str) -> str | None:
    if value is None:
        return None
    try:
        found = value if isinstance(value, date) else datetime.strptime(str(value), "%Y-%m-%d")
    except ValueError:
        raise SourceError(f"{where}: as_of {value!r} is not a date. Write it as YYYY-MM-DD.") from None
    return found.isoformat()[:10]  # strftime writes the year 1 without its zeros


def _share(value: object, *, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise SourceError(f"{where}: allow_set_aside is a share of rows between 0 and 1, found {value!r}.")
    return float(value)
