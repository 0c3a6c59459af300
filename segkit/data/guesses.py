"""Guess what the columns of a raw table mean, from their names and their values."""

import re
import unicodedata
from dataclasses import dataclass, field

import ibis

from segkit.data.contract import LIST
from segkit.data.expressions import quote
from segkit.data.related import Lookups
from segkit.data.spec import LIST_COLUMNS, FileSpec
from segkit.data.values import CURRENCY, is_number, is_time_like, refuse_currencies
from segkit.errors import ColumnError, SourceError

MAX_KINDS = 30  # most different values of a column that can be the kind of event
MANY_ROWS = 50  # from here on, a column with a different value in nearly every row is no category
NEARLY_UNIQUE = 0.9  # different values per row
KNOWN_KINDS = {"purchase", "return", "cancel", "visit"}
NAME_HINTS = {  # words in the name of a raw column -> contract column, the surest first
    "customer_id": (
        "customerid customer custno cust client userid user member account household shopper buyer kunde "
        "contact subscriber visitor donor player viewer listener caller msisdn patient borrower reader guest tenant "
        "meter person email mail phone "
        "card shop company"
    ),
    "timestamp": "timestamp datetime date time created ordered when datum bestellt day at am",
    "order_id": "orderid orderno ordernumber invoice basket order receipt transaction ticket bestell beleg bon",
    "event": "eventtype eventname event action activity type",
    "amount": (
        "amount total revenue sales spend value paid betrag umsatz montant gross net sum charge gift donation fare "
        "stake dues tuition"
    ),
    "price": "unitprice price preis prix",
    "quantity": "quantity qty units count numberof menge pieces",
    "discount": "discount rebate rabatt",
    "cost": "cost cogs",
    "category": (
        "category department productgroup warengruppe kategorie subclass aisle description productname group feature "
        "page product genre genres tag tags topic topics service plan fund brand"
    ),
    "item": (
        "productid stockcode sku articleid itemid article item artikel ean upc asin isbn model movieid trackid title "
        "song"
    ),
    "channel": "channel kanal device platform store os",
    "campaign": "campaign utm promotion",
    "text": "comment review feedback message text note",
}
OTHER_LANGUAGES = {  # German, French, Italian, Spanish, Portuguese, Dutch, Polish, Swedish, Russian, Chinese
    "customer_id": (
        "kundennummer mitglied ausweis leser spender versicherter acheteur donateur donatore donante "
        "adherent abonne abbonato socio usuario klant klient kund medlem "
        "клиент покупатель заказчик пользователь абонент пациент читатель 客户 顾客 会员 用户"
    ),
    "timestamp": (
        "zeitpunkt zeit jour heure giorno ora fecha hora dia data tijd tijdstip dzien czas tid dag дата время 日期 时间"
    ),
    "order_id": "commande ordine pedido encomenda zamowienie заказ чек 订单",
    "event": "ereignis vorgang evenement evento gebeurtenis zdarzenie handelse событие 事件",
    "amount": (
        "summe somme importo totale importe monto valor bedrag kwota wartosc suma belopp summa "
        "сумма стоимость оплачено 金额 总额"
    ),
    "price": "prezzo precio preco prijs cena pris цена 单价 价格",
    "quantity": "anzahl quantite quantita cantidad quantidade aantal hoeveelheid ilosc antal количество 数量",
    "discount": "remise sconto descuento desconto korting rabat скидка 折扣",
    "category": (
        "categorie categoria kategoria kategori produkt produit prodotto producto produto "
        "категория товар услуга 类别 分类 商品"
    ),
    "channel": "canal canale kanaal канал 渠道",
    "text": "kommentar commentaire commento comentario opmerking комментарий отзыв 评论",
}
WHOLE_WORDS = (  # no hints inside other words: country, transaction, enterprise
    *("count", "action", "type", "order", "card", "meter", "guest", "pris", "cena", "suma", "socio", "jour", "hora"),
    *("data", "kund", "antal", "czas", "zeit"),
)
BIRTH_WORDS = (
    *(
        "birth",
        "born",
        "dob",
        "geburt",
        "naissance",
        "nascita",
        "nacimiento",
        "nascimento",
        "geboorte",
        "urodz",
        "fodelse",
    ),
    *("рожд", "出生", "生日"),
)
CODED = ("category", "department", "productgroup", "subclass", "aisle", "genre")  # also where they are numbers
OF_CUSTOMERS = {"age", "income", "customer", "user", "test", "price", "household"}  # groups that are no categories
FEW_TEXTS = 0.1  # different texts per row: below it, they are of a machine, such as "Payment complete."
NO_TEXTS = {"id", "name", "time", "date", "score", "rating", "url", "type", "status"}
NOT_PAID = (
    "freight",
    "shipping",
    "postage",
    "tax",
    "vat",
    "fee",
    "tip",
    "score",
    "balance",
    "versand",
    "mwst",
    "id",
    "channel",
    "code",
    *("tva", "iva", "btw", "налог", "ндс", "доставка"),
)
OF_SOMETHING_ELSE = ("payment", "product", "item", "device", "card", "customer", "user", "account", "ticket", "file")
MAX_CATEGORIES = 200  # different values of a column that is a category by its values alone
ROWS_PER_CATEGORY = 20
VARIES = 1.3  # different values for each customer, from which on they tell of what customers do
NO_CATEGORIES = set(
    "status state country city region currency payment gender name email phone id url ip language browser campaign "
    "channel source medium referrer agent employee clerk doctor method comment estado statut stato статус "
    "platform device os cohort lifecycle session".split()
)
GROUPS = ("type", "category", "group", "country", "status", "class", "city", "state")  # of customers
WEAK_WORDS = {"phone", "card", "shop", "company"}  # of customers only where there are many
FEWEST_CUSTOMERS = 10
PLACES = ("line", "position", "seq", "sequential", "rank", "row")  # of a line in its order
NUMBER_HINTS = ("amount", "price", "quantity", "discount", "cost")
ADDED_UP = ("amount", "quantity", "discount", "cost")  # of a line: a table whose lines are shared holds none of them
CLOCK_WORDS = ("timestamp", "epoch", "unixtime", "time", "ts")
TIME_OF_DAY = re.compile(r"([01]?\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d+)?)?( ?[AaPp]\.?[Mm]\.?)?")
ENDS = ("end", "until", "finish", "out", "bis", "ende", "fin", "fine")  # of what has a beginning
MONEY = re.compile(r"[-+(]?\s*[$€£¥]?\s*[-+]?\d[\d.,' \u00a0]*\s*[$€£¥]?\s*[-)]?")
EPOCH_SECONDS = re.compile(r"[1-9]\d{8,9}(\.0*)?")  # since 1973
WRITE_BY_HAND = "Write a source by hand: name, timezone, events with path and columns."


