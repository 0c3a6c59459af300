"""Segments for a webhook, and for drt: in batches that may come twice, and only what may be exported."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner

from segkit.cli import main
from segkit.data import webhook as webhooks
from segkit.errors import InputError
from segkit.export.database import write_table
from segkit.export.export import export_segments
from segkit.export.webhook import ExportError

Make = Callable[..., Path]
SMALL = "name: small\nformat: webhook\nmax_rows: 25\ncolumns: {customer: customer_id, spend: expected_spend}\n"


@pytest.fixture
def export(
    make_run: Make, people: pd.DataFrame, tmp_path: Path, webhook: Any, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Any]:
    """Export to the webhook, whose address holds a secret."""
    monkeypatch.setattr(webhooks, "WAIT_SECONDS", (0, 0))
    monkeypatch.setenv("HOOK_SECRET", "sesame")
    (tmp_path / "small.yaml").write_text(SMALL)
    people.loc[0, "ok"] = "no"
    url = f"http://127.0.0.1:{webhook.server_port}/$HOOK_SECRET"

    def run(*, to: str = str(tmp_path / "small.yaml"), out: str = url, **options: Any) -> Any:
        return export_segments(make_run(people), to=to, out=out, **options)

    return run


def test_batches_are_tried_again_under_the_same_key(export: Callable[..., Any], webhook: Any) -> None:
    webhook.statuses = [200, 503, 204, 200, 200, 200, 200]
    made = export()
    assert made.written == (("127.0.0.1", 59),) and "sesame" not in str(made)
    assert [len(rows) for _, rows in webhook.got] == [25, 25, 25, 9] and webhook.got[0][0] == "/sesame"
    assert webhook.got[0][1][0] == {"customer": "c01", "spend": 41.23}
    keys = [headers["Idempotency-Key"] for headers in webhook.headers]
    assert keys[1] == keys[2] and len(set(keys)) == 3
    assert [headers["Segkit-Batch"] for headers in webhook.headers] == ["1/3", "2/3", "2/3", "3/3"]
    export()
    assert [headers["Idempotency-Key"] for headers in webhook.headers[4:]] == [keys[0], keys[1], keys[3]]


def test_the_target_that_comes_along_has_the_columns_of_csv(export: Callable[..., Any], webhook: Any) -> None:
    webhook.statuses = [200]
    made = export(to="webhook", segments=("S01",))
    assert len(made.rows) == 29 and webhook.got[0][1][0]["next_order"] == "2024-06-05"
    assert webhook.got[0][1][0]["action"] == "offer bread" and webhook.got[0][1][0]["confidence"] == 0.75


def test_what_is_not_taken_is_counted_and_no_redirect_is_followed(export: Callable[..., Any], webhook: Any) -> None:
    webhook.statuses = [200, 302]
    words = r"127.0.0.1 \(it answered 302, which leads to another address\) took 1 of 3 batches, 25 of 59 rows"
    with pytest.raises(ExportError, match=words) as failed:
        export()
    assert "sesame" not in str(failed.value) and len(webhook.got) == 2 and failed.value.status == 1
    export(dry_run=True)
    assert len(webhook.got) == 2


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("http://example.com/x", "--out: example.com is called without encryption"),
        ("https://h/$NO_SUCH_SECRET", "NO_SUCH_SECRET is not set"),
        ("folder", "--out: this is no address of a webhook. Give https://"),
    ],
)
def test_an_address_that_cannot_be_used_is_refused(export: Callable[..., Any], out: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        export(out=out)


def test_drt_reads_the_exported_table_and_no_secret_is_written(
    make_run: Make, people: pd.DataFrame, tmp_path: Path
) -> None:
    url = f"duckdb://{tmp_path / 'crm.duckdb'}"
    old = pd.DataFrame({"customer_id": ["z"], "segment": "S01", "confidence": "0.5", "as_of": "2024-03-01"})
    write_table(old.set_index("customer_id", drop=False), url=url, name="main.crm", as_of="2024-03-01")
    people.loc[0, "ok"] = "no"
    export_segments(run := make_run(people), to="database", out=url, table="main.crm")
    command = ["export", str(run), "--to", "drt", "--table", "main.crm", "--out", str(tmp_path / "project")]
    answer = CliRunner().invoke(main, command)
    assert answer.exit_code == 0 and "drt run --select segkit_segments" in answer.stdout
    sync = yaml.safe_load((tmp_path / "project" / "syncs" / "segkit_segments.yml").read_text("utf-8"))
    rows = duckdb.connect(tmp_path / "crm.duckdb").execute(sync["model"]).fetch_df().set_index("customer_id")
    assert len(rows) == 59 and not {"c00", "z"} & set(rows.index)
    assert rows.loc["c01", ["next_order", "expected_spend"]].tolist() == ["2024-06-05", 41.23]
    assert sync["destination"]["url"] == "${SEGKIT_DRT_URL}" and sync["sync"]["mode"] == "full"
