"""A source becomes the contract exactly, from every kind of file; what does not fit gets one clear message."""

import gzip
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import duckdb
import ibis
import pandas as pd
import pyarrow as pa
import pytest

from segkit.data.readers import open_file
from segkit.data.sources import (
    check_rejected_share,
    connect,
    count_rejected_rows,
    default_as_of,
    fingerprint,
    open_source,
    read_customers,
    read_events,
    refuse_as_of,
)
from segkit.data.spec import FileSpec
from segkit.errors import SourceError
from segkit.period import Period

LINES = "who,when,sum\n7,2024-03-01 10:00:00,1.50\n8,2024-03-02 11:30:00,2\n"
YAML = """
name: shop
timezone: Europe/Berlin
events:
  - path: sales.csv
    columns: {customer_id: who, timestamp: when, amount: sum}
"""


def write(folder: Path, *, lines: str | bytes = LINES, yaml: str = YAML, name: str = "sales.csv") -> str:
    """Write one file of events and its YAML; return the path of the YAML."""
    (folder / name).write_bytes(lines if isinstance(lines, bytes) else lines.encode())
    (folder / "shop.yaml").write_text(yaml, encoding="utf-8")
    return str(folder / "shop.yaml")


def events(path: str) -> pd.DataFrame:
    """All events of a source, by customer and time."""
    return read_events(open_source(path), con=connect()).order_by(["customer_id", "timestamp"]).execute()


def source_of(columns: str, *, more: str = "", path: str = "sales.csv", top: str = "") -> str:
    """A YAML whose one table has these columns."""
    head = f"name: shop\ntimezone: Europe/Berlin\n{top}\nevents:\n"
    return f"{head}  - path: {path}\n    columns: {{{columns}}}\n    {more}\n"


def message(path: str) -> str:
    """The words of the SourceError that reading a source ends with."""
    with pytest.raises(SourceError) as caught:
        read_events(open_source(path), con=connect())
    return str(caught.value)


def test_csv_becomes_the_contract(tmp_path):
    got = events(write(tmp_path))
    assert got.astype({"day": str}).to_dict("list") == {
        "customer_id": ["7", "8"],
        "timestamp": [datetime(2024, 3, 1, 9), datetime(2024, 3, 2, 10, 30)],
        "day": ["2024-03-01", "2024-03-02"],
        "hour": [10, 11],
        "event": ["purchase"] * 2,
        "amount": [Decimal("1.5"), Decimal("2")],
    }


def test_parquet_excel_and_duckdb_give_the_same_events(tmp_path):
    want = events(write(tmp_path))
    table = pd.DataFrame(
        {"who": [7, 8], "when": pd.to_datetime(["2024-03-01 10:00", "2024-03-02 11:30"]), "sum": [1.5, 2.0]}
    )
    table.to_parquet(tmp_path / "sales.parquet")
    table.to_excel(tmp_path / "sales.xlsx", index=False)
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as con:
        con.register("rows", table)
        con.execute("create table sales as select * from rows")
    columns = "customer_id: who, timestamp: when, amount: sum"
    for path in (
        "path: sales.parquet",
        "path: sales.xlsx",
        "database: shop.duckdb\n    table: sales",
        "database: duckdb://shop.duckdb\n    table: main.sales",
    ):
        (tmp_path / "shop.yaml").write_text(source_of(columns).replace("path: sales.csv", path))
        pd.testing.assert_frame_equal(events(str(tmp_path / "shop.yaml")), want)


class Server:
    """A stand-in for PostgreSQL and others that Ibis reads: its tables are copied in batches."""

    def __init__(self, **tables: pd.DataFrame) -> None:
        self.tables = tables

    def table(self, name: str, *, database: str | None = None) -> "Server":
        found = Server(**self.tables)
        found.rows = pa.Table.from_pandas(self.tables[name])
        return found

    def to_pyarrow_batches(self) -> pa.RecordBatchReader:
        return self.rows.to_reader()


