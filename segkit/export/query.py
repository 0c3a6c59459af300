"""Export the model of a run as one SQL query."""

from pathlib import Path

from segkit.data.holdout import holdout_if_known
from segkit.data.io import refuse_in_run, write_bytes
from segkit.data.runs import Run, load_run
from segkit.errors import InputError
from segkit.segments.model import model_from_arrays
from segkit.segments.sql import FEATURES, SPARK_SETTINGS, TESTED_DIALECTS, WEIGHTS, assignment_sql

SQL_SUFFIX = ".sql"


def export_sql(run_dir: str | Path, *, out: str, dialect: str = "duckdb", confidence: bool = False) -> Path:
    """Write the query that assigns customers with the model of a run.

    Parameters
    ----------
    out
        A file that ends in .sql, or a folder.
    dialect
        duckdb, postgres, spark, bigquery or snowflake.
    confidence
        Also return the share of subsamples that agree; a longer query.
    """
    run = load_run(run_dir)
    refuse_in_run(out)
    path = Path(out) if out.endswith(SQL_SUFFIX) else Path(out) / f"place_{dialect}{SQL_SUFFIX}"
    model = model_from_arrays(*run.load_model())
    words = model.space.words and run.has("day_categories")
    names = run.scan("day_categories").select("category").distinct().to_pandas()["category"] if words else []
    text = assignment_sql(model, dialect=dialect, categories=[n for n in names if n is not None], confidence=confidence)
    try:
        write_bytes(path, f"{_sql_header(run, dialect=dialect)}\n{text};\n".encode())
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror}). Nothing was changed.") from None
    return path


def _sql_header(run: Run, *, dialect: str) -> str:
    """Describe in comments what the query reads."""
    parameters = run.parameters()
    space = model_from_arrays(*run.load_model()).space
    tested = "run by the tests against the batch" if dialect in TESTED_DIALECTS else "compiled only: no test has run it"
    lines = [
        f"Segments of {parameters.get('source_name', parameters['source'])} as of {parameters['as_of']}, "
        "by the model of that run.",
        f"Dialect {dialect}: {tested}.",
        f"Reads {FEATURES}: customer_id text and these features, double precision:",
        *(f"  {name}" for name in space.features),
        f"each over the {parameters['lookback_days']} days before the day of placing, by the formulas of the run.",
        "A customer with a feature that is null, infinite or not a number gets no segment.",
    ]
    if space.terms:
        lines += [
            f"Reads {WEIGHTS}: customer_id text, category text, weight double precision above zero: what was bought by",
            "category in the same days (amounts net of discount; lines where there is no money), one row each.",
        ]
    if space.words:
        lines += [
            "Names of categories are read word by word. Only names known to the run are: export again after each."
        ]
    if dialect == "spark":
        lines += ["First set these, or Spark takes all memory to compile it:"]
        lines += [f"  set {name} = {value};" for name, value in SPARK_SETTINGS.items()]
    lines += [
        "Gives customer_id, segment, macro_segment, need (null where no single one leads).",
        "It knows no earlier segment: a run lets customers at a border keep theirs, this query does not.",
        "Names are quoted: lower case matters.",
        *(["It does not leave out the holdout of the source."] if holdout_if_known(run) else []),
    ]
    return "\n".join(f"-- {' '.join(line.split()) if not line.startswith('  ') else line}" for line in lines)
