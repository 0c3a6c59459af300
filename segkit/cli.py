"""The command line: status 0 done, 1 failed, 2 bad arguments or input; no traceback without --debug."""

import ast
import errno
import os
import sys
import traceback
import unicodedata
from collections.abc import Callable
from typing import Any

import click

from segkit import __version__
from segkit.errors import SegkitError

DISK_FULL = os.strerror(errno.ENOSPC)
MAX_MESSAGE = 4_000  # characters of a message
DEBUG = click.option("--debug", is_flag=True, help="Show the traceback of an error.")


def run_guarded(work: Callable[..., Any], *, debug: bool, **options: Any) -> Any:
    """The result of some work; an error ends the command with one message and its status."""
    try:
        return work(**options)
    except SegkitError as error:
        _exit_with(str(error), status=error.status, debug=debug)
    except KeyboardInterrupt:
        _exit_with("interrupted", status=1, debug=debug)
    except OSError as error:
        _exit_with(_describe_os_error(error), status=1, debug=debug)
    except Exception as error:  # the last door: whatever else is wrong is said in a line
        first = str(error).strip().splitlines()
        _exit_with(
            f"{type(error).__name__}: {first[0] if first else 'no message'} (--debug shows where)",
            status=1,
            debug=debug,
        )


def _describe_os_error(error: OSError) -> str:
    """What the system refused, and what was left as it was."""
    if DISK_FULL in str(error):  # copying a folder lists what happened to each file
        return "the disk is full. What was there before stands as it was: free space, and run it again"
    first = (str(error).strip().splitlines() or ["no message"])[0]
    return f"{type(error).__name__}: {first} (--debug shows where)"


