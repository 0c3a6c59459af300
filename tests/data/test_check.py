"""The report of `segkit check`, and the draft it writes for a table without a YAML."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from segkit.data.check import check_source
from segkit.data.sources import connect, open_source, read_events
from segkit.errors import SourceError

YAML = """name: shop
timezone: Europe/Berlin
events:
  - path: sales.csv
    columns: {customer_id: who, timestamp: at, amount: sum}
"""


def shop(folder: Path, *, customers: int = 300, days: int = 400, yaml: str = YAML, bad: int = 0) -> str:
    """Write a shop in which everyone buys every seventh day, with `bad` unreadable times; return its YAML."""
    rows = pd.DataFrame([(n, day) for n in range(customers) for day in range(n % 7, days, 7)], columns=["who", "day"])
    rows["at"] = (pd.Timestamp("2023-01-01") + pd.to_timedelta(rows["day"], unit="D")).astype(str)
    rows.loc[: bad - 1, "at"] = "soon"
    rows.assign(sum=rows["day"] % 9 + 0.5).drop(columns="day").to_csv(folder / "sales.csv", index=False)
    (folder / "shop.yaml").write_text(yaml)
    return str(folder / "shop.yaml")


def test_a_good_source_is_reported(tmp_path):
    report = check_source(shop(tmp_path))
    assert report.status == 0
    for words in (
        "shop: 17,143 events of 300 customers, 2023-01-01 to 2024-02-04 (Europe/Berlin), as of 2024-02-05",
        "purchase: 17,143 events of 300 customers, done by the customer",
        "customer_id    from who",
        "amount         filled in 100.0% of events",
        "cost           margin",
        "rejected rows: none",
        "customers: no table",
        "Can it carry a segmentation? yes",
    ):
        assert words in str(report)


def test_more_rejected_rows_than_allowed_stop_it(tmp_path):
    report = check_source(shop(tmp_path, bad=2000))
    assert report.status == 2 and "Can it carry a segmentation? no" in str(report)
    assert "sales.csv: 2,000 rows (11.7%) cannot be used: 2,000 no readable time. At most 5% is allowed." in str(report)
    assert check_source(shop(tmp_path, bad=2000, yaml=YAML + "allow_set_aside: 0.2\n")).status == 0


def test_too_few_customers_stop_it(tmp_path):
    report = check_source(shop(tmp_path, customers=1))
    assert report.status == 2
    assert "1 of 1 customers were active in the days read; 2 segments of 20 need 40" in str(report)


def test_all_events_on_one_day_stop_it(tmp_path):
    report = check_source(shop(tmp_path, customers=300, days=1, yaml=YAML))
    assert report.status == 2 and "none of 43 customers was seen on more than one day" in str(report)


def test_customers_seen_once_and_mails_of_the_company_carry_nothing(tmp_path):
    """What a run would refuse, the check does not let pass."""
    rows = [f"c{n},2023-0{1 + n % 6}-01,buy\nc{n},2023-06-02,mail" for n in range(300)]
    (tmp_path / "sales.csv").write_text("who,at,what\n" + "\n".join(rows) + "\n")
    yaml = YAML.replace("amount: sum", "event: what") + "kinds: {buy: customer, mail: company}\n"
    (tmp_path / "shop.yaml").write_text(yaml)
    report = check_source(str(tmp_path / "shop.yaml"))
    assert report.status == 2 and "none of 300 customers was seen on more than one day" in str(report)


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (20, "Wait until there are at least 28, better a few months"),
        (200, "There are 200 days of history. Learning what comes next takes 273:"),
        (300, "There are 300 days of history. Testing the segments on later months takes 364."),
    ],
)
def test_short_history_is_a_limit(tmp_path, days, words):
    report = check_source(shop(tmp_path, days=days))
    assert report.status == 0 and "yes, with limits" in str(report) and words in str(report)


def test_as_of_before_the_first_event_is_refused(tmp_path):
    with pytest.raises(SourceError, match="no event lies before as_of 2020-01-01; the events run from 2023-01-01"):
        check_source(shop(tmp_path), as_of="2020-01-01")


def test_as_of_long_after_the_last_event_is_refused(tmp_path):
    words = "no event lies in the 182 days before as_of 2999-01-01; the events run from 2023-01-01 to 2024-02-04. Use"
    with pytest.raises(SourceError, match=words):
        check_source(shop(tmp_path), as_of="2999-01-01")


def test_a_mistyped_date_does_not_date_the_report(tmp_path):
    path = shop(tmp_path)
    with (tmp_path / "sales.csv").open("a") as stream:
        stream.write("7,2099-01-01,0.5\n")
    words = "1 of 17,144 events lies on 2099-01-01, more than a year after all others, which end on 2024-02-04"
    with pytest.raises(SourceError, match=f"{words}. Check its date, or give --as-of 2024-02-05"):
        check_source(path)
    assert check_source(path, as_of="2024-02-05").status == 0
    few = shop(tmp_path, days=50)
    with (tmp_path / "sales.csv").open("a") as stream:
        stream.writelines(f"{n},2025-01-01,0.5\n{n},2026-02-01,0.5\n" for n in range(300))
    assert "as of 2026-02-02" in str(check_source(few)), "a seventh of all events is no mistake"


def test_a_missing_column_of_a_workbook_names_its_sheets(tmp_path):
    with pd.ExcelWriter(tmp_path / "sales.xlsx") as book:
        pd.DataFrame({"Report": ["Orders of the shop", "exported"]}).to_excel(book, sheet_name="Info", index=False)
        pd.DataFrame({"who": [1], "at": ["2024-01-01"]}).to_excel(book, sheet_name="Orders", index=False)
    words = "The workbook has the sheets Info, Orders: state one with 'sheet:' in a source, or save it as a file"
    with pytest.raises(SourceError, match=f"no column looks like a time; it has Report.*{words}"):
        check_source(str(tmp_path / "sales.xlsx"))
    (tmp_path / "shop.yaml").write_text(YAML.replace("csv", "xlsx"))
    with pytest.raises(SourceError, match=f"no column 'who' in the file.*{words}"):
        check_source(str(tmp_path / "shop.yaml"))


def test_a_contract_is_no_order(tmp_path):
    yaml = YAML.replace("amount: sum", "amount: sum, order_id: who")
    report = check_source(shop(tmp_path, yaml=yaml))
    assert report.status == 2 and "none of 300 customers was seen on more than one day" in str(report)
    assert "Orders span up to 399 days, and each counts on its first day: give order_id only where it" in str(report)


def test_customers_whose_ids_do_not_match_are_shown(tmp_path):
    (tmp_path / "people.csv").write_text("id,age\n" + "".join(f"K-{n},30\n" for n in range(50)))
    people = "customers: {path: people.csv, columns: {customer_id: id, age: age}, roles: {age: demographic}}\n"
    report = str(check_source(shop(tmp_path, yaml=YAML + people)))
    assert "customers: 50 rows, 0 of them with an event (age demographic)" in report
    assert "few match: ids look like '0' in the events and 'K-0' in people.csv" in report


def test_lines_that_look_exported_twice_are_counted(tmp_path):
    path = shop(tmp_path)
    with (tmp_path / "sales.csv").open("a") as stream:
        stream.write("0,2023-01-01,0.5\n" * 3)
    assert "3 lines equal another in every column; they are kept" in str(check_source(path))


def test_product_use_without_money_or_categories(tmp_path):
    yaml = YAML.replace(", amount: sum", ", event: \"'login'\"") + "kinds: {login: customer, mail: company}\n"
    report = check_source(shop(tmp_path, yaml=yaml))
    assert (
        report.status == 0
        and "login: 17,143 events" in str(report)
        and "mail: listed in kinds, but there is no such event" in str(report)
    )
    assert "amount         spend, order value" in str(report)


def draft(folder: Path, lines: str, *, name: str = "export.csv") -> str:
    """Write a table and check it; return the text of its draft, which must be a source that can be read."""
    (folder / name).write_text(lines, encoding="utf-8")
    check_source(str(folder / name))
    path = (folder / name).with_suffix(".yaml")
    assert read_events(open_source(str(path)), con=connect()).count().execute() > 0
    return path.read_text(encoding="utf-8")


def test_a_draft_marks_its_guesses(tmp_path):
    report = draft(
        tmp_path,
        "Cust No.;Ordered at;Price;Qty;Product Group;Colour\n"
        + "K1;13.01.2024 10:00;1,50;2;Tea;red\nK1;14.01.2024;2;-1;Tea;red\n;14.01.2024;2;1;Tea;red\n",
    )
    for words in (
        f"name: {tmp_path.name.strip('_')}_export",
        "timezone: UTC  # guess",
        "customer_id: '\"Cust No.\"'  # guess",
        "timestamp: '\"Ordered at\"'  # guess",
        'amount: \'abs("Qty" * "Price")\'  # guess',
        "category: '\"Product Group\"'  # guess",
        "case when \"Qty\" < 0 then ''return''",
        "where: '\"Cust No.\" is not null'  # guess: 1 of 3 rows have no customer",
        "# not used: Colour",
    ):
        assert words in report


def test_a_draft_reads_a_german_export(tmp_path):
    rows = [f"K{n % 7};{n % 28 + 1:02d}.06.2024 12:30;B{n};Reifen;1;12,50" for n in range(60)]
    table = tmp_path / "Umsätze 2024.csv"
    table.write_bytes("\n".join(["Kunden-Nr;Bestellt am;Beleg;Warengruppe;Menge;Preis €", *rows]).encode("cp1252"))
    report = str(check_source(str(table)))
    for words in (
        "name: Umsatze_2024",
        "encoding: cp1252  # guess: the file is not UTF-8",
        "timestamp: '\"Bestellt am\"'  # guess",
        "order_id: Beleg  # guess",
        "2024-06-01 to 2024-06-28",
    ):
        assert words in report


def test_a_draft_of_product_use_takes_kinds_of_event_as_needs(tmp_path):
    kinds = ["comment", "export", "invite", "login", "upload", "email_sent"]
    when = pd.to_datetime("2024-03-01", utc=True) + pd.to_timedelta(range(60), unit="h")  # parquet of pandas: in UTC
    rows = pd.DataFrame({"userId": [n % 7 for n in range(60)], "eventTime": when, "eventName": kinds * 10})
    rows.to_parquet(tmp_path / "use.parquet")
    report = str(check_source(str(tmp_path / "use.parquet")))
    for words in (
        "email_sent: company",
        "needs: [comment, export, invite, login, upload]  # guess",
        "category: eventName  # guess",
        "60 events of 7 customers, 2024-03-01 to 2024-03-03",
    ):
        assert words in report


def test_a_draft_lists_the_kinds_of_event_it_found(tmp_path):
    report = draft(tmp_path, "user_id,action,ts\n" + "u1,login,1709283600\nu1,export,1709283700\nu2,login,1709283800\n")
    assert (
        "  export: customer\n  login: customer" in report
        and "event: action  # guess" in report
        and "timestamp: ts  # guess" in report
    )


def test_a_draft_notes_when_day_and_month_are_a_guess(tmp_path):
    report = draft(tmp_path, "client,date\n" + "a,03/04/2024\na,05/06/2024\nb,01/02/2024\n")
    assert (
        "strptime(\"date\", ''%d/%m/%Y'')'  # guess: the day comes first" in report and "event: '''visit'''" in report
    )


def test_a_draft_is_never_written_over_a_file(tmp_path):
    (tmp_path / "export.yaml").write_text("mine")
    (tmp_path / "export.csv").write_text("client,date\na,2024-01-01\n")
    with pytest.raises(SourceError, match="export.yaml exists already"):
        check_source(str(tmp_path / "export.csv"))
    assert (tmp_path / "export.yaml").read_text() == "mine"


def test_a_table_without_a_time_or_a_customer_is_refused(tmp_path):
    (tmp_path / "export.csv").write_text("client,colour\na,red\na,blue\n")
    with pytest.raises(SourceError, match="export.csv: no column looks like a time; it has client, colour"):
        check_source(str(tmp_path / "export.csv"))
    with pytest.raises(SourceError, match="missing.csv: no such file"):
        check_source(str(tmp_path / "missing.csv"))


UGLY = """name: people
currency: EUR  # guess: from the signs in the file
customers:
  path: people.csv
  decimal: '.'  # guess: the sign before decimals
  columns:
    customer_id: id  # guess
    born: born
    income: income
    town: town
    note: note
    has_car: has_car
    newsletter: newsletter
    email: email
    tier: tier
  roles:  # guess; identifier, consent and ignore shape no segment, and current_segment is only compared with
    born: demographic
    income: demographic
    town: geographic
    note: ignore
    has_car: demographic
    newsletter: consent
    email: identifier
    tier: current_segment