def test_a_table_on_a_server_is_copied_and_counted(tmp_path, monkeypatch):
    sales = pd.DataFrame(
        {"who": [7, 8], "at": pd.to_datetime(["2024-03-01 10:00", "2024-03-02 10:00"]), "paid": [1.5, 2]}
    )
    monkeypatch.setenv("SHOP_URL", "postgres://shop")
    monkeypatch.setattr(ibis, "connect", lambda url: {"postgres://shop": Server(sales=sales)}[url])
    yaml = source_of("customer_id: who, timestamp: at, amount: paid")
    path = write(tmp_path, yaml=yaml.replace("path: sales.csv", "database: $SHOP_URL\n    table: sales"))
    assert events(path)["amount"].tolist() == [Decimal("1.5"), Decimal("2")]
    before = fingerprint(open_source(path))
    monkeypatch.setattr(ibis, "connect", lambda url: Server(sales=sales.head(1)))
    assert fingerprint(open_source(path)) != before
    path = write(tmp_path, yaml=yaml.replace("path: sales.csv", "database: $SHOP_URL\n    table: sale"))
    assert "sale: the database table cannot be read (KeyError: 'sale'). Check database, table" in message(path)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_signs_of_a_glob_in_a_name_are_part_of_the_name(tmp_path, ending):
    for name, who in (("s[1]*", "a"), ("s1x", "b")):
        table = pd.DataFrame({"who": [who], "at": ["2024-01-01"]})
        table.to_csv(tmp_path / f"{name}.csv", index=False), table.to_parquet(tmp_path / f"{name}.parquet")
    columns = "columns: {customer_id: who, timestamp: at}"
    (tmp_path / "shop.yaml").write_text(
        f"name: shop\ntimezone: UTC\nevents:\n  - path: 's[1]*.{ending}'\n    {columns}\n"
    )
    found = read_events(open_source(str(tmp_path / "shop.yaml")), con=connect()).execute()
    assert found["customer_id"].tolist() == ["a"]


def test_glob_reads_monthly_files_whatever_their_column_order(tmp_path):
    (tmp_path / "sales-04.csv").write_text("sum,when,who\n3,2024-04-01,9\n")
    path = write(tmp_path, yaml=YAML.replace("sales.csv", "sales*.csv"))
    assert events(path)["customer_id"].tolist() == ["7", "8", "9"]


def test_tables_of_different_kinds_are_united_with_nulls(tmp_path):
    (tmp_path / "calls.csv").write_text("id,at,words\n7,2024-03-05 08:00,Where is it?\n")
    yaml = source_of(
        "customer_id: who, timestamp: when, amount: sum", top="kinds: {purchase: customer, call: customer}"
    )
    yaml += "  - path: calls.csv\n    columns: {customer_id: id, timestamp: at, event: \"'call'\", text: words}\n"
    got = events(write(tmp_path, yaml=yaml))
    assert got["event"].tolist() == ["purchase", "call", "purchase"]
    assert got["text"].tolist()[1] == "Where is it?" and got["text"].isna().tolist() == [True, False, True]
    assert got["amount"].isna().tolist() == [False, True, False]


def test_lookup_brings_columns_of_the_product_table(tmp_path):
    (tmp_path / "products.csv").write_text("id,group\n01,Bread\n02,Milk\n")
    lines = "who,when,item\n7,2024-03-01,01\n7,2024-03-02,03\n"
    yaml = source_of(
        "customer_id: who, timestamp: when, item: item, category: group",
        more="lookups: [{path: products.csv, on: {item: id}}]",
    )
    got = events(write(tmp_path, lines=lines, yaml=yaml))
    assert got["item"].tolist() == ["01", "03"] and got["category"].tolist() == ["Bread", None]


def test_a_lookup_with_a_repeated_key_is_refused(tmp_path):
    (tmp_path / "products.csv").write_text("who,group\n7,Bread\n7,Milk\n")
    yaml = source_of(
        "customer_id: who, timestamp: when, category: group", more="lookups: [{path: products.csv, on: who}]"
    )
    assert "products.csv: repeated keys in who (1 in all, e.g. 7)" in message(write(tmp_path, yaml=yaml))


