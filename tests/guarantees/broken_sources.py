"""Broken sources, each made from a good shop: what is done to it, and what a right reading would give."""

import datetime
import gzip
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import duckdb
import numpy as np
import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

YAML = """\
name: shop
timezone: Europe/Berlin
events:
  - path: {path}
    columns: {{customer_id: who, timestamp: at, amount: paid, category: what}}
"""
HEADER = "who,at,paid,what"
Row = tuple[str, str, str, str]
GOOD: list[Row] = [(f"c{n % 5}", f"2024-03-{n + 1:02d} 10:00:00", f"{n}.5", "tea") for n in range(12)]


@dataclass(frozen=True)
class Right:
    """What a correct reading returns: events, customers, money and rejected rows."""

    events: int
    customers: int
    amount: Decimal
    rejected: int = 0


Break = Callable[[Path], Right | None]  # breaks a source in a folder; None: it must be refused
KINDS: dict[str, Break] = {}
SAME = Right(events=12, customers=5, amount=Decimal("72"))


def kind(make: Break) -> Break:
    """Keep a way to break a source under the name of its function."""
    KINDS[make.__name__] = make
    return make


def text(rows: list[Row], *, header: str = HEADER, sign: str = ",", end: str = "\n") -> str:
    return end.join([header.replace(",", sign), *(sign.join(row) for row in rows)]) + end


def put(folder: Path, content: str | bytes, *, name: str = "sales.csv", yaml: str = YAML) -> None:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (folder / "shop.yaml").write_text(yaml.format(path=name), encoding="utf-8")


def add_line(folder: Path, right: Right | None, **changed: str) -> Right | None:
    """Write the good shop and another line, of a new customer who pays 1 except for what is changed."""
    row = {"who": "c9", "at": "2024-03-20 10:00:00", "paid": "1", "what": "tea", **changed}
    put(folder, text([*GOOD, (row["who"], row["at"], row["paid"], row["what"])]))
    return right


def of_parquet(folder: Path, **columns: object) -> None:
    """Write a Parquet file of five lines of one customer who pays 1, except for the given columns."""
    rows = {"who": ["a"] * 5, "at": [datetime.datetime(2024, 3, 1)] * 5, "paid": [1.0] * 5, "what": ["tea"] * 5}
    pq.write_table(pa.table({**rows, **columns}), folder / "sales.parquet")
    (folder / "shop.yaml").write_text(YAML.format(path="sales.parquet"), encoding="utf-8")


def write_yaml(folder: Path, old: str, new: str) -> None:
    """Write the good shop with a change in its YAML."""
    put(folder, text(GOOD), yaml=YAML.replace(old, new))


