"""Export the configuration with which drt, a tool for reverse ETL, sends exported segments on to other tools."""

from pathlib import Path

import yaml

from segkit.data.expressions import quote
from segkit.data.io import refuse_in_run, write_bytes
from segkit.data.runs import load_run
from segkit.errors import InputError
from segkit.export.database import DATES, DEFAULT_TABLE, KEY, LEFT
from segkit.export.target import read_target

SYNC = "segkit_segments"  # its name, and that of its file
ADDRESS, TOKEN = "SEGKIT_DRT_URL", "SEGKIT_DRT_TOKEN"  # environment variables of drt
HOW_TO_RUN = "Set {address} and {token}, and run in the folder of the drt project: drt run --select {sync} --dry-run"
BATCH_ROWS = 100


def export_drt(run_dir: str | Path, *, out: str, table: str = DEFAULT_TABLE) -> str:
    """Write a sync of drt that sends the table of ``--to database`` on, without customers who left.

    Consent, the holdout, control groups and erasure were respected when that table was written.

    Parameters
    ----------
    out
        The folder of a drt project; the file goes into its folder syncs.
    table
        The table that ``--to database`` writes; schema.table is understood.

    Returns
    -------
    str
        The file written, and how to run it, in lines.

    Raises
    ------
    InputError
        `out` cannot be written.
    """
    refuse_in_run(out)
    made, how = load_run(run_dir).parameters(), HOW_TO_RUN.format(address=ADDRESS, token=TOKEN, sync=SYNC)
    columns = [
        f"cast({quote(name)} as varchar) as {quote(name)}" if name in DATES else quote(name)
        for name in read_target("database").columns
    ]
    name = ".".join(quote(part) for part in table.split("."))
    sync = {
        "name": SYNC,
        "description": f"Segments of {made.get('source_name', made['source'])}, from the table {table}".replace(
            "{", "("
        ),
        "model": f"select {', '.join(columns)} from {name} where {quote(LEFT)} is null",
        "destination": {
            "type": "rest_api",
            "url": f"${{{ADDRESS}}}",
            "method": "POST",
            "auth": {"type": "bearer", "token_env": TOKEN},
            "native_idempotency_key": f"{{{{ row.{KEY} }}}} {{{{ row.segment }}}} {{{{ row.as_of }}}}",
        },
        "sync": {"mode": "full", "batch_size": BATCH_ROWS, "retry": {"max_attempts": 3}, "on_error": "fail"},
    }
    path = Path(out) / "syncs" / f"{SYNC}.yml"
    text = yaml.safe_dump(sync, allow_unicode=True, sort_keys=False, width=110)
    try:
        write_bytes(path, f"# {how}\n{text}".encode())
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror}). Nothing was changed.") from None
    return f"{path}\n{how}"