def test_events_with_only_customer_and_time(tmp_path):
    got = events(write(tmp_path, yaml=source_of("customer_id: who, timestamp: when")))
    assert list(got.columns) == ["customer_id", "timestamp", "day", "hour", "event"]


def test_money_is_exact(tmp_path):
    lines = "who,when,sum\n" + "7,2024-03-01,0.1\n" * 30
    got = read_events(open_source(write(tmp_path, lines=lines)), con=connect())
    assert got.amount.sum().execute() == Decimal("3.0000")


@pytest.mark.parametrize(
    ("written", "id_"),
    [
        ("  7 ", "7"),
        ("007", "007"),
        ("12346.0", "12346"),
        ("A-9.0", "A-9.0"),
        ("900719925474099312", "900719925474099312"),
    ],
)
def test_ids_are_trimmed_and_otherwise_unchanged(tmp_path, written, id_):
    assert events(write(tmp_path, lines=f"who,when,sum\n{written},2024-03-01,1\n"))["customer_id"].tolist() == [id_]


def test_ids_stored_as_floats_lose_their_point(tmp_path):
    pd.DataFrame({"who": [12346.0, None], "when": pd.to_datetime(["2024-03-01"] * 2)}).to_parquet(
        tmp_path / "sales.parquet"
    )
    path = write(tmp_path, yaml=source_of("customer_id: who, timestamp: when", path="sales.parquet"))
    assert events(path)["customer_id"].tolist() == ["12346"]
    assert count_rejected_rows(open_source(path), con=connect())["reason"].tolist() == ["no customer"]


@pytest.mark.parametrize(
    "written",
    [
        "2024-03-01 10:00:00",
        "2024-03-01T09:00:00Z",
        "2024-03-01 04:00:00-05:00",
        "2024-03-01 11:00:00+0200",
        "01.03.2024 10:00",
        "31/12/2023",
        "03/31/2024 10:00 PM",
        "1709283600",
        "1709283600000",
        "1709283600000000",
        "20240301",
        "1 Mar 2024 10:00",
        "2024/03/01 10:00",
    ],
)
def test_times_are_read_however_written(tmp_path, written):
    more = "13.01.2024 10:00" if "." in written else written
    got = events(write(tmp_path, lines=f"who,when,sum\n7,{written},1\n8,{more},1\n"))
    want = {
        "31/12/2023": datetime(2023, 12, 30, 23),
        "03/31/2024 10:00 PM": datetime(2024, 3, 31, 20),
        "20240301": datetime(2024, 2, 29, 23),
    }.get(written, datetime(2024, 3, 1, 9))
    assert got["timestamp"][0] == want


def test_seconds_and_milliseconds_in_one_column(tmp_path):
    pd.DataFrame({"who": [1, 2], "when": [1709283600, 1709283600000]}).to_parquet(tmp_path / "sales.parquet")
    got = events(write(tmp_path, yaml=source_of("customer_id: who, timestamp: when", path="sales.parquet")))
    assert got["timestamp"].tolist() == [datetime(2024, 3, 1, 9)] * 2


def test_each_time_may_state_its_own_zone(tmp_path):
    got = events(
        write(
            tmp_path,
            lines="who,when,sum\n1,2024-03-01 10:00:00,1\n2,2024-03-01 10:00:00+00:00,1\n3,2024-03-01T10:00:00Z,1\n",
        )
    )
    assert [t.hour for t in got["timestamp"]] == [9, 10, 10] and got["hour"].tolist() == [10, 11, 11]


def test_a_table_may_be_in_another_zone_than_its_source(tmp_path):
    got = events(write(tmp_path, lines="who,when,sum\n7,2024-03-01 23:30:00,1\n", yaml=YAML + "    timezone: UTC\n"))
    assert (
        got["hour"].tolist() == [0]
        and str(got["day"][0])[:10] == "2024-03-02"
        and got["timestamp"][0] == datetime(2024, 3, 1, 23, 30)
    )


