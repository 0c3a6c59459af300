"""Plain files: JSON and npz, written whole or not at all, with the same bytes for the same content."""

import io
import json
import math
import os
import zipfile
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from segkit.errors import RunError

DECIMALS = 6  # of floats in JSON
ZIP_DATE = (1980, 1, 1, 0, 0, 0)  # the earliest a zip can hold: the same arrays give the same bytes


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of an npz file: names sorted, dates fixed."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(arrays):
            member = zipfile.ZipInfo(f"{name}.npy", date_time=ZIP_DATE)
            member.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asarray(arrays[name]), allow_pickle=False)
    return buffer.getvalue()


def plain(value: Any) -> Any:
    """A value as JSON has it: floats rounded, not-a-number and infinity as None, dates as ISO text."""
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, date):
        return value.isoformat()
    number = float(value)
    return round(number, DECIMALS) if math.isfinite(number) else None


def read_json(path: Path) -> dict[str, Any]:
    """The content of a JSON file; a broken one is a RunError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise RunError(f"{path}: cannot be read as JSON ({error}). The run is broken: make a new one.") from error


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file with sorted keys."""
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + "\n").encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_bytes(content)
    os.replace(aside, path)
