"""A source: the YAML file that states where the tables are and what their columns mean."""

from datetime import date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from segkit.data.privacy import PrivacyRules
from segkit.data.yaml_models import OneOrMore, Text, YamlModel, one_of, parse_yaml, scalar_text, suggest

REQUIRED = ("customer_id", "timestamp")
ID_COLUMNS = ("event_id", "order_id", "item")
TEXT_COLUMNS = ("category", "channel", "campaign", "text")
NUMBER_COLUMNS = ("quantity", "amount", "discount", "cost")
LIST_COLUMNS = ("category",)  # may hold several texts in a row, such as the genres of a film
FLAG_COLUMNS = ("private_label",)
OPTIONAL = ID_COLUMNS + TEXT_COLUMNS + FLAG_COLUMNS + NUMBER_COLUMNS
CONTRACT = (*REQUIRED, "event", *OPTIONAL)
ROLES = ("demographic", "geographic", "survey", "current_segment", "identifier", "consent", "ignore")
MAX_REJECTED_SHARE = 0.05  # share of rows that may be rejected, unless the YAML states another
MAX_HOLDOUT = 0.5  # share of customers kept out of every export and pilot
LONGEST_LABEL = 40  # characters; labels are used in names and sentences


def _zone(name: str) -> str:
    try:
        return ZoneInfo(name).key
    except (KeyError, ValueError, OSError):
        raise ValueError(f"unknown time zone {name!r}. Use an IANA name such as Europe/London or UTC.") from None


def _day(value: Any) -> str:
    try:
        found = value if isinstance(value, date) else datetime.strptime(str(value), "%Y-%m-%d")
    except ValueError:
        raise ValueError(f"{value!r} is not a date. Write it as YYYY-MM-DD.") from None
    return found.isoformat()[:10]  # strftime writes the year 1 without its zeros