@dataclass(frozen=True)
class RawTable:
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

    def count(self, condition: str) -> int:
        """Count the rows that fulfil a condition."""
        sql = f"select count(*) from {quote(self.view)} where {condition}"
        return self.con.con.execute(sql).fetchall()[0][0]

    def count_distinct(self, *names: str) -> int:
        """Count how many different values some columns have together."""
        listed = ", ".join(map(quote, names))
        sql = f"select count(*) from (select distinct {listed} from {quote(self.view)})"
        return self.con.con.execute(sql).fetchall()[0][0]


def guess_customer(table: RawTable) -> str | None:
    """Guess the column of the customer from its name."""
    return next(iter(_ranked("customer_id", table=table, used={})), None)


def customer_columns(table: RawTable) -> list[str]:
    """List the columns whose names speak of a customer, the surest first, without those of few values."""
    found = _ranked("customer_id", table=table, used={})
    return [name for name in found if table.rows < MANY_ROWS or table.distinct[name] >= FEWEST_CUSTOMERS]


def guess_columns(table: RawTable) -> dict[str, str]:
    """Guess the raw column of each contract column (and of price) from names and values.

    Raises `SourceError`: no column looks like a customer or a time.
    """
    found: dict[str, str] = {}
    for contract in NAME_HINTS:
        ranked = _ranked(contract, table=table, used=found)
        if ranked:
            found[contract] = ranked[0]
    if "amount" not in found:
        _refuse_unlike_amounts(table)
        found |= _amount_without_a_name(table)
    if "timestamp" not in found:
        left = [
            n for n in table.kinds if n not in found.values() and is_time_like(table.samples[n]) and not is_birth(n)
        ]
        if not left:
            raise ColumnError(_no_time(table, customer=found.get("customer_id")))
        found["timestamp"] = left[0]
    found |= _time_of_day(table, day=found["timestamp"])
    if "customer_id" not in found:
        left = [n for n in table.kinds if n not in found.values() and _may_be_customer(n, table=table)]
        if not left:
            raise ColumnError(
                f"{table.file.label}: no column looks like a customer; it has {', '.join(table.kinds)}. {WRITE_BY_HAND}"
            )
        found["customer_id"] = max(left, key=lambda name: (table.kinds[name] == "VARCHAR", table.distinct[name]))
    else:
        found["customer_id"] = _customer_of_several_orders(table, found=found)
    found |= {} if "event" in found else _event_by_values(table, found=found)
    return found if "category" in found else found | _category_by_values(table, found=found)


