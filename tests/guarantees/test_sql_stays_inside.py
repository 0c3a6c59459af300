"""The SQL of a source reads its own files, one row at a time, and nothing else; it writes nothing."""

from pathlib import Path

import duckdb
import pytest

from segkit.data.sources import connect, count_rejected_rows, open_source, read_events
from segkit.errors import SourceError

CANARY = "canary-7431"
YAML = """\
name: shop
timezone: UTC
events:
  - path: sales.csv
    columns: {{customer_id: who, timestamp: at, text: {expression}}}
{more}"""
ATTACKS = (
    "(select content from read_text('{secret}'))",
    "(from read_csv('{secret}'))",
    "(select max(a) from '{secret}')",
    "read_text('{secret}')",
    "read_blob('{secret}')",
    "content from read_text('{secret}') --",
    "words) from read_text('{secret}') t(words) --",
    "words; copy (select 1) to '{out}'",
    "words); copy (select 1) to '{out}'; --",
    "words; attach '{out}' as x",
    "words; install httpfs; load httpfs",
    "words; load '{secret}'",
    "words; set enable_external_access = true",
    "words; pragma database_list",
    "words; export database '{out}'",
    "words; create table x as select 1",
    "words; drop table x",
    "words/**/;/**/call pragma_version()",
    "getenv('SEGKIT_CANARY')",
    "GETENV('SEGKIT_CANARY')",
    "\"getenv\"('SEGKIT_CANARY')",
    "main.getenv('SEGKIT_CANARY')",
    "system.main.getenv('SEGKIT_CANARY')",
    "current_setting('home_directory')",
    "getvariable('x')",
    "pg_postmaster_start_time()",
    "current_query()",
    "setseed(0.1)",
    "write_log('x')",
    "(select path from duckdb_databases())",
    "(select string_agg(file) from glob('/etc/*'))",
    "glob('/etc/*')",
    "list_transform(glob('/etc/*'), x -> x)",
    "query('select 1')",
    "query_table('duckdb_settings')",
    "(table duckdb_settings)",
    "(values (1))",
    "(with x as (select 1 a) select a from x)",
    "exists (select 1 from duckdb_secrets())",
    "words in (select name from duckdb_settings())",
    "(summarize '{secret}')",
    "(describe '{secret}')",
    "(pivot '{secret}' on a)",
    "unnest(['a', 'b'])",
    "sum(length(words)) over ()",
    "columns('.*')",
    "*columns(*)",
    "struct_extract(t, 'words') from sales t",
    "which_secret('s3://x', 's3')",
    "version()",
    "current_user",
    "current_database()",
    "current_schemas(true)",
    "txid_current()",
    "parse_path('{secret}')[1] from read_text('{secret}')",
    "json_execute_serialized_sql(json_serialize_sql('select 1'))",
    "from_json((select content from read_text('{secret}')), '\"VARCHAR\"')",
    "sniff_csv('{secret}')",
    "parquet_metadata('{secret}')",
    "st_read('{secret}')",
    "sqlite_scan('{secret}', 'x')",
    "postgres_query('x', 'select 1')",
    "random()",
    "now()",
    "age(at)",
    "main.age(at)",
    '"age"(cast(at as timestamp))',
    "setseed(0.5)",
    "sleep_ms(1)",
    "error('stop')",
    "write_log('x')",
    "nextval('x')",
    "add_parquet_key('x', 'y')",
    "getenv/**/('SEGKIT_CANARY')",
    "'a' || getenv('SEGKIT_CANARY') || 'b'",
    "case when true then getenv('SEGKIT_CANARY') end",
    "list_apply(['SEGKIT_CANARY'], lambda x: getenv(x))",
    "['SEGKIT_CANARY'].list_transform(lambda x: getenv(x))[1]",
    "'SEGKIT_CANARY'.getenv()",
    "concat(variables := getenv('SEGKIT_CANARY'))",
    "{{'a': getenv('SEGKIT_CANARY')}}",
    "try(getenv('SEGKIT_CANARY'))",
    "$1",
    "?",
    "$name",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "sales.csv").write_text("who,at,words\n7,2024-03-01,tea\n8,2024-03-02,milk\n", encoding="utf-8")
    (tmp_path / "secret.csv").write_text(f"a\n{CANARY}\n", encoding="utf-8")
    monkeypatch.setenv("SEGKIT_CANARY", CANARY)
    return tmp_path