def _sql(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else scalar_text(value)


def _one_line(value: Any) -> Any:
    text = scalar_text(value)
    return " ".join(text.split()) if isinstance(text, str) else text


def _tables(value: Any) -> Any:
    return [value] if isinstance(value, dict) and value else value or []


def _needs(value: Any) -> Any:
    """Read a list as the kinds of event that show needs, as older sources write it."""
    return {"kinds": value} if isinstance(value, str | list) else value


def _folder_name(name: str) -> str:
    if not name.replace("_", "").replace("-", "").isalnum():
        raise ValueError(f"{name!r} becomes a folder name; use letters, digits, '_' and '-' only.")
    return name


Zone = Annotated[Text, AfterValidator(_zone)]
Condition = Annotated[str, StringConstraints(strip_whitespace=True), BeforeValidator(_sql)]
Expression = Annotated[Condition, Field(min_length=1)]
Label = Annotated[str, StringConstraints(min_length=1, max_length=LONGEST_LABEL), BeforeValidator(_one_line)]


class FileSpec(YamlModel):
    """Where one table is, a path or glob or a database URL with a table, and how to read it."""

    path: Text | None = Field(None, description="a path or glob, e.g. sales.csv")
    database: Text | None = Field(None, description="an Ibis URL, e.g. duckdb://shop.duckdb")
    table: Text | None = Field(None, description="the name of a table of the database")
    encoding: Text | None = Field(None, description="the name of an encoding, e.g. cp1252")
    delimiter: Annotated[Text, Field(pattern=r'^([^"\r\n]|spaces)$')] | None = Field(
        None, description="one character such as ';', or the word spaces"
    )
    header: bool = Field(True, strict=True, description="false where the first line of a CSV is data already")
    decimal: Literal[",", "."] | None = Field(None, description="',' or '.'")
    sheet: Text | None = Field(None, description="the name of a sheet of the workbook")

    @model_validator(mode="after")
    def _one_place(self) -> "FileSpec":
        if (self.path is None) == (self.database is None):
            raise ValueError("give either path (a file or glob) or database (an Ibis URL) with table.")
        if self.database is not None and not self.table:
            raise ValueError("database needs table, the name of the table in it.")
        if self.path is not None and self.table is not None:
            raise ValueError("table goes with database, not with path. For a sheet of a workbook use sheet.")
        return self

    @property
    def label(self) -> str:
        """The name of the file or table, for messages."""
        return self.table if self.path is None else Path(self.path).name


class Lookup(FileSpec):
    """A small table joined to the events by key; ``on`` maps columns of the events to columns of the lookup."""

    on: Annotated[
        dict[Text, Text],
        Field(min_length=1),
        BeforeValidator(lambda on: {on: on} if isinstance(on, str) and on else on),
    ] = Field(description="the key column, e.g. on: product_id, or on: {product_id: id}")


class EventTable(FileSpec):
    """One table of events; ``columns`` maps contract columns to SQL expressions over the raw columns."""

    columns: dict[Annotated[Text, one_of("contract column", CONTRACT)], Expression] = Field(
        min_length=1,
        description="a column of the file or an SQL expression for each contract column, e.g. {customer_id: ID}",
    )
    timezone: Zone = Field("", description="an IANA name such as Europe/London")  # "": that of the source
    where: Condition | None = Field(None, description="an SQL condition on the rows")
    lookups: Annotated[tuple[Lookup, ...], BeforeValidator(_tables)] = Field(
        (), description="a list of tables, each with path and on"
    )
    fill: dict[Text, Annotated[tuple[Text, ...], Field(min_length=1), OneOrMore]] = Field(
        {}, description="the column of the order with the columns that only its first line holds, e.g. {Name: [Status]}"
    )

    @field_validator("columns")
    @classmethod
    def _has_required(cls, columns: dict[str, str]) -> dict[str, str]:
        for name in REQUIRED:
            if name not in columns:
                raise ValueError(f"{name} is missing. Add '{name}: <column>'.")
        return columns


class CustomerTable(FileSpec):
    """The table of customers; ``columns`` maps columns to SQL expressions, ``roles`` columns to roles."""

    columns: dict[Text, Expression] = Field(
        min_length=1, description="a column of the file or an SQL expression for each column, e.g. {customer_id: id}"
    )
    where: Condition | None = Field(None, description="an SQL condition on the rows")
    roles: dict[Text, Annotated[Text, one_of("role", ROLES)]] = Field(
        {}, validate_default=True, description=f"columns, each with one of: {', '.join(ROLES)}"
    )

    @field_validator("columns")
    @classmethod
    def _has_customer_id(cls, columns: dict[str, str]) -> dict[str, str]:
        if "customer_id" not in columns:
            raise ValueError("customer_id is missing. Add 'customer_id: <column>'.")
        return columns

    @field_validator("roles")
    @classmethod
    def _one_role_each(cls, roles: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        columns = set(info.data.get("columns", ["customer_id", *roles])) - {"customer_id"}
        missing, unknown = sorted(columns - set(roles)), sorted(set(roles) - columns)
        if missing:
            raise ValueError(f"column {missing[0]!r} has no role. Add it to roles as one of: {', '.join(ROLES)}.")
        if unknown:
            raise ValueError(f"{unknown[0]!r} is not a column with a role.{suggest(unknown[0], columns)}")
        return roles


class NeedsSpec(YamlModel):
    """What needs are learnt from, what they are called, and what is never offered."""

    things: Literal["item", "category"] | None = Field(None, alias="from", description="item or category")
    names: dict[Text, Label] = Field(
        {}, description=f"a name of 1 to {LONGEST_LABEL} characters for each need id, e.g. {{N03: Afternoon tea}}"
    )
    never_offer: Annotated[tuple[Label, ...], OneOrMore] = Field(
        (), description="a list of things, needs or words of the lexicon, e.g. [cigarettes, alcohol]"
    )
    kinds: Annotated[tuple[Text, ...], Field(min_length=1), OneOrMore] | None = Field(
        None, description="kinds of event whose categories show needs, e.g. [feature_use]"
    )


class SourceYaml(YamlModel):
    """A source as its YAML states it; ``kinds`` maps each kind of event to who does it, customer or company."""

    hint = " segkit check FILE.csv drafts a whole source."

    name: Annotated[Text, AfterValidator(_folder_name)] = Field(description="a short name; it becomes a folder name")
    timezone: Zone = Field(description="an IANA name such as Europe/London or UTC")
    kinds: dict[Text, Literal["customer", "company"]] = Field(
        {"purchase": "customer"},
        min_length=1,
        description="customer or company for each kind of event, e.g. {purchase: customer, email_sent: company}",
    )
    tables: Annotated[tuple[EventTable, ...], BeforeValidator(_tables)] = Field(
        alias="events", description="a list of tables, each with path and columns"
    )
    customers: CustomerTable | None = Field(None, description="a mapping with path, columns and roles")
    default_as_of: Annotated[str, BeforeValidator(_day)] | None = Field(None, alias="as_of", description="a date")
    allow_set_aside: float = Field(
        MAX_REJECTED_SHARE, ge=0, le=1, strict=True, allow_inf_nan=False, description="a share of rows between 0 and 1"
    )
    needs: Annotated[NeedsSpec, BeforeValidator(_needs)] = Field(
        {},
        validate_default=True,
        description="a mapping such as {from: item, never_offer: [alcohol], kinds: [feature_use]}",
    )
    labels: dict[Text, Label] = Field(
        {},
        description=f"a text of 1 to {LONGEST_LABEL} characters for each category, e.g. {{FRZN PIZZA: frozen pizza}}",
    )
    currency: Text = Field("", pattern="^[A-Z]{3}$", description="a currency code such as USD, EUR or GBP")
    holdout: Annotated[float, Field(gt=0, le=MAX_HOLDOUT, strict=True, allow_inf_nan=False)] | None = Field(
        None, description=f"a share of customers above 0 and at most {MAX_HOLDOUT}, such as 0.03"
    )
    holdout_from: Annotated[str, BeforeValidator(_day)] | None = Field(None, description="a date")
    holdout_until: Annotated[str, BeforeValidator(_day)] | None = Field(None, description="a date")

    @model_validator(mode="before")
    @classmethod
    def _customers_alone(cls, found: Any) -> Any:
        """Let a table of customers do without events and a time zone."""
        if not isinstance(found, dict) or found.get("events"):
            return found
        stated = {key: value for key, value in found.items() if key != "events"}
        return {"timezone": "UTC", **stated, "events": []} if found.get("customers") else stated

    @field_validator("tables")
    @classmethod
    def _default_zone(cls, tables: tuple[EventTable, ...], info: ValidationInfo) -> tuple[EventTable, ...]:
        zone = info.data.get("timezone", "")
        return tuple(table.model_copy(update={"timezone": table.timezone or zone}) for table in tables)

    @field_validator("needs")
    @classmethod
    def _needs_of_events(cls, needs: NeedsSpec, info: ValidationInfo) -> NeedsSpec:
        """Check what needs are learnt from; the default kinds are purchases, or else all that customers do."""
        mapped = {column for table in info.data.get("tables", ()) for column in table.columns}
        if needs.things and mapped and needs.things not in mapped:
            raise ValueError(f"from: {needs.things} is a column of no table. Add '{needs.things}: <column>' to one.")
        own = [kind for kind, actor in info.data.get("kinds", {}).items() if actor == "customer"]
        if needs.kinds is None or "kinds" not in info.data:
            return needs.model_copy(update={"kinds": ("purchase",) if "purchase" in own else tuple(own)})
        wrong = sorted(set(needs.kinds) - set(own))
        if wrong:
            raise ValueError(f"{wrong[0]!r} is not a kind of event that customers do.{suggest(wrong[0], own)}")
        return needs

    @model_validator(mode="after")
    def _holdout_has_a_time(self) -> "SourceYaml":
        days = (self.holdout_from, self.holdout_until)
        if self.holdout is None and days == (None, None):
            return self
        if self.holdout is None or None in days:
            raise ValueError(
                "holdout, holdout_from and holdout_until go together: a share of customers, and the first and last day."
            )
        if days[0] > days[1]:
            raise ValueError(f"holdout_until {days[1]} is before holdout_from {days[0]}.")
        return self

    @property
    def customers_only(self) -> bool:
        """Whether it is a table of customers alone."""
        return not self.tables

    @property
    def roles(self) -> dict[str, str]:
        """The role of each column of the customers."""
        return self.customers.roles if self.customers else {}


class Source(SourceYaml):
    """A source with what its YAML does not state: the base folder of paths, the text itself, and the privacy rules.

    Examples
    --------
    >>> source = segkit.open_source("complete_journey")
    >>> isinstance(source, segkit.Source), source.currency, source.needs.kinds
    (True, 'USD', ('purchase',))
    """

    base: Path
    text: str = Field("", repr=False)
    privacy: PrivacyRules = Field(default_factory=PrivacyRules, repr=False)


def parse_source(text: str, *, label: str, base: Path) -> Source:
    """Parse the text of a YAML source; no file is opened.

    Parameters
    ----------
    base
        Folder that relative paths start from.

    Raises
    ------
    SourceError
        The text is not YAML, or has an unknown or missing key, contract column, role, kind or time zone.
    """
    stated = parse_yaml(text, SourceYaml, label=label)
    return Source.model_construct(**dict(stated), base=base, text=text)