def _event_by_values(table: RawTable, *, found: dict[str, str]) -> dict[str, str]:
    """Guess the kind of event from values: a column of purchases and other known kinds alone."""
    for name in table.kinds:
        values = {value.strip().lower() for value in table.samples[name]} - {""}
        if name not in found.values() and "purchase" in values and 1 < len(values) == len(values & KNOWN_KINDS):
            return {"event": name}
    return {}


def _amount_without_a_name(table: RawTable) -> dict[str, str]:
    """Guess the amount of a table without names of columns: the last number with decimals."""
    decimals = [
        name
        for name, kind in table.kinds.items()
        if kind == "DOUBLE" and any(not value.endswith(".0") for value in table.samples[name])
    ]
    unnamed = all(re.fullmatch(r"column\d+", name) for name in table.kinds)
    return {"amount": decimals[-1]} if unnamed and decimals else {}


def _refuse_unlike_amounts(table: RawTable) -> None:
    """Raise `SourceError` where a column is named as an amount and holds money that cannot be read as one number."""
    words = tuple(NAME_HINTS["amount"].split())
    for name in table.kinds:
        texts = [value.strip() for value in table.samples[name] if value.strip()]
        money = [value for value in texts if MONEY.fullmatch(value)]
        named = _rank(name, hints=words) < len(words) and not is_number(table.kinds[name])
        if not named or len(money) <= len(texts) / 2 or not any(re.search(CURRENCY, value) for value in money):
            continue
        refuse_currencies(money, where=f"{table.file.label}: column {name!r}")
        forms = {re.sub(r"\d+", "1", value): value for value in reversed(texts)}
        alike = " and ".join(map(repr, list(forms.values())[::-1][:2]))
        raise SourceError(
            f"{table.file.label}: column {name!r} has amounts that are not written alike, such as {alike}. Write them "
            "alike, and check the file again."
        )


def _time_of_day(table: RawTable, *, day: str) -> dict[str, str]:
    """Guess the column with the time of day, where the time itself has none; rather the beginning than the end."""
    if any(":" in value for value in table.samples[day]):
        return {}
    clocks = [name for name in table.kinds if is_time_of_day(table.samples[name])]
    begins = [name for name in clocks if not words_in_name(name) & set(ENDS)]
    return {"time": (begins or clocks)[0]} if clocks else {}


def is_time_of_day(values: list[str]) -> bool:
    """Return whether most texts of a sample are times without a day, such as 09:31 or 1:05 PM."""
    filled = [value.strip() for value in values if value.strip()]
    return sum(bool(TIME_OF_DAY.fullmatch(value)) for value in filled) > len(filled) / 2


def _category_by_values(table: RawTable, *, found: dict[str, str]) -> dict[str, str]:
    """Guess the category from values: the texts that vary most within a customer, and are few."""
    customer, best = found["customer_id"], (0, "")
    for name in table.kinds:
        few = 2 < table.distinct[name] <= min(MAX_CATEGORIES, table.rows / ROWS_PER_CATEGORY)
        if name in found.values() or not few or words_in_name(name) & NO_CATEGORIES:
            continue
        if not _is_candidate("category", name, table) or set(map(len, table.samples[name])) <= {1, 2, 3}:  # codes
            continue
        pairs = table.count_distinct(customer, name)
        if pairs > VARIES * table.distinct[customer]:
            best = max(best, (table.distinct[name], name))
    return {"category": best[1]} if best[1] else {}


def _ranked(contract: str, *, table: RawTable, used: dict[str, str]) -> list[str]:
    """List the columns that may be a contract column and have one of its words in their name, the surest first."""
    words = tuple(fold(f"{NAME_HINTS[contract]} {OTHER_LANGUAGES.get(contract, '')}").split())
    left = [name for name in table.kinds if name not in used.values() and _is_candidate(contract, name, table)]
    ranks = {name: _rank(name, hints=words) for name in left}
    if contract == "text":  # the longest
        left.sort(key=lambda name: -sum(map(len, table.samples[name])))
        return [name for name in left if ranks[name] < len(words)]
    return sorted((name for name in left if ranks[name] < len(words)), key=lambda name: ranks[name])


def _customer_of_several_orders(table: RawTable, *, found: dict[str, str]) -> str:
    """Return the column of the customer: not one that differs in each order where another one repeats."""
    first, order = found["customer_id"], found.get("order_id")
    others = [name for name in _ranked("customer_id", table=table, used={}) if name not in found.values()]
    if order is None or not others or table.distinct[first] < NEARLY_UNIQUE * table.distinct[order]:
        return first
    return next((n for n in others if 1 < table.distinct[n] < NEARLY_UNIQUE * table.distinct[first]), first)


def _may_be_customer(name: str, *, table: RawTable) -> bool:
    values = table.samples[name]
    return 1 < len(set(values)) < len(values) and _is_candidate("customer_id", name, table)