MORE = Right(events=13, customers=6, amount=Decimal("73"))
LESS = Right(events=12, customers=5, amount=Decimal("72"), rejected=1)
FIVE = Right(events=5, customers=1, amount=Decimal("5"))
CHANGES: dict[str, tuple[Right | None, dict[str, str]]] = {  # one more line, and what stands in it
    "amount_not_a_number": (Right(13, 6, Decimal("72")), {"paid": "NaN"}),
    "amount_of_308_digits": (LESS, {"paid": "1e308"}),
    "amount_infinite": (LESS, {"paid": "-Infinity"}),
    "amount_negative_zero": (Right(13, 6, Decimal("72")), {"paid": "-0.0"}),
    "amount_denormal": (Right(13, 6, Decimal("72")), {"paid": "5e-324"}),
    "amount_in_words": (LESS, {"paid": "one"}),
    "amount_hexadecimal": (LESS, {"paid": "0x1F"}),
    "amount_with_underscore": (LESS, {"paid": "1_0"}),
    "amount_minus_behind": (LESS, {"paid": "5-"}),
    "amount_in_brackets": (LESS, {"paid": "(5)"}),
    "amount_other_minus": (LESS, {"paid": "\u22125"}),
    "amount_too_many_digits": (LESS, {"paid": "9" * 400}),
    "amount_too_large_for_exact_sums": (LESS, {"paid": "9900000000000"}),
    "time_of_year_1": (LESS, {"at": "0001-01-01 00:00:00"}),
    "time_of_year_9999": (LESS, {"at": "9999-12-31 23:59:59"}),
    "time_before_christ": (LESS, {"at": "-0044-03-15 12:00:00"}),
    "time_in_a_gap_of_the_clock": (MORE, {"at": "2024-03-31 02:30:00"}),
    "time_twice_on_the_clock": (MORE, {"at": "2023-10-29 02:30:00"}),
    "time_on_no_day": (LESS, {"at": "2024-02-30 10:00:00"}),
    "time_of_a_leap_second": (LESS, {"at": "2016-12-31 23:59:60"}),
    "id_of_a_megabyte": (MORE, {"who": "i" * 1_000_000}),
    "id_beyond_63_bits": (MORE, {"who": str(2**63 + 1)}),
    "id_with_null_byte": (MORE, {"who": "c\0z"}),
    "id_right_to_left": (MORE, {"who": "\u202ec0"}),
    "id_after_a_mark_in_the_middle": (Right(13, 5, Decimal("73")), {"who": "\ufeffc0"}),
    "id_with_spaces": (Right(13, 5, Decimal("73")), {"who": " \t c0\u00a0 "}),
    "id_in_other_case": (MORE, {"who": "C0"}),
    "id_missing": (LESS, {"who": ""}),
    "category_with_null_byte": (MORE, {"what": "t\0a"}),
    "category_of_two_megabytes": (None, {"what": "x" * 2_100_000}),
    "category_with_half_a_quote": (MORE, {"what": 'te"a'}),
    "quote_never_closed": (None, {"what": '"tea'}),
    "cells_too_many": (None, {"what": "tea,more,and more"}),
}
for _name, (_right, _changed) in CHANGES.items():
    KINDS[_name] = lambda folder, right=_right, changed=_changed: add_line(folder, right, **changed)

FILES: dict[str, tuple[Right | None, str | bytes, str]] = {  # what the file holds, and its name
    "file_empty": (None, b"", "sales.csv"),
    "file_of_line_ends": (None, b"\n\n\n", "sales.csv"),
    "file_of_a_mark_alone": (None, b"\xef\xbb\xbf", "sales.csv"),
    "file_of_null_bytes": (None, b"\0" * 4096, "sales.csv"),
    "file_is_a_picture": (None, b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20, "sales.csv"),
    "file_is_a_page": (None, "<html><body><table><tr><td>who</td></tr></table></body></html>", "sales.csv"),
    "file_is_json": (None, json.dumps([dict(zip(HEADER.split(","), row, strict=True)) for row in GOOD]), "sales.csv"),
    "file_of_headers_alone": (None, text([]), "sales.csv"),
    "file_without_header": (None, text(GOOD).split("\n", 1)[1], "sales.csv"),
    "header_names_a_column_twice": (None, text(GOOD, header="who,at,paid,Paid"), "sales.csv"),
    "line_ends_of_old_macs": (SAME, text(GOOD, end="\r"), "sales.csv"),
    "line_ends_mixed": (SAME, text(GOOD[:6]) + text(GOOD[6:], end="\r\n").split("\r\n", 1)[1], "sales.csv"),
    "utf_16": (SAME, text(GOOD).encode("utf-16"), "sales.csv"),
    "utf_32": (SAME, text(GOOD).encode("utf-32"), "sales.csv"),
    "utf_16_without_mark": (None, text(GOOD).encode("utf-16-le"), "sales.csv"),
    "surrogates": (None, text(GOOD).encode() + b"c9,2024-03-20,1,\xed\xa0\x80\n", "sales.csv"),
    "packed_and_cut_off": (None, gzip.compress(text(GOOD).encode())[:60], "sales.csv.gz"),
    "packed_by_name_only": (None, text(GOOD), "sales.csv.gz"),
    "parquet_by_name_only": (None, text(GOOD), "sales.parquet"),
    "workbook_by_name_only": (None, text(GOOD), "sales.xlsx"),
    "decimal_commas_and_points": (
        Right(12, 5, Decimal("14814810.00")),
        text([(who, at, "1.234.567,50", what) for who, at, _, what in GOOD], sign=";"),
        "sales.csv",
    ),
    "flags_for_amounts": (None, text([(who, at, "true", what) for who, at, _, what in GOOD]), "sales.csv"),
    "spreadsheet_day_numbers": (None, text([(row[0], "45352.5", *row[2:]) for row in GOOD]), "sales.csv"),
    "thousand_columns": (
        SAME,
        text([(*row, *["1"] * 1000) for row in GOOD], header=HEADER + "".join(f",x{n}" for n in range(1000))),
        "sales.csv",
    ),
}
for _name, (_right, _content, _file) in FILES.items():

    def _write(
        folder: Path, right: Right | None = _right, content: str | bytes = _content, file: str = _file
    ) -> object:
        put(folder, content, name=file)
        return right

    KINDS[_name] = _write

