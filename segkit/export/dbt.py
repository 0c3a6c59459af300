"""Export the model of a run as a dbt model: a query that reads a source or models, and its schema.yml."""

import re
from pathlib import Path
from typing import Any

import yaml

from segkit.data.io import refuse_in_run, write_bytes
from segkit.errors import InputError
from segkit.export.query import EVENTS, EVENTS_FIRST, SPARK_IN_UTC, Query, make_query
from segkit.segments.sql import SPARK_SETTINGS

MODEL, SCHEMA, SOURCE = "segkit_placed", "schema.yml", "segkit"  # of the model, its description, its source
BRACE = "{{ '{' }}"  # a brace in Jinja, so that nothing in names of the data is run
HOW_TO_RUN = "Put this folder under models/ of a dbt project (dbt 1.10.5 or later), and run: dbt build --select {model}"
SCHEMA_OF_EVENTS = "{{ var('segkit_schema', target.schema) }}"


def export_dbt(
    run_dir: str | Path, *, out: str, dialect: str = "duckdb", confidence: bool = False, start: str = EVENTS_FIRST
) -> str:
    """Write the query of ``export_sql`` as a dbt model, with a schema.yml of descriptions and tests.

    Parameters
    ----------
    out
        A folder, such as models/segkit of a dbt project.
    dialect, confidence, start
        As for ``export_sql``. Events are a source of dbt; features are models that you write.

    Returns
    -------
    str
        The files written, and how to run them, in lines.

    Raises
    ------
    InputError
        `out` is a file, or cannot be written.
    """
    refuse_in_run(out)
    folder = Path(out)
    if folder.suffix.lower() in (".sql", ".yml", ".yaml") or folder.is_file():
        raise InputError(f"--out {out}: a dbt model is a folder of two files. Give a folder.")
    query = make_query(run_dir, dialect=dialect, confidence=confidence, start=start)
    schema = yaml.safe_dump(_schema(query, confidence=confidence), allow_unicode=True, sort_keys=False, width=110)
    how = HOW_TO_RUN.format(model=MODEL)
    files = {folder / f"{MODEL}.sql": _model_text(query, dialect=dialect), folder / SCHEMA: f"# {how}\n{schema}"}
    try:
        _refuse_other_schema(folder / SCHEMA, first=f"# {how}")
        for path, text in files.items():
            write_bytes(path, text.encode())
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror}). Export again.") from None
    return "\n".join([*map(str, files), how])


def _refuse_other_schema(path: Path, *, first: str) -> None:
    """Raise if there is a schema.yml that somebody else wrote."""
    if path.exists() and not path.read_bytes().startswith(first.encode()):
        raise InputError(f"--out {path.parent}: it has a {SCHEMA} that no export wrote. Give another folder.")


def _model_text(query: Query, *, dialect: str) -> str:
    """Write the model: its settings, and the query with a reference in place of each table it reads."""
    text = _without_jinja(query.text)
    for name in query.reads:
        reference = f"source('{SOURCE}', '{name}')" if name == EVENTS else f"ref('{name}')"
        text = re.sub(rf"([`\"]){name}\1", f"{{{{ {reference} }}}}", text)
    settings = {"materialized": "table"}
    if dialect == "spark":
        settings["pre_hook"] = [f"set {name} = {value}" for name, value in (SPARK_SETTINGS | SPARK_IN_UTC).items()]
    config = ", ".join(f"{name}={value!r}" for name, value in settings.items())
    return f"{{{{ config({config}) }}}}\n{_without_jinja(query.comments)}\n{text}\n"


def _without_jinja(text: str) -> str:
    """Write each brace as one that dbt does not read, in SQL and in descriptions."""
    return text.replace("{", BRACE)


def _schema(query: Query, *, confidence: bool) -> dict[str, Any]:
    """Describe the model, its columns and their tests, and the events that it reads."""
    made, segments = query.run.parameters(), query.run.table("segments").sort_values("segment")
    levels = segments.get("level", segments["macro_segment"]).fillna(segments["macro_segment"])
    needs = segments[segments["need"].notna()]
    columns = [
        _column("customer_id", "The customer.", "unique", "not_null"),
        _column(
            "segment",
            f"The segment: {_listed(segments['segment'], segments['name'])}.",
            *(["not_null"] if query.columns else []),
            _accepted(segments["segment"]),
        ),
        _column(
            "macro_segment",
            f"The group of segments by value: {_listed(segments['macro_segment'], levels)}.",
            _accepted(segments["macro_segment"]),
        ),
        _column(
            "need",
            f"What the segment comes for, null where no single need leads: "
            f"{_listed(needs['need'], needs['need_name'])}.",
            *([_accepted(needs["need"])] if len(needs) else []),
        ),
    ]
    if confidence:
        columns.append(_column("confidence", "Share of subsamples of the customers that agree on the segment, 0 to 1."))
    about = f"Segments of {made.get('source_name', made['source'])} as of {made['as_of']}, by the model of that run."
    model = {"name": MODEL, "description": _without_jinja(about), "columns": columns}
    described: dict[str, Any] = {"version": 2, "models": [model]}
    if query.columns:
        described["sources"] = [_source(query)]
    return described


def _source(query: Query) -> dict[str, Any]:
    """Describe the table of events."""
    tested = {"customer_id", "timestamp", "event"}
    columns = [
        _column(name, "", *(["not_null"] if name in tested else [])) | {"data_type": kind}
        for name, kind in query.columns.items()
    ]
    about = "One row per event, as segkit's contract has it; timestamps in UTC."
    return {
        "name": SOURCE,
        "schema": SCHEMA_OF_EVENTS,
        "tables": [{"name": EVENTS, "description": about, "columns": columns}],
    }


def _column(name: str, description: str, *tests: str | dict[str, Any]) -> dict[str, Any]:
    """Describe a column; its name is quoted, as the query quotes it."""
    described = {"name": name, "description": _without_jinja(description), "quote": True, "data_tests": list(tests)}
    return {key: value for key, value in described.items() if value}


def _accepted(values: Any) -> dict[str, Any]:
    return {"accepted_values": {"arguments": {"values": sorted(set(values))}}}


def _listed(ids: Any, names: Any) -> str:
    """List ids with their names, each once."""
    return ", ".join(f"{one} {name}" for one, name in sorted(set(zip(ids, names, strict=True))))
