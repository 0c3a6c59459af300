"""Export segments to a webhook: batches of JSON lines, each of which may be sent again without doubling anything."""

import hashlib
import json

import pandas as pd

from segkit.data.webhook import WebhookError, post
from segkit.errors import SegkitError
from segkit.export.target import NUMBER_FIELDS, Target

JSON_LINES = "application/x-ndjson"
BATCH_ROWS = 500  # where the target sets no max_rows


class ExportError(SegkitError):
    """A webhook did not take a whole export."""


def post_rows(rows: pd.DataFrame, *, target: Target, url: str) -> tuple[tuple[str, int], ...]:
    """Post the rows of a target to a webhook, in batches.

    Each batch has the header ``Idempotency-Key``, the SHA-256 of its content: the same rows have the same key, so that
    a receiver can leave out what it has. ``Segkit-Batch`` is its number and how many there are, such as 2/7.

    Parameters
    ----------
    rows
        Header -> text.
    url
        An address that `check_webhook` accepts.

    Returns
    -------
    tuple
        The host and the number of rows.

    Raises
    ------
    ExportError
        The webhook did not take a batch in three tries; the message says how many it took.
    """
    size = int(target.max_rows) or BATCH_ROWS
    batches = [_json_lines(rows.iloc[i : i + size], target=target) for i in range(0, len(rows), size)]
    host = ""
    for number, body in enumerate(batches):
        key = hashlib.sha256(body).hexdigest()
        headers = {"Idempotency-Key": key, "Segkit-Batch": f"{number + 1}/{len(batches)}"}
        try:
            host = post(url, body, content_type=JSON_LINES, headers=headers)
        except WebhookError as error:
            raise ExportError(
                f"--out: {error} took {number:,} of {len(batches):,} batches, {number * size:,} of {len(rows):,} rows. "
                "Export again: each batch keeps its Idempotency-Key, so that those it took can be left out."
            ) from None
    return ((host, len(rows)),) if batches else ()


def _json_lines(rows: pd.DataFrame, *, target: Target) -> bytes:
    """Write rows as JSON, one a line: numbers as numbers, unknown values as null."""
    numbers = {header for header in rows if target.columns[header].field in NUMBER_FIELDS}
    lines = [
        {name: float(cell) if name in numbers and cell is not None else cell for name, cell in row.items()}
        for row in rows.to_dict("records")
    ]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode("utf-8", "backslashreplace")