def _exit_with(message: str, *, status: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    click.echo(f"segkit: {terminal_text(message)}", err=True)
    sys.exit(status)


def terminal_text(text: str, *, most: int = MAX_MESSAGE) -> str:
    """A text for a terminal: what a name in the data may hold to steer it is shown as a mark, and no name goes on."""
    clean = "".join(c if c in "\n\t" or unicodedata.category(c)[0] != "C" else "\ufffd" for c in text)
    return clean if len(clean) <= most else clean[:most] + " ..."


def parse_literal(text: str) -> Any:
    """A value as a notebook's parameters cell would have it: whole number, fraction, True, False, else text."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, bool | int | float) else text


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="segkit")
def main() -> None:
    """Customer micro-segments from raw events: who will do what next, and the proof."""


@main.command()
@click.option(
    "--source", default="complete_journey", show_default=True, help="complete_journey, or a source's YAML file."
)
@click.option("--data", "data_dir", default="", help="Folder of the source's files; default: beside the YAML.")
@click.option("--as-of", default="", help="ISO date, exclusive; default: the source's own.")
@click.option(
    "--lookback-days", default=182, show_default=True, type=click.IntRange(min=1), help="Days that features see."
)
@click.option(
    "--horizon-days", default=91, show_default=True, type=click.IntRange(min=1), help="Days that are foreseen."
)
@click.option("--out", default=None, help="Run folder; default: reports/<source>/<as_of>.")
@click.option("--steps", default=None, help="Only these notebooks and what they need: 03, 01-04 or 01,03.")
@click.option(
    "--previous", default=None, help="A finished run to compare with, or none; default: the latest good one before."
)
@click.option(
    "--proof", default=None, type=click.Choice(["quick", "full"]), help="How thoroughly the segments are proved."
)
@click.option(
    "--engine",
    default="duckdb",
    show_default=True,
    help="Where days and features are computed: duckdb, local[2], spark://host:port, or an Ibis URL.",
)
@click.option("--auto", "mode", flag_value="auto", default="", help="Keep the segments of the last run where they "
              "still fit, say what changed, write the files of a decided pilot; else as without it.")  # fmt: skip
@click.option("--dry-run", "mode", flag_value="dry-run", help="Only say what --auto would decide, with the reasons.")
@click.option("--seed", default=7, show_default=True, type=int, help="Of every random choice.")
@click.option("--pseudonymise", is_flag=True, help="Show customers by keyed hashes in all tables (key: segkit.key).")
@click.option("--keep", type=click.IntRange(min=1), default=None, help="Finished runs of the source that stay in the "
              "folder, the newest; older ones are removed.")  # fmt: skip
@click.option("--show-code", is_flag=True, help="Keep the code in the pages.")
@click.option(
    "-p", "given", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter of a notebook; may be repeated."
)
@DEBUG
def run(debug: bool, given: tuple[tuple[str, str], ...], proof: str | None, **options: Any) -> None:
    """Run the chain of notebooks on a source and write its report; prints the path of index.html."""
    from segkit.notebook.chain import run_chain

    if options["mode"] and options["steps"]:
        raise click.UsageError("--auto and --dry-run choose the steps themselves: leave --steps out")
    parameters = {name: parse_literal(text) for name, text in given}
    if proof:
        parameters["proof"] = proof
    click.echo(run_guarded(run_chain, debug=debug, parameters=parameters, **options))


@main.command()
@click.argument("source")
@click.option("--data", "data_dir", default="", help="Folder of the source's files; default: beside the YAML.")
@click.option("--as-of", default="", help="ISO date, exclusive; default: the source's own.")
@click.option("--lookback-days", default=182, show_default=True, type=click.IntRange(min=1))
@click.option("--horizon-days", default=91, show_default=True, type=click.IntRange(min=1))
@DEBUG
def check(debug: bool, **options: Any) -> None:
    """Say what segkit understands of SOURCE, and whether it can carry a segmentation.

    SOURCE is a YAML file, or a table (csv, tsv, parquet, xlsx), for which a draft YAML is written beside it first.
    """

    def work(source: str, **others: Any) -> Any:
        from segkit.data.check import check_source

        return check_source(source, **others)

    found = run_guarded(work, debug=debug, **options)
    click.echo(terminal_text(str(found), most=len(str(found))))
    sys.exit(found.status)


@main.command()
@click.option("--scenario", type=click.Choice(["retail", "saas"]), default="retail", show_default=True)
@click.option("--customers", type=click.IntRange(min=1), default=2000, show_default=True)
@click.option("--seed", default=7, show_default=True, type=int, help="Of every random choice.")
@click.option("--out", required=True, help="Folder to write to.")
@DEBUG
def synth(debug: bool, **options: Any) -> None:
    """Write made-up customers with planted needs, their source YAML, and the truth beside it."""

    def work(**others: Any) -> Any:
        from segkit.data.synth import write_scenario

        return write_scenario(**others)

    click.echo(run_guarded(work, debug=debug, **options))


@main.command()
@click.argument("run_dir", metavar="RUN")
@click.argument("events")
@click.option("--out", required=True, help="A csv or parquet file; on Spark a folder that the cluster writes.")
@click.option("--as-of", default="", help="ISO date, exclusive; default: that of the run.")
@click.option("--data", "data_dir", default="", help="Folder of the source's files; default: beside the YAML.")
@click.option("--engine", default="duckdb", show_default=True, help="Where it is computed: duckdb, local[2], ...")
@DEBUG
def place(debug: bool, **options: Any) -> None:
    """Say which segment of RUN customers belong to whom it has not seen.

    EVENTS is a source's YAML file, or a table (csv, parquet, xlsx) whose columns have the names of the contract.
    """

    def work(run_dir: str, events: str, out: str, **others: Any) -> Any:
        from pathlib import Path
        from tempfile import TemporaryDirectory

        from segkit.data.engine import SPARK_MASTER
        from segkit.export.newcomers import assign_newcomers, refuse_out, write_newcomers

        refuse_out(out, on_spark=SPARK_MASTER.fullmatch(others["engine"]) is not None)
        Path(out).absolute().parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=Path(out).absolute().parent, prefix="carried-") as folder:
            placed = assign_newcomers(run_dir, events, folder=folder, **others)
            try:
                return write_newcomers(placed, out=out)
            finally:
                placed.get_backend().disconnect()

    click.echo(run_guarded(work, debug=debug, **options))


@main.command(name="export")
@click.argument("run_dir", metavar="RUN")
@click.option("--to", default="", help="csv, parquet, database, sql, klaviyo, hubspot, salesforce, braze, "
              "google_customer_match, meta_custom_audience, or the YAML file of a target of your own.")  # fmt: skip
@click.option("--target", default="", help="The YAML file of a target of your own; the same as --to FILE.yaml.")
@click.option("--out", required=True, help="A folder or a file; for a database its URL.")
@click.option("--segment", "segments", multiple=True, help="Only this segment; may be repeated.")
@click.option("--since", default="", help="An earlier run: where only changed rows go, those that differ from it.")
@click.option("--pilot", "pilots", multiple=True, help="Folder of a pilot whose control group is left out; repeatable.")
@click.option("--identifier", "named", nargs=2, multiple=True, metavar="FIELD COLUMN",
              help="Which identifier column of the source is the email, the phone, ...; may be repeated.")  # fmt: skip
@click.option("--country-code", default="", help="Of phone numbers that name none, such as 49.")
@click.option("--table", default="segkit_segments", show_default=True, help="Name of the table, for a database.")
@click.option("--source", default="", help="The source's YAML file, if it is elsewhere than when the run was made.")
@click.option("--data", "data_dir", default="", help="Folder of the source's files, likewise.")
@click.option("--dialect", default="duckdb", show_default=True, help="Of --to sql: duckdb, postgres, spark (tested), "
              "bigquery, snowflake (compiled, not tested).")  # fmt: skip
@click.option("--confidence", is_flag=True, help="Of --to sql: also the share of bags that agree.")
@click.option(
    "--dry-run", is_flag=True, help="Say what would go and what not, show the first rows masked, write nothing."
)
@DEBUG
def export_run(debug: bool, to: str, target: str, dialect: str, confidence: bool, **options: Any) -> None:
    """Export the segments of RUN into the tools that marketing uses, or its model as SQL."""

    def work(run_dir: str, out: str, named: tuple[tuple[str, str], ...], **others: Any) -> Any:
        from segkit.export.export import export_segments, export_sql

        if (to or target) == "sql":
            return export_sql(run_dir, out=out, dialect=dialect, confidence=confidence)
        return export_segments(run_dir, to=to or target, out=out, named=dict(named), **others)

    if bool(to) == bool(target):
        raise click.UsageError("give one of --to and --target")
    click.echo(run_guarded(work, debug=debug, **options))


@main.command()
@click.argument("run_dir", metavar="RUN")
@click.option("--segment", "segments", multiple=True, required=True, help="A segment's id; may be repeated.")
@click.option("--kpi", type=click.Choice(["spend", "orders", "active"]), default="spend", show_default=True)
@click.option("--share-control", type=float, default=0.5, show_default=True, help="Share of customers held out.")
@click.option("--weeks", type=int, default=None, help="How long the outcome is counted; default: the run's horizon.")
@click.option("--start", default="", help="ISO date the treatment begins; default: the run's as_of.")
@click.option("--seed", default=7, show_default=True, type=int, help="Another draws other customers.")
@click.option("--exclude", multiple=True, help="A running pilot's folder, or a CSV of customer_id; may be repeated.")
@click.option("--budget", type=float, default=None, help="Money for all contacts.")
@click.option("--contact-cost", type=float, default=None, help="Money per contact.")
@click.option(
    "--margin", type=float, default=None, help="What a unit of the KPI earns; of spend a share, such as 0.25."
)
@click.option("--lift-from", default="", help="An earlier read-out: the only thing an expected return is stated from.")
@click.option("--out", default=None, help="Folder; default: pilots/ beside the run.")
@DEBUG
def pilot(debug: bool, run_dir: str, out: str | None, **options: Any) -> None:
    """Draw a pilot on RUN: who is treated, who is held out, and what it will be able to show."""

    def work(**asked: Any) -> list[str]:
        from segkit.data.runs import load_run
        from segkit.experiments.pilot import default_pilot_folder, design_pilot, write_pilot
        from segkit.reports.experiments import describe_pilot

        run = load_run(run_dir)
        made = design_pilot(run, **asked)
        place = out or default_pilot_folder(run, segments=asked["segments"], kpi=asked["kpi"])
        return [*describe_pilot(made.facts), str(write_pilot(made, place))]

    click.echo("\n".join(run_guarded(work, debug=debug, **options)))


@main.command()
@click.argument("run_dir", metavar="RUN")
@click.argument("outcomes")
@click.option("--pilot", default="", help="The pilot's folder; default: the only one drawn from RUN.")
@click.option("--data", "data_dir", default="", help="Folder of the files of a source.")
@click.option("--contact-cost", type=float, default=None, help="Money per contact; default: as designed.")
@click.option("--margin", type=float, default=None, help="What a unit of the KPI earns; default: as designed.")
@click.option("--out", default=None, help="Folder; default: readout/ in the pilot's.")
@DEBUG
def readout(debug: bool, run_dir: str, outcomes: str, **options: Any) -> None:
    """Read a pilot of RUN out: lift, return and a verdict for each segment.

    RUN is the run it was drawn from, or the pilot's own folder. OUTCOMES is a source (complete_journey, a YAML file),
    a table of events (customer_id, timestamp, ...), or a table with customer_id and the KPI of each customer.
    """

    def work(**asked: Any) -> list[str]:
        from segkit.reports.experiments import run_readout

        page, summary = run_readout(run_dir, outcomes, **asked)
        return [*summary, str(page)]

    click.echo("\n".join(run_guarded(work, debug=debug, **options)))


@main.command()
@click.argument("run_dir", metavar="RUN")
@click.option("--state", default="", help="File of the state; default: <RUN>.live/state.sqlite.")
@click.option("--page", default="", help="Folder of a page that is kept current.")
@click.option("--sync", type=click.Choice(["full", "normal"]), default="full", show_default=True,
              help="full: a power cut loses nothing; normal: only kill -9 loses nothing, and faster.")  # fmt: skip
@DEBUG
def live(debug: bool, **options: Any) -> None:
    """Events as JSON lines in, changes of segment as JSON lines out, until the input ends."""

    def work(**others: Any) -> Any:
        from segkit.live.stream import run_live

        return run_live(others.pop("run_dir"), source=sys.stdin.buffer, out=sys.stdout.buffer, **others)

    click.echo(f"segkit: {run_guarded(work, debug=debug, **options)}", err=True)


@main.command()
@click.argument("customers", nargs=-1, required=True, metavar="CUSTOMER...")
@click.option("--reports", default="", help="Folder of the runs; default: reports/.")
@DEBUG
def forget(debug: bool, **options: Any) -> None:
    """Remove CUSTOMERs from all runs, pilots and live states below a folder, and keep them out of later ones."""

    def work(customers: tuple[str, ...], reports: str) -> list[str]:
        from pathlib import Path

        from segkit.erasure import erase as forget_customers
        from segkit.notebook.steps import HOME

        return forget_customers(customers, reports=Path(reports) if reports else HOME / "reports")

    click.echo("\n".join(run_guarded(work, debug=debug, **options)))
