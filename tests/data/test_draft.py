"""Drafts of a source for tables of many kinds: each is read as it is, or refused in one sentence."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml

from segkit.customers.days import build_days
from segkit.data.check import check_source
from segkit.data.draft import draft_source
from segkit.data.exports import EXPORTS
from segkit.data.sources import connect, open_source, read_events
from segkit.errors import SourceError

ROWS = 2_000


def orders(**columns: object) -> pd.DataFrame:
    """Orders of 300 customers over 500 days."""
    draw = np.random.default_rng(1)
    times = pd.Timestamp("2023-01-01") + pd.to_timedelta(np.sort(draw.integers(0, 500 * 86_400, ROWS)), unit="s")
    frame = pd.DataFrame(
        {
            "customer_id": [f"C{n:04d}" for n in draw.integers(1, 301, ROWS)],
            "order_id": [f"B{n}" for n in range(ROWS)],
            "created_at": times.astype("datetime64[s]"),
            "category": draw.choice(["Tea", "Coffee", "Cups"], ROWS),
            "amount": draw.lognormal(3, 0.6, ROWS).round(2),
        }
    )
    return frame.assign(**columns)


def totals(source: str) -> tuple[int, int, float]:
    """Events, customers and amount of the source that was drafted."""
    events = read_events(open_source(source), con=connect())
    found = events.agg(n=events.count(), c=events.customer_id.nunique(), a=events.amount.sum()).execute().iloc[0]
    return int(found["n"]), int(found["c"]), float(found["a"])


def drafted(path: Path) -> str:
    """Check a table, and return the text of its draft."""
    check_source(str(path))
    return path.with_suffix(".yaml").read_text(encoding="utf-8")


def _mixed(frame: pd.DataFrame, path: Path) -> None:
    lines = frame.to_csv(index=False).splitlines()
    path.write_text("".join(line + ("\r\n" if n % 3 else "\n") for n, line in enumerate(lines)), newline="")


def _zstd(frame: pd.DataFrame, path: Path) -> None:
    with pa.CompressedOutputStream(str(path), "zstd") as stream:
        stream.write(frame.to_csv(index=False).encode())


def _epoch(factor: int) -> Callable[[pd.DataFrame, Path], None]:
    return lambda frame, path: frame.assign(created_at=frame["created_at"].astype("int64") * factor).to_csv(
        path, index=False
    )


WRITERS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "tabs.tsv": lambda frame, path: frame.to_csv(path, sep="\t", index=False),
    "bars.txt": lambda frame, path: frame.to_csv(path, sep="|", index=False),
    "packed.csv.gz": lambda frame, path: frame.to_csv(path, index=False),
    "packed.csv.zst": _zstd,
    "lines.jsonl": lambda frame, path: frame.to_json(path, orient="records", lines=True, date_format="iso"),
    "list.json": lambda frame, path: frame.to_json(path, orient="records", date_format="iso"),
    "seconds.csv": _epoch(1),
    "milliseconds.csv": _epoch(1_000),
    "microseconds.csv": _epoch(1_000_000),
    "line_ends.csv": _mixed,
    "headerless.csv": lambda frame, path: frame.to_csv(path, index=False, header=False),
    "blanks.txt": lambda frame, path: path.write_text(
        frame.assign(created_at=frame["created_at"].dt.strftime("%Y%m%d")).to_string(index=False)
    ),
    "offset.csv": lambda frame, path: frame.assign(
        created_at=frame["created_at"].dt.strftime("%Y-%m-%d %H:%M:%S +0200")
    ).to_csv(path, index=False),
    "old_seconds.csv": lambda frame, path: (
        frame.assign(created_at=frame["created_at"].astype("int64") - 800_000_000)
        .rename(columns={"created_at": "created_at:time"})
        .to_csv(path, index=False)
    ),
    "workbook.xlsx": lambda frame, path: frame.to_excel(path, index=False),
}


@pytest.mark.parametrize("name", WRITERS)
def test_each_kind_of_file_is_read_whole(tmp_path: Path, name: str) -> None:
    frame = orders()
    WRITERS[name](frame, tmp_path / name)
    text = drafted(tmp_path / name)
    if name == "headerless.csv":
        assert "header: false  # guess" in text and "customer_id: column1" in text and "timestamp: column3" in text
        source = yaml.safe_load(text)
        source["events"][0]["columns"] |= {"amount": "column5"}
        (tmp_path / "named.yaml").write_text(yaml.safe_dump(source))
        source_file = tmp_path / "named.yaml"
    else:
        source_file = (tmp_path / name).with_suffix(".yaml")
    assert totals(str(source_file)) == (ROWS, frame["customer_id"].nunique(), pytest.approx(frame["amount"].sum()))


def test_the_report_describes_how_a_file_was_read(tmp_path: Path) -> None:
    _mixed(orders(), tmp_path / "mixed.csv")
    shown = str(check_source(str(tmp_path / "mixed.csv")))
    assert (
        "mixed.csv (UTF-8, commas between the columns, which are named by its first line, line ends of several" in shown
    )
    assert f"order_id       filled in 100.0% of events, {ROWS:,} different values" in shown


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("aligned.txt", orders().head(50).to_string(index=False), "its columns are aligned by spaces"),
        ("quote.csv", "who,at,what\na,2024-01-01,x\n" + 'b,2024-01-02,"y\n' + "c,2024-01-03,z\n" * 9,
         "line 3 has a quote"),
        ("ragged.csv", "who,at\n" + "a,2024-01-01\n" * 30 + "b,2024-01-02,x\n", "line 32 does not fit the table"),
        ("mixed.csv", "who,at\r\na,2024-01-01\nb,2024-01-02\nc,2024-01-03,x\r\n", "line 4 has 3 columns"),
        ("broken.jsonl", '{"who": "a", "at": "2024-01-01"}\n{"who": "b"\n', "broken.jsonl: it cannot be read"),
        ("people.csv", "customer_id,birthday\n0,1980-02-02\n" + "".join(f"{n},1980-01-0{n % 9}\n" for n in range(60)),
         "keep one line for each, and it is a table of customers"),
        ("empty.json", "[]", "it holds no rows"),
        ("days.csv", "household,DAY,paid\n" + "".join(f"{n % 20},{n},1\n" for n in range(60)),
         "date '2024-01-01' + cast(\"DAY\" as integer)"),
        ("numbers.csv", "x\n1\n2\n", "no column looks like a time; it has x"),
        ("money.csv", "who,at,amount\n" + "".join(f"{n % 9},2024-01-0{1 + n % 9},$5.00\n{n % 9},2024-02-01,€4.50\n"
         for n in range(30)), "amounts in several currencies ($, €)"),
        ("settled.txt", "settlement-id\ttransaction-type\tamount-type\tamount-description\torder-id\n1\ta\tb\tc\td\n",
         "no column that tells one customer from another"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_in_one_sentence(tmp_path: Path, name: str, content: str, words: str) -> None:
    (tmp_path / name).write_text(content, newline="")
    with pytest.raises(SourceError) as error:
        check_source(str(tmp_path / name))
    assert words in str(error.value) and str(tmp_path) not in str(error.value)
    assert not (tmp_path / name).with_suffix(".yaml").exists()


def test_guesses_from_the_values_of_columns(tmp_path: Path) -> None:
    """A constant column is no customer, a unique one no category, and amounts in two currencies are not added."""
    frame = orders(account="all", category=[f"u{n}" for n in range(ROWS)], currency=["EUR", "EUR", "USD", "EUR"] * 500)
    frame = frame.rename(columns={"customer_id": "kd"})
    frame.to_csv(tmp_path / "shop.csv", index=False)
    text = drafted(tmp_path / "shop.csv")
    assert "customer_id: kd" in text and "category:" not in text and "currency: EUR  # guess" in text
    assert "amounts are in EUR (1,500 lines) and USD (500 lines), which do not add up" in text
    assert totals(str(tmp_path / "shop.yaml"))[0] == 1_500


LANGUAGES = {
    "ru": ("Клиент", "Дата", "Категория", "Сумма"),
    "fr": ("N° client", "Jour", "Catégorie", "Montant"),
    "it": ("Cliente", "Data", "Prodotto", "Importo totale"),
    "es": ("Socio", "Fecha", "Categoría", "Importe"),
    "pt": ("Cliente", "Data", "Produto", "Valor"),
    "nl": ("Klantnummer", "Tijdstip", "Categorie", "Bedrag"),
    "pl": ("Klient", "Data", "Kategoria", "Kwota"),
    "sv": ("Kund", "Datum", "Kategori", "Belopp"),
    "de": ("Mitglied", "Zeit", "Warengruppe", "Summe"),
    "zh": ("客户编号", "日期", "类别", "金额"),
}


@pytest.mark.parametrize("language", LANGUAGES)
def test_columns_are_recognised_in_ten_languages(tmp_path: Path, language: str) -> None:
    customer, day, category, amount = LANGUAGES[language]
    rows = [(f"{n % 60:03d}", f"2024-{n % 12 + 1:02d}-21", ["Thé", "чай", "茶"][n % 3], 5 + n % 7) for n in range(240)]
    pd.DataFrame(rows, columns=[customer, day, category, amount]).to_csv(tmp_path / "t.csv", index=False)
    columns = yaml.safe_load(drafted(tmp_path / "t.csv"))["events"][0]["columns"]
    found = [columns[name].strip('"') for name in ("customer_id", "timestamp", "category", "amount")]
    assert found == [customer, day, category, amount]


def test_categories_are_known_by_their_values_and_nobody_is_a_customer(tmp_path: Path) -> None:
    n = np.arange(600)
    frame = pd.DataFrame({"Donor": [f"d{i}@x.org" if i % 4 else "Anonymous" for i in n // 6]})
    frame["Donated at"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(n % 300, unit="D")
    frame["Gift"] = [f"£{1000 + i:,.2f}" for i in n]
    frame["Appeal"] = np.array(["Water wells", "Schools", "Clinics"])[n % 3]
    frame["Home"] = np.array(["north side", "south side", "far away"])[n // 6 % 3]  # one for each customer
    frame["Status"] = np.where(n % 10 == 3, "No show", "Done")
    frame.to_csv(tmp_path / "gifts.csv", index=False)
    (table,) = yaml.safe_load(drafted(tmp_path / "gifts.csv"))["events"]
    assert (table["columns"]["category"], table["columns"]["amount"]) == ("Appeal", "Gift")
    assert "not in ('anonymous')" in table["where"] and "not in ('no show')" in table["where"]


def test_names_of_columns_that_mislead(tmp_path: Path) -> None:
    """A country is no count, a payment type no kind of event, a place in an order no customer, freight no amount."""
    frame = orders(
        user_country=range(ROWS), payment_type=["card", "cash"] * 1_000, order_line=[1, 2, 3, 4] * 500,
        freight_value=4.9, discount=1, comment_title="", shop_name=orders()["customer_id"],
        status=["paid", "Canceled"] * 1_000,
        sales_channel_id=[1, 2] * 1_000, AGE_GROUP="45-49", PRODUCT_SUBCLASS=[110, 111, 112, 113] * 500,
        reviewerName="x", reviewTime="09 13, 2009", reviewText=[f"Lovely cups {n}" for n in range(ROWS)],
        seller_message="The payment of this order is complete, and nothing is left to do.",
    )  # fmt: skip
    frame = frame.rename(columns={"amount": "price"}).drop(columns=["customer_id", "category"])
    frame.to_csv(tmp_path / "lines.csv", index=False)
    text = drafted(tmp_path / "lines.csv")
    assert "customer_id: shop_name" in text and "  purchase: customer" in text and "amount: '\"price\"'" in text
    assert "quantity:" not in text and "text: reviewText" in text and "category: PRODUCT_SUBCLASS" in text
    assert "discount: discount" in text
    assert "not in (''canceled'')'  # guess: these were not bought" in text
    assert totals(str(tmp_path / "lines.yaml"))[0] == ROWS / 2


def test_kinds_of_event_that_are_purchases(tmp_path: Path) -> None:
    """What is paid for counts as spend under another name, and a flag says which lines were bought."""
    kinds = ["Order Completed", "viewed", "viewed", "viewed"] * 500
    frame = orders(event=kinds, category=[f"G{n % 50}" for n in range(ROWS)]).drop(columns="order_id")
    frame.to_csv(tmp_path / "events.csv", index=False)
    shown = str(check_source(str(tmp_path / "events.csv")))
    assert "purchase: 500 events" in shown and "viewed: 1,500 events" in shown
    assert "category holds codes such as 'G0', and needs would be called by them" in shown
    yaml_text = (tmp_path / "events.yaml").read_text(encoding="utf-8").replace("'purchase'", "'order'")
    (tmp_path / "other.yaml").write_text(yaml_text.replace("purchase:", "order:"), encoding="utf-8")
    assert "amounts are in 'order', 'viewed' only" in str(check_source(str(tmp_path / "other.yaml")))
    frame = orders(event=["renewed", "Refunded", "payment", "cancelled"] * 500)
    frame.to_csv(tmp_path / "contracts.csv", index=False)
    text = drafted(tmp_path / "contracts.csv")
    assert all(f"  {kind}: customer" in text for kind in ("cancel", "purchase", "renewed", "return"))
    assert "needs:" not in text, "half of the events with a category are purchases"
    orders(what=["purchase", "cancel"] * 1000).to_csv(tmp_path / "plans.csv", index=False)
    assert "event: what" in drafted(tmp_path / "plans.csv"), "a column of kinds that are known, whatever its name"
    frame = orders(is_booking=[0, 0, 0, 1] * 500)[["customer_id", "created_at", "is_booking"]]
    frame.to_csv(tmp_path / "searches.csv", index=False)
    shown = str(check_source(str(tmp_path / "searches.csv")))
    assert "purchase: 500 events" in shown and "needs: [visit]  # guess" in shown
    assert shown.endswith(f"then: segkit run --source {tmp_path / 'searches.yaml'}")


def test_what_is_looked_at_shows_needs_where_few_buy(tmp_path: Path) -> None:
    """Events of Google Analytics as JSON lines: categories from the items, amounts from the purchases."""
    rows = [
        {
            "event_date": "20240101",
            "event_timestamp": str(int(row.created_at.timestamp()) * 1_000_000),
            "event_name": "purchase" if n % 10 == 0 else "view_item" if n % 2 else "session_start",
            "user_pseudo_id": row.customer_id,
            "items": [{"item_category": row.category}] if n % 10 == 0 or n % 2 else [],
            "ecommerce": {"transaction_id": row.order_id, "purchase_revenue": row.amount} if n % 10 == 0 else None,
        }
        for n, row in enumerate(orders().itertuples())
    ]
    (tmp_path / "ga4.jsonl").write_text("\n".join(map(json.dumps, rows)))
    text = drafted(tmp_path / "ga4.jsonl")
    assert "needs: [view_item]  # guess" in text and "then ecommerce.purchase_revenue end" in text
    spent = sum(row["ecommerce"]["purchase_revenue"] for row in rows if row["ecommerce"])
    assert totals(str(tmp_path / "ga4.yaml"))[2] == pytest.approx(spent)


def test_messages_name_what_helps(tmp_path: Path) -> None:
    """No message asks for what was just done, and a draft that cannot be read is named."""
    (tmp_path / "a.inter").write_text("x")
    with pytest.raises(SourceError, match="Files ending in '.inter' are not read. Use csv") as error:
        check_source(str(tmp_path / "a.inter"))
    assert "segkit check" not in str(error.value)
    frame = orders(**{"$value": ["1.234", "2.345"] * 1_000})
    frame = frame.rename(columns={"customer_id": "Person//Email", "created_at": "Timestamp"})
    frame.to_csv(tmp_path / "unclear.csv", index=False)
    with pytest.raises(SourceError, match="is ambiguous.*The draft is in .*unclear.yaml: correct it there"):
        check_source(str(tmp_path / "unclear.csv"))
    with pytest.raises(SourceError, match="a YAML file that lists the tables. Name the one next to it, .*unclear.yaml"):
        open_source(str(tmp_path / "unclear.csv"))
    with pytest.raises(SourceError, match="it is a folder. Name a source or a table in it: unclear.csv, unclear.yaml"):
        check_source(str(tmp_path))


@pytest.mark.parametrize(
    ("day", "clock"), [("%d.%m.%Y", "%H:%M"), ("%Y-%m-%d", "%I:%M:%S %p"), ("%m/%d/%Y", "%H:%M:%S"), ("", "%I:%M %p")]
)
def test_a_day_and_a_time_of_their_own_are_put_together(tmp_path: Path, day: str, clock: str) -> None:
    frame, path = orders(), tmp_path / "till.csv"
    when = frame.pop("created_at").dt.floor("s" if "%S" in clock else "min")
    if not day:  # no day tells day and month apart
        when = when.where(when.dt.day <= 12, when - pd.to_timedelta(when.dt.day - 1, unit="D"))
    later = when + pd.Timedelta(minutes=20)
    times = {"Ende": later.dt.strftime(clock), "Uhrzeit": when.dt.strftime(clock)}
    named = frame.rename(columns={"customer_id": "Kartennr"}).assign(Datum=when.dt.strftime(day or "%d/%m/%Y"), **times)
    named.loc[ROWS - 1, "Uhrzeit"] = "n/a"
    named.to_csv(path, index=False)
    assert "customer_id: Kartennr" in drafted(path)
    events = read_events(open_source(str(path.with_suffix(".yaml"))), con=connect())
    found = events.select("order_id", "timestamp").execute().set_index("order_id")["timestamp"]
    assert (found[frame["order_id"]].to_numpy()[:-1] == when.to_numpy()[:-1]).all()
    assert found["B1999"].date() == when.iloc[-1].date()


def test_a_text_that_is_a_list_is_split(tmp_path: Path) -> None:
    genres = ["Drama|Crime", "Comedy", "Crime | War", "Drama|War|", "Art|Drama", "Art|Comedy", "War|Comedy", "Art|War"]
    frame = orders(category=[genres[n % 8] for n in range(ROWS)]).drop(columns=["amount", "order_id"])
    frame.to_csv(tmp_path / "plays.csv", index=False)
    assert "string_split(\"category\", ''|'')'  # guess: a list, in which each part is a category" in drafted(
        tmp_path / "plays.csv"
    )
    con, source = connect(), open_source(str(tmp_path / "plays.yaml"))
    days = build_days(read_events(source, con=con), kinds=source.kinds)
    found = days.categories.to_pandas()
    assert set(found["category"]) == {"Art", "Comedy", "Crime", "Drama", "War"}
    assert float(found["amount"].sum()) == ROWS  # each event counts once in all


def test_a_list_of_tags_is_a_category(tmp_path: Path) -> None:
    rows = [{"user": f"u{n % 40}", "at": f"2024-03-{n % 28 + 1:02d}", "tags": ["a", "b"][: n % 3]} for n in range(300)]
    (tmp_path / "use.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert "category: tags  # guess" in drafted(tmp_path / "use.jsonl")


def test_related_tables_are_looked_up(tmp_path: Path) -> None:
    """Lines of orders find their order, and through it the customer; products add a category."""
    frame = orders()
    lines = pd.DataFrame({"order_id": frame["order_id"], "product_id": [f"P{n % 9}" for n in range(ROWS)], "qty": 2})
    lines = pd.concat([lines, lines.assign(product_id="P1")])
    lines.to_csv(tmp_path / "order_items.csv", index=False)
    frame[["order_id", "customer_id", "created_at"]].to_csv(tmp_path / "orders.csv", index=False)
    products = pd.DataFrame({"product_id": [f"P{n}" for n in range(9)], "price": 1.5, "department": list("AABBCCDDE")})
    products.to_csv(tmp_path / "products.csv", index=False)
    pd.DataFrame({"day": ["2024-01-01"], "holiday": ["x"]}).to_csv(tmp_path / "calendar.csv", index=False)
    text = drafted(tmp_path / "order_items.csv")
    assert "{path: orders.csv, on: order_id}  # guess: one line for each order_id; 100% of the lines" in text
    assert "{path: products.csv, on: product_id}" in text and "calendar" not in text and "category: department" in text
    assert totals(str(tmp_path / "order_items.yaml")) == (2 * ROWS, frame["customer_id"].nunique(), 2 * ROWS * 3.0)
    assert "# order_items.csv has several lines for each order_id of orders.csv" in drafted(tmp_path / "orders.csv")


def test_an_order_and_its_customer_are_known_by_other_columns(tmp_path: Path) -> None:
    """Each order has a customer id of its own, and the total of an order is no amount of its lines."""
    frame = orders()
    buyers = pd.DataFrame({"customer_id": [f"x{n}" for n in range(ROWS)], "customer_unique_id": frame["customer_id"]})
    head = frame[["order_id", "created_at"]].assign(customer_id=buyers["customer_id"], total_value=frame["amount"] * 2)
    lines = frame[["order_id", "category"]].assign(price=frame["amount"])
    pd.concat([lines, lines]).to_csv(tmp_path / "lines.csv", index=False)
    head.to_csv(tmp_path / "heads.csv", index=False)
    buyers.to_csv(tmp_path / "buyers.csv", index=False)
    text = drafted(tmp_path / "lines.csv")
    assert "customer_id: customer_unique_id" in text and "amount: '\"price\"'" in text
    assert totals(str(tmp_path / "lines.yaml"))[2] == pytest.approx(2 * frame["amount"].sum())


@pytest.mark.parametrize(
    "export", [e for e in yaml.safe_load(EXPORTS.read_text()) if "refuse" not in e], ids=lambda e: e["name"]
)
def test_exports_of_common_programs_are_recognised(tmp_path: Path, export: dict) -> None:
    """A made-up table with the columns of each program becomes a source that reads every row."""
    frame = _export(export)
    if export["name"].startswith("Mixpanel"):
        path = tmp_path / "export.jsonl"
        path.write_text("\n".join(json.dumps(row, default=str) for row in frame.to_dict("records")))
    else:
        path = tmp_path / "export.csv"
        frame.to_csv(path, index=False)
    text = drafted(path)
    assert f"which looks like an export of {export['name']}" in text
    events = read_events(open_source(str(tmp_path / "export.yaml")), con=connect())
    found = events.agg(n=events.count(), c=events.customer_id.nunique()).execute().iloc[0]
    assert (found["n"], found["c"]) == (ROWS, orders()["customer_id"].nunique())


def _export(export: dict) -> pd.DataFrame:
    """Fill the columns that a program exports."""
    base = orders()
    if export["name"].startswith("Mixpanel"):
        values = {
            "distinct_id": base["customer_id"],
            "time": base["created_at"].astype("int64"),
            "$insert_id": base["order_id"],
        }
        return pd.DataFrame({"event": "opened", "properties": pd.DataFrame(values).to_dict("records")})
    texts = {
        "customer_id": ("Email", "billing_email", "Customer Email", "Customer ID", "user_pseudo_id", "user_id",
                                   "Person//Email", "AccountId"),
        "created_at": ("Created at", "date", "Purchase Date", "Created (UTC)", "timestamp", "Timestamp", "CloseDate"),
        "order_id": ("Name", "order_id", "ID", "id", "Id", "$event_id"),
        "category": ("Lineitem name", "item_name", "Type"),
        "amount": ("Lineitem price", "item_total", "Grand Total (Purchased)", "Amount", "$value"),
    }  # fmt: skip
    constants = {
        "status": "completed", "Status": "paid", "StageName": "Closed Won", "Lineitem quantity": 1, "item_quantity": 1,
        "Amount Refunded": 0, "Currency": "eur", "event_name": "view", "event": "opened", "event_date": "20240101",
        "received_at": "2024-01-01", "anonymous_id": "", "LeadSource": "web",
    }  # fmt: skip
    columns = {name: base[mine] for mine, names in texts.items() for name in names}
    columns |= {"event_timestamp": base["created_at"].astype("int64") * 1_000_000, **constants}
    more = {"Klaviyo metrics": ["$event_id", "$value"], "Salesforce opportunities": ["Type", "LeadSource"]}
    names = [name if isinstance(name, str) else name[-1] for name in export["has"]]
    return pd.DataFrame({name: columns[name] for name in [*names, *more.get(export["name"], [])]}, index=base.index)


MONEY = {  # an example of the cookbook -> what was paid and what was given back, in it and in the draft of its table
    "Shopify": (12.42 + 24, 24), "WooCommerce": (49 + 12, 3), "Stripe": (29 + 99 + 29, 99 + 10),
    "Google Analytics 4": (89.9, 12.9), "Klaviyo": (31.5, 8.5), "Salesforce opportunities": (12000 + 9500, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", MONEY)
def test_drafts_and_recipes_agree_on_the_money(tmp_path: Path, name: str) -> None:
    """Unpaid orders are left out, discounts of an order are spread over its lines, and refunds are never above it."""
    text = (Path(__file__).parents[2] / "docs" / "cookbook.md").read_text(encoding="utf-8")
    section = re.search(rf"^## {name}$(.*?)(?=^## )", text, re.M | re.S)[1]
    for file, body in re.findall(r"```(?:csv|jsonl) (\S+)\n(.*?)```", section, re.S):
        (tmp_path / file).write_text(body, encoding="utf-8")
    (tmp_path / "recipe.yaml").write_text(re.search(r"```yaml\n(.*?)```", section, re.S)[1], encoding="utf-8")
    table = tmp_path / re.search(r"- path: (\S+)", section)[1]
    draft, path = draft_source(str(table))
    assert "which looks like an export of" in draft and "\n      text: " not in draft
    for source in (tmp_path / "recipe.yaml", path):
        events = read_events(open_source(str(source)), con=connect()).to_pandas()
        sums = events["amount"].astype(float).groupby(events["event"]).sum()
        assert (sums["purchase"], sums.get("return", 0)) == pytest.approx(MONEY[name]), source.name
        if name == "Shopify":
            assert events["discount"].astype(float).sum() == pytest.approx(1.2 + 1.38), source.name


def test_money_that_an_export_lacks_is_named(tmp_path: Path) -> None:
    """Columns that are missing, amounts that do not add up to the total of the program, and discounts named twice."""
    lines = {
        "Name": ["#1", "#1", "#2"], "Email": "Ann@x.org", "Created at": "2024-03-01 09:12:44 +0100",
        "Lineitem quantity": [2, 1, 1], "Lineitem name": ["Tea", "Cups", "Tea"], "Lineitem price": [5.0, 10.0, 5.0],
    }  # fmt: skip
    frame = pd.DataFrame(lines)
    frame.to_csv(tmp_path / "few.csv", index=False)
    assert "no such column: orders that were not paid (Financial Status)" in draft_source(str(tmp_path / "few.csv"))[0]
    frame["Subtotal"] = [15, None, 5]
    frame.to_csv(tmp_path / "off.csv", index=False)
    assert 'add up to 25.00, and "Subtotal" to 20.00' in draft_source(str(tmp_path / "off.csv"))[0]
    frame = frame.assign(**{"Discount Amount": [5, None, 0], "Lineitem discount": [0, 5, 0]})  # the same 5, twice
    frame.to_csv(tmp_path / "twice.csv", index=False)
    text, path = draft_source(str(tmp_path / "twice.csv"))
    assert "add up" not in text and totals(str(path))[1:] == (1, pytest.approx(20))


@pytest.mark.parametrize("sign", ["\x85", "\u2028"])
def test_a_name_of_a_file_or_column_never_becomes_a_key_of_the_draft(tmp_path: Path, sign: str) -> None:
    evil = f"x{sign}customers: {{path: other.csv}}{sign}#"
    path = tmp_path / f"t\n{evil}.csv"
    orders(**{evil: "a", f"event{sign}y": "yes"}).to_csv(path, index=False)
    keys = set(yaml.safe_load(drafted(path)))
    assert keys <= {"name", "timezone", "kinds", "needs", "events"}
    assert totals(str(path.with_suffix(".yaml")))[0] == ROWS