"""


def test_a_table_of_customers_alone_is_drafted_with_roles_and_each_column_gets_its_reason(tmp_path):
    n = np.arange(120)
    columns = {
        "id": [f"C{i}" for i in n],
        "born": [f"{1950 + i % 50}-0{1 + i % 9}-11" for i in n],
        "income": [f"€ {20 + i % 61},{i % 10}00" for i in n],
        "town": [f"Town {i % 60}" for i in n],
        "note": [f"spoke to {i}" for i in n],
        "has_car": np.where(n % 3 > 0, "Y", "N"),
        "newsletter": np.where(n % 2 > 0, "true", "false"),
        "email": [f"c{i}@example.com" for i in n],
        "tier": np.where(n % 4 > 0, "Basic", "Gold"),
    }
    pd.DataFrame(columns).to_csv(tmp_path / "people.csv", index=False)
    report = check_source(str(tmp_path / "people.csv"), as_of="2025-03-01")
    assert (tmp_path / "people.yaml").read_text(encoding="utf-8").partition("\n")[2] == UGLY
    found = str(report)
    assert report.status == 0 and "a table of 120 customers (people.csv), as of 2025-03-01" in found
    for words in ("a date of birth, as age", "left out: 60 values, most of them rare", "left out: its role is ignore"):
        assert words in found
    assert "It is a table of customers alone" in found and "yes, with limits" in found


def test_a_few_customers_alone_are_answered_in_one_sentence(tmp_path):
    (tmp_path / "people.csv").write_text("id,region\nC1,north\nC2,south\nC3,north\n", encoding="utf-8")
    report = check_source(str(tmp_path / "people.csv"))
    assert report.status == 2 and report.lines[-1] == "  - 3 customers; 2 segments of 20 need 40. Add customers."
    with pytest.raises(SourceError, match="it is a table of customers alone, and this needs events"):
        read_events(open_source(str(tmp_path / "people.yaml")), con=connect())
