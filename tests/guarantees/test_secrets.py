"""A password or key is never written down or shown: not in a log, a notebook, a record or a message."""

import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from segkit.cli import main
from segkit.data.engine import check_engine
from segkit.data.io import mask_secrets
from segkit.data.sources import connect, open_source, read_events
from segkit.errors import SourceError
from segkit.notebook.chain import run_chain

SECRET = "hunter2-7431"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the notebook machinery
DATABASE = """\
name: shop
timezone: UTC
events:
  - database: "{url}"
    table: sales
    columns: {{customer_id: who, timestamp: at, amount: paid}}
"""


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch) -> str:
    """A password as the environment holds it, and a key for a language model."""
    for name in ("SHOP_PASS", "OPENAI_API_KEY", "PGPASSWORD"):
        monkeypatch.setenv(name, SECRET)
    return SECRET


@pytest.mark.parametrize(
    ("text", "url", "shown"),
    [
        ("no host hunter2-7431@x", "postgres://me:$SHOP_PASS@x/db", "no host $SHOP_PASS@x"),
        (
            "bad url postgres://me:hunter2-7431@x/db",
            "postgres://me:${SHOP_PASS}@x/db",
            "bad url postgres://me:$SHOP_PASS@x/db",
        ),
        ("postgres://me:a@b@c@x/db", "", "postgres://me:...@x/db"),
        ("postgres://me:$SHOP_PASS@x/db", "", "postgres://me:$SHOP_PASS@x/db"),
        ("postgres://me:a/b@x/db or //:c@x", "", "postgres://me:...@x/db or //:...@x"),
        ("x.duckdb?password=a&Token=b&c=d", "", "x.duckdb?password=...&Token=...&c=d"),
        ("duckdb://x?motherduck_token=$SHOP_PASS", "", "duckdb://x?motherduck_token=$SHOP_PASS"),
        ("nothing here", "postgres://me:$NO_SUCH_NAME@x/db", "nothing here"),
    ],
)
def test_a_message_shows_the_name_and_not_the_value(secret: str, text: str, url: str, shown: str) -> None:
    assert mask_secrets(text, url=url) == shown


@pytest.mark.parametrize(
    "engine",
    [
        f"postgres://me:{SECRET}@127.0.0.1:1/db",
        f"postgres://me:p@{SECRET}@127.0.0.1:1/db",
        "postgres://me:$SHOP_PASS@127.0.0.1:1/db",
        "nosuch://me:$SHOP_PASS@127.0.0.1:1/db",
        f"duckdb:///x.duckdb?password={SECRET}",
        f"duckdb://md:shop?motherduck_token={SECRET}",
        f"postgres://:{SECRET}@127.0.0.1:1/db",
        f"postgres://me:a/{SECRET}@127.0.0.1:1/db",
        "$SHOP_PASS://x",
    ],
)
def test_an_engine_that_cannot_be_used_is_refused_without_its_password(secret: str, engine: str) -> None:
    with pytest.raises(SourceError) as caught:
        check_engine(engine)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["postgres://me:$SHOP_PASS@127.0.0.1:1/db", "nosuch://me:$SHOP_PASS@x/db", f"nosuch://me:{SECRET}@x/db"]
)
def test_a_database_that_does_not_answer_is_reported_without_its_password(
    secret: str, tmp_path: Path, url: str
) -> None:
    (tmp_path / "shop.yaml").write_text(DATABASE.format(url=url), encoding="utf-8")
    for debug in ([], ["--debug"]):
        result = CliRunner().invoke(main, ["check", str(tmp_path / "shop.yaml"), *debug])
        assert result.exit_code == 2 and "sales: the database table cannot be read" in result.stderr
        assert SECRET not in result.output + result.stderr


@pytest.mark.slow
def test_a_whole_run_holds_no_secret_in_any_file(
    secret: str,
    tmp_path: Path,
    make_notebook: Callable[..., Path],
    capfd: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = tmp_path / SECRET / "shop.duckdb"  # stands for all of an address that is secret
    place.parent.mkdir()
    with duckdb.connect(str(place)) as con:
        con.execute("create table sales as select 'c' || i as who, date '2024-01-01' + i::int as at, 1.5 as paid "
                    "from range(40) t(i)")  # fmt: skip
    monkeypatch.setenv("SHOP_DB", str(place))
    (tmp_path / "shop.yaml").write_text(DATABASE.format(url="$SHOP_DB"), encoding="utf-8")
    assert len(read_events(open_source(str(tmp_path / "shop.yaml")), con=connect()).execute()) == 40
    make_notebook("01_first", 'session.show_note(f"{run.parameters()}")', "print(run.record())")
    run_chain(
        source=str(tmp_path / "shop.yaml"), out=tmp_path / "out", notebooks_dir=tmp_path / "notebooks", show_code=True
    )
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    result = capfd.readouterr()
    assert len(files) >= 3 and not [path.name for path in files if SECRET.encode() in path.read_bytes()]
    assert SECRET not in result.out + result.err


@pytest.mark.slow
def test_a_run_on_postgres_holds_no_password(secret: str, postgres: str, shop: Path, tmp_path: Path) -> None:
    user, _, rest = postgres.removeprefix("postgres://").partition("@")
    engine = f"postgres://{user.partition(':')[0]}:$SHOP_PASS@{rest}"
    given = ["run", "--source", str(shop / "source.yaml"), "--out", str(tmp_path / "run"), "--steps", "01"]
    given += ["--as-of", "2024-10-01", "--engine", engine]
    result = CliRunner().invoke(main, given)
    assert result.exit_code == 0, result.output
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert not [path.name for path in files if SECRET.encode() in path.read_bytes()]
    assert "$SHOP_PASS" in (tmp_path / "run" / "run.json").read_text() and SECRET not in result.output
    shutil.rmtree(tmp_path / "run")