def test_days_that_could_be_months_are_refused(tmp_path):
    path = write(tmp_path, lines="who,when,sum\n7,03/04/2024,1\n8,05/06/2024,2\n")
    assert (
        "sales.csv: column timestamp: day and month are ambiguous in '03/04/2024', as in the whole sample (2)"
        in message(path)
    )
    stated = source_of("customer_id: who, timestamp: 'strptime(\"when\", ''%d/%m/%Y'')'")
    assert (
        str(events(write(tmp_path, lines="who,when,sum\n7,03/04/2024,1\n", yaml=stated))["day"][0])[:10] == "2024-04-03"
    )


@pytest.mark.parametrize(
    ("numbers", "want"),
    [
        (['"12,50"', '"1.234,5"'], ["12.5", "1234.5"]),
        (['"1,234.50"', "7"], ["1234.5", "7"]),
        (["$5.00", "$ 7"], ["5", "7"]),
        (['" 12 "', "1e1"], ["12", "10"]),
        (['"0,99"', "3"], ["0.99", "3"]),
    ],
)
def test_numbers_are_read_as_people_write_them(tmp_path, numbers, want):
    lines = f"who,when,sum\n7,2024-03-01,{numbers[0]}\n8,2024-03-01,{numbers[1]}\n"
    assert events(write(tmp_path, lines=lines))["amount"].tolist() == [Decimal(number) for number in want]


def test_decimal_commas_work_in_expressions_too(tmp_path):
    lines = "who;when;price;n\n7;2024-03-01;1,50;2\n8;2024-03-01;12,25;4\n"
    got = events(write(tmp_path, lines=lines, yaml=source_of("customer_id: who, timestamp: when, amount: price * n")))
    assert got["amount"].tolist() == [Decimal("3"), Decimal("49")]


def test_an_ambiguous_comma_is_refused_unless_stated(tmp_path):
    lines = 'who,when,sum\n7,2024-03-01,"1,234"\n'
    assert "column amount: the comma in '1,234' is ambiguous, thousands or decimals (1 in the sample)" in message(
        write(tmp_path, lines=lines)
    )
    stated = events(write(tmp_path, lines=lines, yaml=YAML + "    decimal: ','\n"))
    assert stated["amount"].tolist() == [Decimal("1.234")]


def test_numbers_as_text_in_parquet(tmp_path):
    pd.DataFrame({"who": ["007"], "when": ["2024-03-01"], "sum": ["12.50"]}).to_parquet(tmp_path / "sales.parquet")
    got = events(write(tmp_path, yaml=YAML.replace("sales.csv", "sales.parquet")))
    assert got["amount"].tolist() == [Decimal("12.5")] and got["customer_id"].tolist() == ["007"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ("1.23457E+11,2024-03-01,1", "ids such as '1.23457E+11' were rounded by a spreadsheet (1 in the sample)"),
        ("7,13/04/2024,1|8,05/16/2024,2", "'13/04/2024' has the day first and '05/16/2024' the month"),
        ('7,2024-03-01,"12,5"|8,2024-03-01,"1,234.50"', "'12,5' has a decimal comma and '1,234.50' a decimal point"),
        (
            "7,2024-03-01,cheap|8,2024-03-01,dear",
            "column amount: expected numbers, found 'cheap' (2 of 2 sampled values are not numbers)",
        ),
        ("7,soon,1|8,later,1", "sales.csv: none of its 2 rows can be used: 2 no readable time"),
        ("7,2024-03-01,1|7,2024-03-01,1,5|8,2024-03-01,2", "sales.csv: line 3 does not fit the table"),
        ("", "sales.csv: the table holds no rows"),
    ],
)
def test_rows_that_cannot_be_read_are_refused_with_the_reason(tmp_path, rows, words):
    lines = "".join(f"{row}\n" for row in ["who,when,sum", *rows.split("|")] if row)
    assert words in message(write(tmp_path, lines=lines))


