"""The model of a run as a SQL file that a warehouse runs: the query, and above it what it reads and what was tested."""

from pathlib import Path

from segkit.data.plain import write_bytes
from segkit.data.store import Run, load_run
from segkit.errors import InputError
from segkit.segments.place import model_from
from segkit.segments.place_sql import FEATURES, SPARK_SETTINGS, TESTED, WEIGHTS, place_sql

ENDING = ".sql"


def export_sql(run_dir: str | Path, *, out: str, dialect: str = "duckdb", confidence: bool = False) -> Path:
    """Write the query that places customers by the model of a run.

    Takes  the folder of a run
    Gives  path of the file

    Parameters
    ----------
    out : a file that ends in .sql, or a folder
    dialect : duckdb, postgres, spark, bigquery or snowflake
    confidence : the share of bags that agree too; a longer query
    """
    run = load_run(run_dir)
    path = Path(out) if out.endswith(ENDING) else Path(out) / f"place_{dialect}{ENDING}"
    model = model_from(*run.load_model())
    words = model.space.words and run.has("day_categories")
    names = run.scan("day_categories").select("category").distinct().to_pandas()["category"] if words else []
    text = place_sql(model, dialect=dialect, categories=[n for n in names if n is not None], confidence=confidence)
    try:
        write_bytes(path, f"{_header(run, dialect=dialect)}\n{text};\n".encode())
    except OSError as error:
        raise InputError(f"--out {out}: cannot be written ({error.strerror}). Nothing was changed.") from None
    return path


def _header(run: Run, *, dialect: str) -> str:
    """What the query reads, as comments."""
    parameters = run.parameters()
    space = model_from(*run.load_model()).space
    tested = "run by the tests against the batch" if dialect in TESTED else "compiled only: no test has run it"
    lines = [
        f"Segments of {parameters.get('source_name', parameters['source'])} as of {parameters['as_of']}, by the model of that run.",
        f"Dialect {dialect}: {tested}.",
        f"Reads {FEATURES}: customer_id text and these features, double precision:",
        *(f"  {name}" for name in space.features),
        f"each over the {parameters['lookback_days']} days before the day of placing, by the formulas of the run.",
        "A customer of whom one is null, infinite or not a number gets no segment.",
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
    lines += ["Gives customer_id, segment, macro_segment. Names are quoted: lower case matters."]
    return "\n".join(f"-- {' '.join(line.split()) if not line.startswith('  ') else line}" for line in lines)