def _no_time(table: RawTable, *, customer: str | None) -> str:
    """Explain a table without a time: nearly one line for each customer is a table of customers, not of events."""
    label, has = table.file.label, ", ".join(table.kinds)
    customer = customer or next(iter(table.kinds))
    if table.rows > 1 and len(table.kinds) > 1 and table.distinct[customer] > NEARLY_UNIQUE * table.rows:
        return (
            f"{label}: no column looks like the time of an event; it has {has}. Nearly every line has a {customer} of "
            "its own: keep one line for each, and it is a table of customers."
        )
    counted = next(
        (name for name in table.kinds if is_number(table.kinds[name]) and words_in_name(name) & {"day"}), None
    )
    start = f"date '2024-01-01' + cast({quote(counted or '')} as integer)"
    hint = f" Where {counted} counts days, write a source by hand with timestamp: {start}." if counted else ""
    return (
        f"{label}: no column looks like a time; it has {has}. Each event needs its day: export the table with it, or "
        f"put a table that has it in the same folder, with a key that both have.{hint}"
    )


def words_in_name(name: str) -> set[str]:
    """Return the words in the name of a column, in small letters."""
    return set(_parts(name))


def _parts(name: str) -> list[str]:
    """Split the name of a column into words."""
    return re.findall(r"[^\W_]+", fold(re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)))


def fold(text: str) -> str:
    """Return a text in small letters without accents."""
    return "".join(sign for sign in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(sign))


def _rank(name: str, *, hints: tuple[str, ...]) -> int:
    """Return the position of the first hint in the name of a column; the number of hints if there is none."""
    letters, parts = re.sub(r"[\W_]", "", fold(name)), _parts(name)
    return next((n for n, word in enumerate(hints) if word in parts or _is_inside(word, letters)), len(hints))


def _is_inside(word: str, letters: str) -> bool:
    long = len(word) > (3 if word.isascii() else 1)
    return long and word in letters and word not in WHOLE_WORDS


def _is_candidate(contract: str, name: str, table: RawTable) -> bool:
    values, kind, parts = table.samples[name], table.kinds[name], words_in_name(name)
    if not any(value.strip() for value in values) or is_time_of_day(values):
        return False
    if contract == "timestamp":
        return not is_birth(name) and (_is_clock(name, table) or is_time_like(values) and _is_no_decimal(kind))
    if contract in NUMBER_HINTS:
        shared = contract in ADDED_UP and name in table.lookups.shared
        return is_number(kind) and not shared and not (contract == "amount" and parts & set(NOT_PAID))
    if contract == "event":
        other = parts & set(OF_SOMETHING_ELSE) and not parts & {"event", "action", "activity"}
        return not is_number(kind) and not other and len(set(values)) <= MAX_KINDS
    if contract == "category" and (table.is_constant(name) or parts & OF_CUSTOMERS):
        return False
    if contract == "category" and kind == "BIGINT":
        return any(word in "".join(_parts(name)) for word in CODED) and not table.is_nearly_unique(name)
    if contract in ("category", "channel", "campaign", "text"):
        unique = parts & NO_TEXTS or _is_of_machine(values) if contract == "text" else table.is_nearly_unique(name)
        return (
            kind in ("VARCHAR", *([LIST] if contract in LIST_COLUMNS else []))
            and not is_time_like(values)
            and not unique
        )
    if kind == "VARCHAR" and is_time_like(values):
        return False
    if contract == "customer_id" and (table.is_constant(name) or parts & {*PLACES, *GROUPS}):
        return False
    if contract == "customer_id" and parts & WEAK_WORDS and table.distinct[name] < FEWEST_CUSTOMERS:
        return False
    if contract == "item" and (table.is_nearly_unique(name) or parts & {"order", *PLACES}):
        return False
    return kind != "DOUBLE" or all(value.endswith(".0") for value in values)


def _is_of_machine(texts: list[str]) -> bool:
    """Return whether the same few texts come again and again, as no customer writes."""
    return len(texts) >= MANY_ROWS and len(set(texts)) < FEW_TEXTS * len(texts)


def _is_no_decimal(kind: str) -> bool:
    return not is_number(kind) or kind == "BIGINT"


def _is_clock(name: str, table: RawTable) -> bool:
    """Return whether a column of numbers has the name of a time and holds seconds since 1970."""
    named = words_in_name(name) & set(CLOCK_WORDS)
    return bool(named) and is_number(table.kinds[name]) and all(map(EPOCH_SECONDS.fullmatch, table.samples[name]))


def is_birth(name: str) -> bool:
    """Return whether the name of a column speaks of a birth."""
    return any(fold(word) in fold(name) for word in BIRTH_WORDS)