def test_a_file_without_a_usable_header_is_refused(tmp_path):
    assert message(write(tmp_path, lines="")).startswith("sales.csv: the file is empty")
    repeated = write(tmp_path, lines="who,when,sum,sum\n7,2024-03-01,1,2\n")
    assert "sales.csv: the header names column 'sum' 2 times" in message(repeated)


def test_rejected_rows_are_counted_by_reason(tmp_path):
    good = "".join(f"{n},2024-03-01,1\n" for n in range(60))
    bad = ",2024-03-01,1\nnull,2024-03-01,1\n7,soon,1\n7,,1\n7,1900-01-01,1\n"
    bad += "7,2024-03-01,-2\n7,2024-03-01,inf\n7,2024-03-01,?\nwho,when,sum\n"
    source = open_source(write(tmp_path, lines="who,when,sum\n" + good + bad))
    got = count_rejected_rows(source, con=connect())
    assert dict(zip(got["reason"], got["rows"], strict=True)) == {
        "amount is not a finite number": 2,
        "header line repeated": 1,
        "negative amount": 1,
        "no customer": 2,
        "no readable time": 3,
    }
    assert got["share"].sum() == pytest.approx(9 / 69)
    assert read_events(source, con=connect()).count().execute() == 60
    with pytest.raises(
        SourceError, match=r"sales.csv: 9 rows \(13.0%\) cannot be used: 2 amount is not a finite number"
    ):
        check_rejected_share(got, source=source)
    check_rejected_share(got, source=open_source(write(tmp_path, yaml=YAML + "allow_set_aside: 0.2\n")))


def test_infinite_amounts_in_parquet_are_rejected(tmp_path):
    pd.DataFrame(
        {"who": [1, 2, 3], "when": pd.to_datetime(["2024-03-01"] * 3), "sum": [float("inf"), 1.0, float("-inf")]}
    ).to_parquet(tmp_path / "s.parquet")
    source = open_source(write(tmp_path, yaml=YAML.replace("sales.csv", "s.parquet")))
    assert count_rejected_rows(source, con=connect())["rows"].tolist() == [2]


def test_a_broken_number_in_an_expression_is_rejected(tmp_path):
    lines = "who,when,price\n" + "7,2024-03-01,2\n" * 40 + "8,2024-03-01,two\n"
    source = open_source(
        write(tmp_path, lines=lines, yaml=source_of("customer_id: who, timestamp: when, amount: price * 2"))
    )
    assert count_rejected_rows(source, con=connect()).values.tolist() == [
        ["sales.csv", "price is not a number", 1, 1 / 41]
    ]


def test_an_unknown_kind_of_event_is_refused(tmp_path):
    path = write(tmp_path, yaml=YAML.replace("amount: sum", "event: \"'visit'\""))
    assert "none of its 2 rows can be used: 2 kind of event visit that kinds does not name" in message(path)


def test_a_repeated_event_id_counts_once(tmp_path):
    path = write(
        tmp_path,
        lines="who,when,id\n7,2024-03-01,a\n7,2024-03-01,a\n8,2024-03-01,\n8,2024-03-01,\n",
        yaml=YAML.replace("amount: sum", "event_id: id"),
    )
    assert len(events(path)) == 3
    assert count_rejected_rows(open_source(path), con=connect())["reason"].tolist() == ["event_id seen before"]


def test_line_ends_quotes_and_odd_headers(tmp_path):
    want = events(write(tmp_path))
    for lines in (
        LINES.replace("\n", "\r\n"),
        LINES.rstrip("\n"),
        LINES.replace(",", "\t"),
        LINES.replace(",", "|"),
        LINES.replace("who", '"who"').replace(",sum", ",  sum"),
        LINES.replace("7,", '"7",'),
    ):
        pd.testing.assert_frame_equal(events(write(tmp_path, lines=lines)), want)
    quoted = 'who,when,sum,"what, else"\n7,2024-03-01,1,"a ""b"", c\nd"\n'
    yaml = source_of("customer_id: who, timestamp: when, text: 'what, else'")
    assert events(write(tmp_path, lines=quoted, yaml=yaml))["text"].tolist() == ['a "b", c\nd']
    (tmp_path / "sales.csv.gz").write_bytes(gzip.compress(LINES.encode()))
    pd.testing.assert_frame_equal(events(write(tmp_path, yaml=YAML.replace(".csv", ".csv.gz"))), want)