COLUMNS: dict[str, tuple[Right | None, dict[str, object]]] = {  # of a Parquet file
    "nested_amounts": (None, {"paid": [[1.0]] * 5}),
    "nested_ids": (None, {"who": [["a"]] * 5}),
    "nested_categories": (None, {"what": [{"x": [1]}] * 5}),
    "maps_for_categories": (None, {"what": pa.array([[("a", 1)]] * 5, pa.map_(pa.string(), pa.int64()))}),
    "times_without_days": (None, {"at": [datetime.time(1)] * 5}),
    "times_at_the_end_of_time": (None, {"at": pa.array([2**62, 1, 2, 3, -(2**62)], pa.timestamp("us"))}),
    "decimals_beyond_measure": (None, {"paid": pa.array([Decimal("9" * 30)] * 5, pa.decimal128(38, 2))}),
    "half_floats": (
        Right(4, 1, Decimal("3"), rejected=1),  # not-a-number is no amount, infinity a wrong one
        {"paid": pa.array(np.array([1, 2, np.inf, np.nan, -0.0], dtype=np.float16))},
    ),
    "amounts_with_one_missing": (
        FIVE,
        {"paid": pa.array([1.0, 1.5, 1.5, 1.0, float("nan")])},
    ),  # its statistics know none
    "amounts_of_nothing": (Right(5, 1, Decimal(0)), {"paid": pa.nulls(5)}),
    "ids_beyond_63_bits": (Right(5, 5, Decimal(5)), {"who": pa.array([2**63 + n for n in range(5)], pa.uint64())}),
    "ids_of_bytes": (FIVE, {"who": [b"ab"] * 5}),
    "words_from_a_dictionary": (FIVE, {"what": pa.array(["tea"] * 5).dictionary_encode()}),
    "no_lines": (
        None,
        {
            n: pa.array([], t)
            for n, t in {
                "who": pa.string(),
                "at": pa.timestamp("us"),
                "paid": pa.float64(),
                "what": pa.string(),
            }.items()
        },
    ),
}
for _name, (_right, _columns) in COLUMNS.items():

    def _store(folder: Path, right: Right | None = _right, columns: dict[str, object] = _columns) -> object:
        of_parquet(folder, **columns)
        return right

    KINDS[_name] = _store

PATHS = {  # a path of the YAML
    "path_of_a_folder": "folder",
    "path_of_a_pipe": "pipe",
    "path_in_a_circle": "circle.csv",
    "path_without_end": "/dev/zero",
    "path_of_nothing": "'*.tsv'",
    "path_of_two_kinds": "'mixed.*'",
    "path_too_long": "a" * 5000 + ".csv",
    "path_with_null_byte": '"a\\0.csv"',
    "path_of_a_server": "https://127.0.0.1:1/sales.csv",
    "path_of_a_bucket": "s3://bucket/sales.csv",
}
for _name, _path in PATHS.items():

    def _point(folder: Path, path: str = _path) -> None:
        put(folder, text(GOOD))
        (folder / "folder").mkdir()
        os.mkfifo(folder / "pipe")
        (folder / "circle.csv").symlink_to("circle.csv")
        for name in ("mixed.csv", "mixed.txt.xlsx"):
            (folder / name).write_text(text(GOOD), encoding="utf-8")
        write_yaml(folder, "{path}", path)

    KINDS[_name] = _point