def read_or_error(folder: Path, expression: str, *, more: str = "") -> str:
    """Return all that a source with this expression reads, or the message of its refusal."""
    quoted = "'" + expression.replace("'", "''") + "'"
    (folder / "shop.yaml").write_text(YAML.format(expression=quoted, more=more), encoding="utf-8")
    source, con = open_source(str(folder / "shop.yaml")), connect()
    try:
        return str(read_events(source, con=con).execute().to_csv()) + str(count_rejected_rows(source, con=con))
    except SourceError as error:
        return f"refused: {error}"


@pytest.mark.parametrize(
    "attack", [*ATTACKS[::9], *(pytest.param(attack, marks=pytest.mark.slow) for attack in ATTACKS)]
)
def test_an_expression_that_reaches_out_is_refused(folder: Path, attack: str) -> None:
    before = sorted(path.name for path in folder.iterdir()) + ["shop.yaml"]
    text = attack.format(secret=folder / "secret.csv", out=folder / "out")
    found = read_or_error(folder, text)
    assert found.startswith("refused: ") and CANARY not in found, found
    assert sorted(path.name for path in folder.iterdir()) == sorted(before), "something was written"


@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_where_that_reaches_out_is_refused(folder: Path, attack: str) -> None:
    text = attack.format(secret=folder / "secret.csv", out=folder / "out")
    where = "    where: '(" + text.replace("'", "''") + ") is not null'\n"
    found = read_or_error(folder, "words", more=where)
    assert found.startswith("refused: ") and CANARY not in found, found
    assert not (folder / "out").exists()


def test_the_engine_refuses_what_the_checks_would_miss(folder: Path) -> None:
    read_or_error(folder, "words")
    con = connect()
    read_events(open_source(str(folder / "shop.yaml")), con=con)
    for sql in (
        f"from '{folder}/secret.csv'",
        f"select content from read_text('{folder}/secret.csv')",
        f"copy (select 1) to '{folder}/out.csv'",
        f"attach '{folder}/out.duckdb' as other",
        f"export database '{folder}/out'",
        "install httpfs",
        "load httpfs",
        "from 'https://127.0.0.1:1/x.csv'",
        "set enable_external_access = true",
        f"set allowed_paths = ['{folder}/secret.csv']",
        f"set allowed_directories = ['{folder}']",
        "set temp_directory = '/'",
        "set home_directory = '/'",
        "set extension_directory = '/'",
        "create secret (type s3)",
        "set lock_configuration = false",
    ):
        with pytest.raises(duckdb.Error):
            con.con.execute(sql).fetchall()
    assert sorted(path.name for path in folder.iterdir()) == ["sales.csv", "secret.csv", "shop.yaml"]


def test_a_path_is_read_from_its_folder_and_only_as_the_kind_of_its_ending(folder: Path) -> None:
    inside = folder / "inside"
    inside.mkdir()
    (inside / "shop.yaml").write_text(
        YAML.format(expression="words", more="").replace("sales.csv", "../sales.csv"), encoding="utf-8"
    )
    assert len(read_events(open_source(str(inside / "shop.yaml")), con=connect()).execute()) == 2
    for path in ("/etc/passwd", "../../../../../../../etc/passwd", "/dev/stdin", "/proc/self/environ"):
        (inside / "shop.yaml").write_text(
            YAML.format(expression="words", more="").replace("sales.csv", path), encoding="utf-8"
        )
        with pytest.raises(SourceError) as caught:
            read_events(open_source(str(inside / "shop.yaml")), con=connect())
        assert "root:" not in str(caught.value)