def test_a_file_of_another_kind_than_its_name_is_refused(tmp_path):
    (tmp_path / "sales.parquet").write_text(LINES)
    (tmp_path / "sales.xlsx").write_text(LINES)
    (tmp_path / "sales.docx").write_text(LINES)
    assert "sales.parquet: it cannot be read" in message(write(tmp_path, yaml=YAML.replace("csv", "parquet")))
    assert "sales.xlsx: it is not a workbook" in message(write(tmp_path, yaml=YAML.replace("csv", "xlsx")))
    assert "files ending in '.docx' are not read" in message(write(tmp_path, yaml=YAML.replace("csv", "docx")))


def test_a_byte_order_mark_is_not_part_of_a_name(tmp_path):
    assert len(events(write(tmp_path, lines=b"\xef\xbb\xbf" + LINES.encode()))) == 2
    assert len(events(write(tmp_path, lines=LINES.encode("utf-16")))) == 2


def test_a_wrong_encoding_names_the_line_and_the_fix(tmp_path):
    lines = "who,when,sum\n7,2024-03-01,1\nJosé,2024-03-01,2\n".encode("cp1252")
    assert "is not UTF-8. Add 'encoding: cp1252'" in message(write(tmp_path, lines=lines))
    assert events(write(tmp_path, lines=lines, yaml=YAML + "    encoding: cp1252\n"))["customer_id"].tolist() == [
        "7",
        "José",
    ]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_a_file_with_one_column_is_not_split_at_a_letter(tmp_path, encoding):
    (tmp_path / "sales.csv").write_bytes("wherever\nJosé\nReneé\n".encode(encoding))
    file = FileSpec(path="sales.csv", encoding=encoding)
    con = connect()
    open_file(file, base=tmp_path, name="names", con=con)
    assert con.table("names").execute().to_dict("list") == {"wherever": ["José", "Reneé"]}