SAYINGS = {  # of the YAML: what stands there instead
    "yaml_that_unfolds": ("name: shop", "name: shop\nlabels: {{a: &a [x], b: &b [*a, *a], c: &c [*b, *b]}}"),
    "yaml_of_brackets": ("name: shop", "name: " + "[" * 3000),
    "yaml_within_itself": ("name: shop", "name: &a [*a]"),
    "yaml_with_a_tag": ("name: shop", "name: !!python/object/apply:os.getcwd []"),
    "yaml_with_an_impossible_day": ("name: shop", "name: shop\nas_of: 2024-13-45"),
    "yaml_with_a_key_twice": ("name: shop", "name: shop\nname: shop"),
    "yaml_with_null_byte": ("name: shop", "name: sh\0op"),
    "zone_of_a_file": ("Europe/Berlin", "../../etc/passwd"),
    "zone_with_a_quote": ("Europe/Berlin", '"Europe/Ber\'lin"'),
    "delimiter_too_long": ("    columns", '    delimiter: "::"\n    columns'),
    "encoding_of_nothing": ("    columns", "    encoding: klingon\n    columns"),
    "encoding_with_null_byte": ("    columns", '    encoding: "a\\0b"\n    columns'),
    "expression_without_end": ("amount: paid", 'amount: "' + "(" * 2000 + "paid" + ")" * 2000 + '"'),
    "expression_divides_by_nothing": ("amount: paid", "amount: paid / 0"),
    "roles_in_a_list": (
        "events:",
        "customers: {{path: sales.csv, columns: {{customer_id: who}}, roles: [a]}}\nevents:",
    ),
}
for _name, (_old, _new) in SAYINGS.items():
    KINDS[_name] = lambda folder, old=_old, new=_new: write_yaml(folder, old, new)


@kind
def workbook_that_is_an_empty_archive(folder: Path) -> None:
    put(folder, b"", name="sales.xlsx")
    zipfile.ZipFile(folder / "sales.xlsx", "w").close()


@kind
def workbook_without_cells(folder: Path) -> None:
    put(folder, b"", name="sales.xlsx")
    pd.DataFrame().to_excel(folder / "sales.xlsx", index=False)


@kind
def workbook_with_a_column_twice(folder: Path) -> None:
    put(folder, b"", name="sales.xlsx")
    pd.DataFrame([(*row, "9") for row in GOOD]).to_excel(
        folder / "sales.xlsx", index=False, header=["who", "at", "paid", "what", "paid"]
    )


@kind
def parquet_with_a_column_twice(folder: Path) -> None:
    of_parquet(folder)
    rows = pq.read_table(folder / "sales.parquet")
    pq.write_table(rows.append_column("Paid", pa.array([9.0] * 5)), folder / "sales.parquet")


@kind
def workbook_of_mixed_cells(folder: Path) -> Right:
    put(folder, b"", name="sales.xlsx")
    rows = [(1, datetime.datetime(2024, 3, 1), 1.0, True), ("2", "2024-03-02", "2.0", 5), (3.0, "2024-03-03", 3, None)]
    pd.DataFrame(rows, columns=HEADER.split(","), dtype=object).to_excel(folder / "sales.xlsx", index=False)
    return Right(3, 3, Decimal(6))