def test_a_bad_byte_beyond_the_sample_is_found_when_rows_are_counted(tmp_path):
    lines = b"who,when,sum\n" + b"7,2024-03-01,1\n" * 200_000 + "José,2024-03-01,2\n".encode("cp1252")
    with pytest.raises(SourceError, match="sales.csv: line .* is not UTF-8"):
        count_rejected_rows(open_source(write(tmp_path, lines=lines)), con=connect())


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        (
            "- a\n- b\n",
            "found ['a', 'b'], expected a mapping with name, timezone, events. segkit check FILE.csv drafts",
        ),
        ("name: [shop\n", "not valid YAML at line"),
        (YAML.replace("timezone", "timezon"), "unknown key 'timezon'. Did you mean 'timezone'?"),
        (
            YAML.replace("timezone: Europe/Berlin\n", ""),
            "the key 'timezone' is missing. Add an IANA name such as Europe/London or UTC.",
        ),
        (YAML.replace("Europe/Berlin", "Berlin"), "unknown time zone 'Berlin'"),
        (YAML.replace("amount:", "amuont:"), "unknown contract column 'amuont'. Did you mean 'amount'?"),
        (
            YAML.replace("amount: sum", "amount: summ"),
            "sales.csv: column amount: no column 'summ' in the file. Did you mean 'sum'?",
        ),
        (
            YAML.replace("customer_id: who, ", ""),
            "events 1 (sales.csv): columns: customer_id is missing. Add 'customer_id: <column>'",
        ),
        (YAML.replace("sales.csv", "sale.csv"), "sale.csv: no such file"),
        (YAML + "name: again\n", "repeats the key 'name'"),
        (
            YAML + "nam: x\ncurrency: euro\n",
            "shop.yaml: 2 problems. (1) currency: found 'euro', expected a currency code",
        ),
        (YAML + "nam: x\ncurrency: euro\n", "(2) unknown key 'nam'. Did you mean 'name'?"),
        (
            YAML.replace("sales.csv", "[a]") + "    decimal: x\n",
            "(1) events 1: decimal: found 'x', expected ',' or '.'.",
        ),
        (
            YAML.replace("path: sales.csv", "database: [x://me:secret@host/x]\n    table: t"),
            "found ['x://me:...@host/x']",
        ),
        (YAML + "    lookups: [{path: p.csv}]\n", "events 1 (sales.csv): lookups 1 (p.csv): the key 'on' is missing"),
        (YAML + "    table: t\n", "events 1 (sales.csv): table goes with database, not with path"),
        (YAML + "needs: [mail]\n", "needs: 'mail' is not a kind of event that customers do. Known: purchase."),
        (YAML + "kinds: {purchase: shop}\n", "kinds 'purchase': found 'shop', expected customer or company"),
        (YAML + "as_of: soon\n", "as_of: 'soon' is not a date"),
        (YAML + "allow_set_aside: 20\n", "allow_set_aside: found 20, expected a share of rows between 0 and 1"),
        (YAML + "x: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
        (YAML.replace("amount: sum", "amount: sum(sum)"), "reads more than one row"),
        (YAML.replace("amount: sum", "amount: (select 1)"), "is a query"),
        (YAML + "    fill: {whoo: [sum]}\n", "no column 'whoo' in the file, a column of fill. Did you mean 'who'?"),
        (YAML.replace("amount: sum", "text: \"(select content from read_text('/etc/passwd'))\""), "is a query"),
        (YAML.replace("amount: sum", "amount: random()"), "changes from run to run"),
        (
            YAML.replace("amount: sum", "amount: 'length(when)'"),
            'Write columns that are SQL keywords or contain spaces in double quotes: "when".',
        ),
        (YAML.replace("amount: sum", "amount: summ +"), "is neither a column of the file nor an SQL expression"),
        (YAML.replace("amount: sum", "event: visit"), "A constant is written in quotes: \"'visit'\""),
        (YAML.replace("amount: sum", "amount: 'strptime(who, 3)'"), "sales.csv: column amount: Binder Error"),
    ],
)
def test_a_yaml_that_does_not_fit_is_refused_with_the_reason(tmp_path, yaml, words):
    assert words in message(write(tmp_path, yaml=yaml))


def test_a_missing_source(tmp_path):
    write(tmp_path)
    with pytest.raises(SourceError, match=r"no such source. Did you mean 'shop.yaml'?"):
        open_source(str(tmp_path / "shp.yaml"))
    with pytest.raises(SourceError, match="a source is a YAML file"):
        open_source(str(tmp_path / "sales.csv"))


PEOPLE = """customers:
  path: people.csv
  columns: {customer_id: id, age: age, region: region, mail: mail}
  roles: {age: demographic, region: geographic, mail: ignore}
"""


def test_customers_have_roles(tmp_path):
    (tmp_path / "people.csv").write_text("id,age,region,mail\n 7 ,41,North,a@b.example\n8,,South,\n8,,South,\n")
    source = open_source(write(tmp_path, yaml=YAML + PEOPLE))
    got = read_customers(source, con=connect()).order_by("customer_id").execute()
    assert source.roles == {"age": "demographic", "region": "geographic", "mail": "ignore"}
    assert list(got.columns) == ["customer_id", "age", "region"] and got["customer_id"].tolist() == ["7", "8"]
    assert got["age"].tolist()[0] == 41 and read_customers(open_source(write(tmp_path)), con=connect()) is None


def test_an_id_as_number_and_as_text_is_one_customer(tmp_path):
    pd.DataFrame({"who": [7, 8], "when": ["2024-03-01", "2024-03-02"], "sum": [1.0, 2.0]}).to_parquet(
        tmp_path / "sales.parquet"
    )
    people = pd.DataFrame({"id": ["7", " 8 "], "age": [41, 50], "region": "North", "mail": "a@b.example"})
    people.to_csv(tmp_path / "people.csv", index=False)
    source = open_source(write(tmp_path, yaml=(YAML + PEOPLE).replace("sales.csv", "sales.parquet")))
    con = connect()
    known = read_customers(source, con=con).execute().set_index("customer_id")["age"].to_dict()
    ages = read_events(source, con=con).execute()["customer_id"].map(known).tolist()
    assert sorted(ages) == [41, 50]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (", region: geographic", "", "column 'region' has no role. Add it to roles as one of: demographic"),
        ("geographic", "geografic", "roles 'region': unknown role 'geografic'. Did you mean 'geographic'?"),
        ("roles: {age:", "roles: {aeg:", "column 'age' has no role"),
    ],
)
def test_a_customer_column_without_a_role_is_refused(tmp_path, old, new, words):
    with pytest.raises(SourceError, match=words.replace("?", r"\?")):
        open_source(write(tmp_path, yaml=YAML + PEOPLE.replace(old, new)))


def test_differing_rows_of_a_customer_are_refused(tmp_path):
    (tmp_path / "people.csv").write_text("id,age,region,mail\n7,41,North,\n7,42,North,\n")
    with pytest.raises(SourceError, match=r"people.csv: rows of the same customer differ \(1 in all, e.g. '7'\)"):
        read_customers(open_source(write(tmp_path, yaml=YAML + PEOPLE)), con=connect())


def test_sql_cannot_leave_the_files_of_the_source(tmp_path):
    (tmp_path / "secret.csv").write_text("a\n1\n")
    con = connect()
    read_events(open_source(write(tmp_path)), con=con)
    for sql in (f"from '{tmp_path}/secret.csv'", f"copy (select 1) to '{tmp_path}/out.csv'"):
        with pytest.raises(duckdb.PermissionException):
            con.con.execute(sql).fetchall()
    (tmp_path / "other.yaml").write_text(YAML.replace("shop", "other"))
    with pytest.raises(SourceError, match="this connection belongs to another source"):
        read_events(open_source(str(tmp_path / "other.yaml")), con=con)


def test_fingerprint_follows_yaml_and_bytes(tmp_path):
    first = fingerprint(open_source(write(tmp_path)))
    assert first == fingerprint(open_source(write(tmp_path)))
    assert first != fingerprint(open_source(write(tmp_path, lines=LINES + "9,2024-03-03,1\n")))
    assert first != fingerprint(open_source(write(tmp_path, yaml=YAML + "as_of: 2024-03-03\n")))


def test_default_as_of_is_the_day_after_the_last_event(tmp_path):
    assert default_as_of(open_source(write(tmp_path)), con=connect()) == "2024-03-03"
    assert default_as_of(open_source(write(tmp_path, yaml=YAML + "as_of: 2024-03-02\n")), con=connect()) == "2024-03-02"


def test_as_of_before_the_first_event_is_refused(tmp_path):
    source = open_source(write(tmp_path))
    refuse_as_of(source, con=connect(), period=Period(date(2024, 3, 2), 182, 91))
    with pytest.raises(
        SourceError, match="shop: no event lies before as_of 2024-03-01; the events run from 2024-03-01 to 2024-03-02"
    ):
        refuse_as_of(source, con=connect(), period=Period(date(2024, 3, 1), 182, 91))


def test_complete_journey_has_every_row_and_cent():
    con = connect()
    got = read_events(open_source("complete_journey"), con=con)
    counts = got.group_by("event").agg(rows=got.count(), paid=got.amount.sum()).order_by("event").execute()
    assert counts["event"].tolist() == ["campaign_received", "coupon_redeemed", "purchase"]
    assert counts["rows"].tolist() == [6589, 2102, 1469307] and counts["paid"].tolist()[2] == Decimal("4596039.58")
    assert read_customers(open_source("complete_journey"), con=con).count().execute() == 801
    assert default_as_of(open_source("complete_journey"), con=con) == "2018-01-01"