@kind
def parquet_cut_off(folder: Path) -> None:
    of_parquet(folder)
    whole = (folder / "sales.parquet").read_bytes()
    (folder / "sales.parquet").write_bytes(whole[: len(whole) // 2])


@kind
def parquet_overwritten(folder: Path) -> None:
    of_parquet(folder, what=[f"tea {n}" * 50 for n in range(5)])
    whole = (folder / "sales.parquet").read_bytes()
    (folder / "sales.parquet").write_bytes(whole[:4] + b"\xff" * 200 + whole[204:])


@kind
def last_line_of_40_megabytes(folder: Path) -> None:
    add_line(folder, None, what="x" * 40_000_000)


@kind
def packed_last_line_of_40_megabytes(folder: Path) -> None:
    put(folder, gzip.compress(text([*GOOD, (*GOOD[0][:3], "x" * 40_000_000)]).encode(), 1), name="sales.csv.gz")


@kind
def files_put_together(folder: Path) -> Right:
    put(folder, text(GOOD).encode("utf-8-sig") + text(GOOD).encode("utf-8-sig"))
    return Right(24, 5, Decimal(144), rejected=1)


@kind
def two_hundred_files(folder: Path) -> Right:
    put(folder, text(GOOD))
    (folder / "many").mkdir()
    for number in range(200):
        (folder / "many" / f"{number}.csv").write_text(text(GOOD), encoding="utf-8")
    write_yaml(folder, "{path}", "many/*.csv")
    return Right(2400, 5, Decimal(14400))


def of_amounts(folder: Path, amounts: list[str], *, name: str = "sales.csv", sign: str = ";") -> None:
    """Write one line of customer a for each amount."""
    rows = [("a", "2024-03-01 10:00:00", paid, "tea") for paid in amounts]
    put(folder, text(rows, sign=sign), name=name)


LONG = 11_000  # rows, more than are looked at to detect a style
AMOUNTS: dict[str, tuple[Right | None, list[str]]] = {
    "one_decimal_comma_among_points": (None, [f"{n}.25" for n in range(60)] + ["7,25"]),
    "decimal_commas_and_points_in_halves": (None, ["0.25", "0,25"] * 30),
    "three_decimals_or_thousands": (None, ["1.234", "12.500", "950"] * 4),
    "three_decimals_below_one": (Right(4, 1, Decimal("3.102")), ["1.234", "0.500", "0.234", "1.134"]),
    "a_point_after_many_commas": (
        Right(LONG, 1, Decimal(LONG) * Decimal("0.25"), rejected=1),
        ["0,25"] * LONG + ["1.5"],
    ),
    "a_comma_after_many_thousands": (
        Right(LONG, 1, Decimal(LONG) * Decimal("1234.5"), rejected=1),
        ["1,234.50"] * LONG + ["12,50"],
    ),
}
for _name, (_right, _amounts) in AMOUNTS.items():

    def _pay(folder: Path, right: Right | None = _right, amounts: list[str] = _amounts) -> object:
        of_amounts(folder, amounts)
        return right

    KINDS[_name] = _pay


@kind
def files_of_points_and_of_commas(folder: Path) -> None:
    of_amounts(folder, ["0.25"] * 12, name="a.csv")
    of_amounts(folder, ["0,25"] * 12, name="b.csv")
    write_yaml(folder, "{path}", "'[ab].csv'")


TIMES: dict[str, tuple[Right | None, str]] = {  # how every time is written
    **{
        f"zone_{name}": (None, f"2024-03-{{day:02d}} 10:00:00 {zone}")
        for name, zone in {
            "abbreviated": "EST",
            "by_its_name": "America/New_York",
            "of_summer": "CEST",
            "by_a_short_offset": "GMT+2",
            "after_utc": "UTC+05",
            "in_brackets": "(BST)",
        }.items()
    },
    "zone_utc_in_small_letters": (SAME, "2024-03-{day:02d} 10:00:00 utc"),
    "clock_of_twelve_hours": (SAME, "2024-03-{day:02d} 10:00:00 pm"),
    "years_of_two_digits_first": (None, "24-03-{day:02d} 10:00:00"),
    "years_of_two_digits_last": (SAME, "{late:02d}.03.24 10:00:00"),
}
for _name, (_right, _format) in TIMES.items():

    def _time(folder: Path, right: Right | None = _right, form: str = _format) -> object:
        rows = [(who, form.format(day=n + 1, late=n + 10), *more) for n, (who, _, *more) in enumerate(GOOD)]
        put(folder, text(rows))
        return right

    KINDS[_name] = _time


@kind
def one_named_zone(folder: Path) -> Right:
    return add_line(folder, LESS, at="2024-03-20 10:00:00 EST")


def of_folder(folder: Path, name: str, *, kind: str) -> Right:
    """Write the good shop in a folder of a name and of a kind of file, with its YAML next to it."""
    inner = folder / name
    inner.mkdir()
    rows = pd.DataFrame(GOOD, columns=HEADER.split(",")).astype({"paid": float})
    rows.to_csv(inner / "sales.csv", index=False) if kind == "csv" else rows.to_parquet(inner / f"sales.{kind}")
    (folder / "shop.yaml").write_text(YAML.format(path=f"{name}/sales.{kind}"), encoding="utf-8")
    return SAME


for _folder in ("paid=9", "who=me"):
    for _kind in ("csv", "parquet"):
        KINDS[f"folder_{_folder}_of_{_kind}"] = lambda folder, name=_folder, kind=_kind: of_folder(
            folder, name, kind=kind
        )


@kind
def folders_of_a_partition(folder: Path) -> Right:
    rows = pd.DataFrame(GOOD, columns=HEADER.split(",")).astype({"paid": float})
    for number in (1, 2):
        (folder / f"month={number}").mkdir()
        rows.to_parquet(folder / f"month={number}" / "sales.parquet")
    text = YAML.format(path="'*/*.parquet'").replace("amount: paid", "amount: paid * month")
    (folder / "shop.yaml").write_text(text, encoding="utf-8")
    return Right(24, 5, Decimal(216))


@kind
def ids_rounded_after_many(folder: Path) -> Right:
    rows = [("12345678901", "2024-03-01", "1", "tea")] * LONG + [("1.23457E+11", "2024-03-01", "1", "tea")] * 100
    put(folder, text(rows))
    return Right(LONG, 1, Decimal(LONG), rejected=100)


@kind
def databases_of_one_name(folder: Path) -> Right:
    events = ""
    for name in "ab":
        (folder / name).mkdir()
        with duckdb.connect(str(folder / name / "shop.duckdb")) as con:
            con.execute(
                f"create table sales as select '{name}' who, timestamp '2024-03-01' as \"at\", 1 paid, 'tea' what"
            )
        events += YAML.split("events:\n")[1].replace("path: {path}", f"database: {name}/shop.duckdb\n    table: sales")
    yaml = YAML.split("events:\n")[0] + "events:\n" + events
    (folder / "shop.yaml").write_text(yaml.replace("{{", "{").replace("}}", "}"), encoding="utf-8")
    return Right(2, 2, Decimal(2))


def of_workbook(folder: Path, rows: list[tuple], *, hidden: bool = False) -> None:
    """Write a workbook of rows, after a hidden sheet if asked for."""
    book = openpyxl.Workbook()
    sheet = book.active
    if hidden:
        sheet.append(HEADER.split(","))
        sheet.append(["hidden", datetime.datetime(2024, 3, 1), 100, "tea"])
        sheet.sheet_state = "hidden"
        sheet = book.create_sheet("sales")
    for row in [HEADER.split(","), *rows]:
        sheet.append(list(row))
    put(folder, b"", name="sales.xlsx")
    book.save(folder / "sales.xlsx")


DAY = datetime.datetime(2024, 3, 1)
MANY = [("a", DAY, 1, "tea")] * 39
CELLS: dict[str, tuple[Right | None, list[tuple]]] = {  # of a workbook
    "workbook_ids_with_zeros": (Right(3, 3, Decimal(3)), [(who, DAY, 1, "tea") for who in ("007", "7", "07")]),
    "workbook_ids_with_exponents": (Right(3, 2, Decimal(3)), [(w, DAY, 1, "tea") for w in ("1E5", "100000", 100000)]),
    "workbook_of_formulas_without_values": (None, [(f"c{n}", DAY, "=1+1", "tea") for n in range(5)]),
    "workbook_id_of_a_formula": (Right(39, 1, Decimal(39), rejected=1), [*MANY, ("=A2", DAY, 1, "tea")]),
    "workbook_amount_of_an_error": (Right(39, 1, Decimal(39), rejected=1), [*MANY, ("b", DAY, "#N/A", "tea")]),
    "workbook_id_of_an_error": (Right(39, 1, Decimal(39), rejected=1), [*MANY, ("#DIV/0!", DAY, 1, "tea")]),
}
for _name, (_right, _rows) in CELLS.items():

    def _cell(folder: Path, right: Right | None = _right, rows: list[tuple] = _rows) -> object:
        of_workbook(folder, rows)
        return right

    KINDS[_name] = _cell


@kind
def workbook_with_a_hidden_sheet_first(folder: Path) -> Right:
    of_workbook(folder, [("a", DAY, 1, "tea")], hidden=True)
    return Right(1, 1, Decimal(1))


@kind
def three_decimals_or_thousands_in_a_sum(folder: Path) -> None:
    of_amounts(folder, ["1.234", "12.500", "950"] * 4)
    yaml = YAML.replace("amount: paid", "amount: paid * 2")
    (folder / "shop.yaml").write_text(yaml.format(path="sales.csv"), encoding="utf-8")
