"""The command line: exit status 0 done, 1 failed, 2 bad arguments or input; a traceback only with --debug."""

import _thread
import ast
import errno
import gc
import os
import signal
import sys
import threading
import traceback
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from segkit import __version__
from segkit.errors import InputError, SegkitError

DISK_FULL = os.strerror(errno.ENOSPC)
OF_PATHS = (  # errors that another path mends
    errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR, errno.EPERM,
    errno.EROFS,
)  # fmt: skip
MAX_MESSAGE = 4_000  # characters of a message
MAX_PATH_SHOWN = 300
PROOFS = ("quick", "full")
SEED = click.IntRange(0, 2**32 - 1)  # what numpy and scikit-learn take
DEBUG = click.option("--debug", is_flag=True, help="Show the traceback of an error.")
DATA_HELP = "Folder of the source's files; default: the folder of the YAML file."
AS_OF_HELP = "ISO date, exclusive; default: the as_of of the source."


def run_guarded(work: Callable[..., Any], *, debug: bool, **options: Any) -> Any:
    """Return the result of some work, or end the command with a message of one line and an exit status."""
    try:
        with _terminable():
            return work(**options)
    except SegkitError as error:
        _exit_with(str(error), status=error.status, debug=debug)
    except KeyboardInterrupt:
        _exit_with("interrupted", status=1, debug=debug)
    except OSError as error:
        _exit_with(_describe_os_error(error), status=2 if error.errno in OF_PATHS else 1, debug=debug)
    except RuntimeError as error:  # of Python before 3.13, at a link that leads back to itself
        loop = str(error).startswith("Symlink loop")
        _exit_with(f"{error}. Give another path." if loop else _first_line(error), status=2 if loop else 1, debug=debug)
    except Exception as error:  # anything unexpected still ends in one line
        _exit_with(_first_line(error), status=1, debug=debug)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the work as Ctrl-C does, so that it can clean up, and let neither be lost."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    hook, sys.unraisablehook = sys.unraisablehook, _interrupt_again
    try:
        yield
    finally:
        sys.unraisablehook = hook
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt_again(unraisable: "sys.UnraisableHookArgs") -> None:
    """Repeat an interrupt that came while Python deleted an object, where it would be printed and ignored."""
    if issubclass(unraisable.exc_type, KeyboardInterrupt):
        threading.Timer(0.01, _thread.interrupt_main, (signal.SIGTERM,)).start()
    else:
        sys.__unraisablehook__(unraisable)


def _describe_os_error(error: OSError) -> str:
    """Describe an error of the system in one line."""
    if error.errno in OF_PATHS and error.filename is not None:
        return f"{os.fsdecode(error.filename)[:MAX_PATH_SHOWN]}: {error.strerror}. Give another path."
    if DISK_FULL in str(error):  # copying a folder lists the error of each file
        return "the disk is full. Earlier files have not changed: free some space, and run it again"
    return _first_line(error)


def _first_line(error: Exception) -> str:
    first = (str(error).strip().splitlines() or ["no message"])[0]
    return f"{type(error).__name__}: {first} (--debug shows where)"


def _exit_with(message: str, *, status: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    click.echo(f"segkit: {terminal_text(message)}", err=True)
    sys.exit(status)


def _print(text: str) -> None:
    """Print a result; what was done stays done where the output cannot take it."""
    try:
        click.echo(text)
    except OSError as error:
        sys.stdout = None  # Python would try again at its end
        _exit_with(f"output: cannot be written ({error.strerror}). What was asked for is done.", status=1, debug=False)


def terminal_text(text: str, *, most: int = MAX_MESSAGE) -> str:
    """Replace control characters, which a name in the data may contain, and shorten a text for a terminal."""
    clean = "".join(c if c in "\n\t" or unicodedata.category(c)[0] != "C" else "\ufffd" for c in text)
    return clean if len(clean) <= most else clean[:most] + " ..."


def parse_literal(text: str) -> Any:
    """Parse a value for the parameters cell of a notebook: number, True, False, or else text."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # the last two: brackets in brackets without end
        return text
    return value if isinstance(value, bool | int | float) else text


def _split_names(context: click.Context, parameter: click.Parameter, value: str) -> tuple[str, ...]:
    """Split names at commas."""
    return tuple(value.split(",")) if value else ()


def _refuse_blank(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse a path that is blank, as an unset variable of a script is: it would be the current folder."""
    given = context.get_parameter_source(parameter.name) is not click.core.ParameterSource.DEFAULT
    if given and value is not None and not value.strip():
        raise click.BadParameter("it is blank. Give a path")
    return value


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="segkit")
def main() -> None:
    """Make customer micro-segments from raw events, predict what each will do, and validate the result."""
    gc.set_threshold(50_000, 20, 20)  # what is imported stays: looking for cycles in it took a seventh of the imports


@main.command()
@click.option(
    "--source", default="complete_journey", show_default=True, help="complete_journey, or the YAML file of a source."
)
@click.option("--data", "data_dir", default="", help=DATA_HELP)
@click.option("--as-of", default="", help=AS_OF_HELP)
@click.option(
    "--lookback-days",
    default=182,
    show_default=True,
    type=click.IntRange(min=1),
    help="Days of history that describe a customer.",
)
@click.option(
    "--horizon-days", default=91, show_default=True, type=click.IntRange(min=1), help="Days that are predicted."
)
@click.option("--out", callback=_refuse_blank, default=None, help="Run folder; default: reports/<source>/<as_of>.")
@click.option("--steps", default=None, help="Only these notebooks and those they depend on: 03, 01-04 or 01,03.")
@click.option(
    "--previous", default=None, help="A finished run to compare with, or none; default: the latest earlier one."
)
@click.option("--proof", default=None, type=click.Choice(PROOFS), help="How thoroughly the segments are validated.")
@click.option(
    "--engine",
    default="duckdb",
    show_default=True,
    help="Engine that computes days and features: duckdb, local[2], spark://host:port, or an Ibis URL.",
)
@click.option("--auto", "mode", flag_value="auto", default="", help="Keep the segments of the last run while they "
              "still fit, report what changed, and write the files of a pilot that was decided.")  # fmt: skip
@click.option("--dry-run", "mode", flag_value="dry-run", help="Only report what --auto would decide, with the reasons.")
@click.option("--seed", default=7, show_default=True, type=SEED, help="Seed of random numbers.")
@click.option(
    "--pseudonymise", is_flag=True, help="Replace customer ids by keyed hashes in all tables (key: segkit.key)."
)
@click.option("--keep", type=click.IntRange(min=1), default=None, help="Number of finished runs of the source to keep "
              "in the folder; older ones are removed.")  # fmt: skip
@click.option(
    "--language", default="en", show_default=True, help="Language of names, cards and the first pages: en, de."
)
@click.option("--digest", callback=_refuse_blank, default="", metavar="FILE|URL", help="Where the digest goes: a file "
              "(.html, .txt, .json), or the https address of a webhook, with secrets as $NAME.")  # fmt: skip
@click.option("--show-code", is_flag=True, help="Keep the code in the pages.")
@click.option(
    "-p", "given", nargs=2, multiple=True, metavar="NAME VALUE", help="A parameter of a notebook; repeatable."
)
@DEBUG
def run(debug: bool, given: tuple[tuple[str, str], ...], proof: str | None, **options: Any) -> None:
    """Run the notebooks on a source, write the report, and print the path of its index.html."""
    from segkit.notebook.delivering import run_with_digest

    if options["mode"] and options["steps"]:
        raise click.UsageError("--auto and --dry-run choose the steps: leave out --steps")
    parameters = {name: parse_literal(text) for name, text in given}
    if proof:
        parameters["proof"] = proof
    if parameters.get("proof", PROOFS[0]) not in PROOFS:
        raise click.UsageError(f"-p proof {str(parameters['proof'])[:40]}: give {' or '.join(PROOFS)}")
    _print(run_guarded(run_with_digest, debug=debug, parameters=parameters, **options))


@main.command()
@click.argument("source")
@click.option("--data", "data_dir", default="", help=DATA_HELP)
@click.option("--as-of", default="", help=AS_OF_HELP)
@click.option("--lookback-days", default=182, show_default=True, type=click.IntRange(min=1))
@click.option("--horizon-days", default=91, show_default=True, type=click.IntRange(min=1))
@DEBUG
def check(debug: bool, **options: Any) -> None:
    """Describe SOURCE as segkit reads it, and report whether it can carry a segmentation.

    SOURCE is a YAML file, or a table (csv, tsv, parquet, xlsx), for which a draft of a YAML file is written first, in
    the same folder.
    """

    def work(source: str, **others: Any) -> Any:
        from segkit.data.check import check_source
        from segkit.personas.never_offer import describe_never_offer

        return check_source(source, remarks=describe_never_offer, **others)

    found = run_guarded(work, debug=debug, **options)
    _print(terminal_text(str(found), most=len(str(found))))
    sys.exit(found.status)


SCENARIOS = "retail saas media one_time no_structure clickstream subscription marketplace customers_only"


@main.command()
@click.option("--scenario", type=click.Choice(SCENARIOS.split()), default="retail", show_default=True)
@click.option("--customers", type=click.IntRange(min=1), default=2000, show_default=True)
@click.option("--seed", default=7, show_default=True, type=SEED, help="Seed of random numbers.")
@click.option("--out", callback=_refuse_blank, required=True, help="Folder to write to.")
@DEBUG
def synth(debug: bool, **options: Any) -> None:
    """Write made-up customers with planted needs, the YAML file of their source, and the ground truth."""

    def work(**others: Any) -> Any:
        from segkit.data.synth import write_scenario

        return write_scenario(**others)

    _print(run_guarded(work, debug=debug, **options))


@main.command()
@click.argument("run_dir", metavar="RUN")
@click.option("--names", default="", help="The file to write; default: needs.yaml in the folder above the run.")
@DEBUG
def needs(debug: bool, **options: Any) -> None:
    """Write a file in which you name the needs of RUN; the next run reads it, and names you gave stay."""

    def work(*, run_dir: str, names: str) -> list[str]:
        from segkit.data.runs import load_run
        from segkit.personas.need_file import write_need_names

        run = load_run(run_dir)
        file = write_need_names(run, path=names or None)
        return [f"{len(run.table('needs'))} needs. Take the # away from a line to name a need yourself.", str(file)]

    _print("\n".join(run_guarded(work, debug=debug, **options)))


@main.command()
@click.argument("run_dir", metavar="RUN")
@click.argument("events")
@click.option(
    "--out",
    callback=_refuse_blank,
    required=True,
    help="A csv or parquet file to write; on Spark a folder that the cluster writes.",
)
@click.option("--as-of", default="", help="ISO date, exclusive; default: the as_of of the run.")
@click.option("--data", "data_dir", default="", help=DATA_HELP)
@click.option("--engine", default="duckdb", show_default=True, help="Engine: duckdb, local[2], ...")
@DEBUG
def place(debug: bool, **options: Any) -> None:
    """Assign customers that RUN has not seen to its segments.

    EVENTS is the YAML file of a source, or a table (csv, parquet, xlsx) whose columns have the names of the contract.
    """

    def work(run_dir: str, events: str, out: str, **others: Any) -> Any:
        from pathlib import Path
        from shutil import rmtree

        from segkit.data.engine import SPARK_MASTER
        from segkit.export.newcomers import assign_newcomers, refuse_out, write_newcomers

        on_spark = SPARK_MASTER.fullmatch(others["engine"]) is not None
        refuse_out(out, on_spark=on_spark, events=events, data_dir=others["data_dir"])
        path = Path(out).absolute()
        folder = path.with_name(f"{path.name}.building-{os.getpid()}")  # `segkit forget` knows what it is
        folder.mkdir(parents=True)
        try:
            assigned = assign_newcomers(run_dir, events, folder=folder, **others)
            try:
                return write_newcomers(assigned, out=out)
            finally:
                assigned.get_backend().disconnect()
        finally:
            rmtree(folder, ignore_errors=True)

    _print(run_guarded(work, debug=debug, **options))


@main.command(name="export")
@click.argument("run_dir", metavar="RUN")
@click.option("--to", default="", help="csv, parquet, database, webhook, sql, dbt, drt, klaviyo, hubspot, salesforce, "
              "braze, google_customer_match, meta_custom_audience, or the YAML file of your own target.")  # fmt: skip
@click.option("--target", default="", help="The YAML file of your own target; the same as --to FILE.yaml.")
@click.option("--out", callback=_refuse_blank, required=True, help="A folder or file to write; for a database its URL, "
              "for a webhook its address, with secrets as $NAME.")  # fmt: skip
@click.option("--segment", "segments", multiple=True, help="Only this segment; repeatable.")
@click.option(
    "--since", default="", help="An earlier run, for targets that take changes only: rows that differ from it."
)
@click.option("--pilot", "pilots", multiple=True, help="Folder of a pilot whose control group is excluded; repeatable.")
@click.option("--identifier", "named", nargs=2, multiple=True, metavar="FIELD COLUMN",
              help="Identifier column of the source for a field such as email or phone; repeatable.")  # fmt: skip
@click.option("--country-code", default="", help="Country code of phone numbers without one, such as 49.")
@click.option("--table", default="segkit_segments", show_default=True, help="Name of the table in a database.")
@click.option("--source", default="", help="The YAML file of the source, if it has moved since the run was made.")
@click.option("--data", "data_dir", default="", help="Folder of the source's files, if they have moved.")
@click.option("--dialect", default="duckdb", show_default=True, help="For --to sql, dbt: duckdb, postgres, "
              "spark (tested), bigquery, snowflake (tested as DuckDB).")  # fmt: skip
@click.option("--from", "start", type=click.Choice(["features", "events"]), default="features", show_default=True,
              help="For --to sql, dbt: what the query reads; from events, it computes the features, too.")  # fmt: skip
@click.option(
    "--confidence", is_flag=True, help="For --to sql, dbt: add the share of subsamples that agree on the segment."
)
@click.option(
    "--dry-run", is_flag=True, help="Report what would be exported, with the first rows masked; write nothing."
)
@DEBUG
def export_run(debug: bool, to: str, target: str, dialect: str, confidence: bool, start: str, **options: Any) -> None:
    """Export the segments of RUN to marketing tools, or its model as SQL."""

    def work(run_dir: str, out: str, named: tuple[tuple[str, str], ...], **others: Any) -> Any:
        from segkit.export.dbt import export_dbt
        from segkit.export.drt import export_drt
        from segkit.export.export import export_segments
        from segkit.export.query import export_sql

        if (to or target) in ("sql", "dbt"):
            write = export_sql if (to or target) == "sql" else export_dbt
            return write(run_dir, out=out, dialect=dialect, confidence=confidence, start=start)
        if (to or target) == "drt":
            return export_drt(run_dir, out=out, table=others["table"])
        return export_segments(run_dir, to=to or target, out=out, named=dict(named), **others)

    if bool(to) == bool(target):
        raise click.UsageError("give one of --to and --target")
    _print(run_guarded(work, debug=debug, **options))


@main.command()
@click.argument("run_dir", metavar="RUN")
@click.option("--segment", "segments", multiple=True, help="Id of a segment; repeatable.")
@click.option("--opportunity", default="", help="Id of an opportunity of RUN, such as A01: its segments, joined.")
@click.option("--join", is_flag=True, help="Test the segments as one group, which detects smaller effects.")
@click.option("--kpi", type=click.Choice(["spend", "orders", "active"]), default="spend", show_default=True)
@click.option("--arms", default="", metavar="NAME,NAME", callback=_split_names,
              help="Treatments to compare, such as mail,app; default: one.")  # fmt: skip
@click.option("--share-control", type=float, default=None,
              help="Share of customers in the control group; default: 0.5, with several arms less.")  # fmt: skip
@click.option("--weeks", type=int, default=None, help="Length of the pilot; default: the horizon of the run.")
@click.option("--start", default="", help="ISO date on which the treatment begins; default: the as_of of the run.")
@click.option("--seed", default=7, show_default=True, type=SEED, help="Seed of the draw.")
@click.option("--exclude", multiple=True, help="Folder of a running pilot, or a CSV file with customer_id; repeatable.")
@click.option("--budget", type=float, default=None, help="Budget for all contacts.")
@click.option("--contact-cost", type=float, default=None, help="Cost of one contact, in the currency of the run.")
@click.option("--margin", type=float, default=None, help="Profit per unit of the KPI; for spend a share, such as 0.25.")
@click.option("--lift-from", default="", help="An earlier read-out, from which the expected return is calculated.")
@click.option("--out", callback=_refuse_blank, default=None, help="Folder; default: pilots/ in the folder of the run.")
@DEBUG
def pilot(debug: bool, run_dir: str, out: str | None, **options: Any) -> None:
    """Draw a pilot on RUN: treatment and control group, and the smallest effect it can detect."""

    def work(**others: Any) -> list[str]:
        from segkit.data.runs import load_run
        from segkit.experiments.pilot import default_pilot_folder, design_pilot
        from segkit.reports.pilots import describe_pilot, write_planned_pilot

        run = load_run(run_dir)
        designed = design_pilot(run, **others)
        folder = out or default_pilot_folder(run, facts=designed.facts)
        return [*describe_pilot(designed.facts), str(write_planned_pilot(designed, folder))]

    _print("\n".join(run_guarded(work, debug=debug, **options)))


@main.command()
@click.argument("run_dir", metavar="[RUN", required=False, default="")
@click.argument("outcomes", metavar="OUTCOMES]", required=False, default="")
@click.option("--pilot", default="", help="Folder of the pilot; default: the only one drawn from RUN.")
@click.option("--data", "data_dir", default="", help="Folder of the source's files.")
@click.option("--arms", callback=_refuse_blank, default=None, metavar="TABLE",
              help="An experiment made anywhere: a table with one row a customer, or a source.")  # fmt: skip
@click.option("--arm-column", "arm", default="", help="Column of the arm; default: guessed.")
@click.option("--control", default="", help="The arm to compare with; default: guessed from names such as control.")
@click.option("--kpi", "kpis", multiple=True, metavar="COLUMN",
              help="An outcome, the most important first; repeatable; default: guessed.")  # fmt: skip
@click.option("--guard", "guards", multiple=True, metavar="COLUMN",
              help="An outcome that should not rise, such as unsubscribes; repeatable.")  # fmt: skip
@click.option("--before", multiple=True, metavar="COLUMN",
              help="A column that was known before the test; repeatable; default: those left of the arm.")  # fmt: skip
@click.option("--segment-by", default="", metavar="COLUMN|RUN", help="Effects by the values of a column, or by the "
              "segments of a run.")  # fmt: skip
@click.option("--household", default="", metavar="COLUMN", help="What customers share, such as an address: they count "
              "as one; default: guessed.")  # fmt: skip
@click.option("--split", nargs=2, type=(str, float), multiple=True, metavar="ARM SHARE",
              help="Planned share of an arm, or parts such as 2 and 1; repeat for each; default: the nearest plain "
              "split.")  # fmt: skip
@click.option("--look", type=int, default=None, metavar="CUSTOMERS",
              help="The test still runs, and will have so many customers: ranges then hold at every look.")  # fmt: skip
@click.option("--currency", default="", help="With --arms: currency of amounts, such as EUR.")
@click.option("--language", default="en", show_default=True, help="With --arms: language of the page, en or de.")
@click.option("--contact-cost", type=float, default=None, help="Cost of one contact; default: as designed.")
@click.option("--margin", type=float, default=None, help="Profit per unit of the KPI; default: as designed.")
@click.option(
    "--out", callback=_refuse_blank, default=None, help="Folder; default: readout/ in the folder of the pilot or table."
)
@DEBUG
def readout(debug: bool, run_dir: str, outcomes: str, arms: str | None, **options: Any) -> None:
    """Read out a pilot of RUN, or with --arms an experiment made anywhere: lift, range and verdict.

    RUN is the run the pilot was drawn from, or the folder of the pilot. OUTCOMES is a source (complete_journey, a YAML
    file), a table of events (customer_id, timestamp, ...), or a table with customer_id and the KPI of each customer.
    """
    of_pilot = {name: options.pop(name) for name in ("pilot", "data_dir")}
    shared = {name: options.pop(name) for name in ("contact_cost", "margin", "out")}
    if arms is None and not (run_dir and outcomes):
        raise click.UsageError("give RUN and OUTCOMES, or --arms TABLE")
    given = [name for name in options if options[name] and name != "language"]
    if arms is None and given:
        option = {"arm": "arm-column", "kpis": "kpi", "guards": "guard"}.get(given[0], given[0].replace("_", "-"))
        raise click.UsageError(f"--{option} needs --arms")
    if arms is not None and (run_dir or any(of_pilot.values())):
        raise click.UsageError("--arms reads a table alone: leave out RUN, OUTCOMES, --pilot and --data")

    def work(**others: Any) -> list[str]:
        from segkit.reports.arms_readout import run_arms_readout
        from segkit.reports.pilots import run_readout

        if arms is None:
            page, summary = run_readout(run_dir, outcomes, **others)
        else:
            page, summary = run_arms_readout(arms, **others)
        return [*summary, str(page)]

    mine = of_pilot if arms is None else options | {"split": dict(options["split"])}
    _print("\n".join(run_guarded(work, debug=debug, **mine, **shared)))


@main.command()
@click.argument("run_dir", metavar="RUN")
@click.option("--state", default="", help="File of the state; default: <RUN>.live/state.sqlite.")
@click.option("--page", default="", help="Folder of a page that is updated continuously.")
@click.option("--png", default="", help="File of a picture for chat, updated every minute.")
@click.option("--triggers", default="", help="YAML file of triggers: who is notified when a customer does something.")
@click.option("--sync", type=click.Choice(["full", "normal"]), default="full", show_default=True,
              help="full: safe against power cuts; normal: faster, safe against kill -9 only.")  # fmt: skip
@DEBUG
def live(debug: bool, **options: Any) -> None:
    """Read events as JSON lines, and write changes of segment as JSON lines, until the input ends."""

    def work(**others: Any) -> Any:
        from segkit.live.stream import run_live

        if sys.stdin is None or sys.stdout is None:
            raise InputError("standard input or output is closed. Pipe events in, and changes out.")
        return run_live(others.pop("run_dir"), source=sys.stdin.buffer, out=sys.stdout.buffer, **others)

    click.echo(f"segkit: {run_guarded(work, debug=debug, **options)}", err=True)


@main.command()
@click.argument("customers", nargs=-1, required=True, metavar="CUSTOMER...")
@click.option("--reports", callback=_refuse_blank, default="", help="Folder of the runs; default: reports/.")
@DEBUG
def forget(debug: bool, **options: Any) -> None:
    """Erase CUSTOMERs from all runs, pilots and live states below a folder, and exclude them from later runs."""

    def work(customers: tuple[str, ...], reports: str) -> list[str]:
        from pathlib import Path

        from segkit.data.paths import HOME
        from segkit.erasure import erase

        return erase(customers, reports=Path(reports) if reports else HOME / "reports")

    _print("\n".join(run_guarded(work, debug=debug, **options)))


@main.command()
@click.argument("run_dir", metavar="RUN")
@click.option("--format", default="text", show_default=True, help="html (for mail), text (for chat) or json.")
@click.option("--link", default="", help="Address of the report, to link to.")
@click.option("--language", default="", help="Language of the digest: en, de; default: that of the run.")
@DEBUG
def digest(debug: bool, **options: Any) -> None:
    """Print the digest of RUN: what changed, three things to do, and whether the data is broken."""

    def work(run_dir: str, **others: Any) -> str:
        from segkit.assist.digest import read_digest

        return read_digest(run_dir, **others)

    text = run_guarded(work, debug=debug, **options).rstrip("\n")
    _print(terminal_text(text, most=len(text)))


@main.command()
@click.option("--reports", callback=_refuse_blank, default="", help="Folder of the runs; default: reports/.")
@click.option("--ids", is_flag=True, help="Let agents read the ids of the customers in a segment.")
@DEBUG
def mcp(debug: bool, **options: Any) -> None:
    """Answer the questions of an agent about finished runs (Model Context Protocol); nothing is written."""

    def work(reports: str, ids: bool) -> None:
        from segkit.assist.mcp import serve
        from segkit.data.paths import find_path

        serve(find_path(reports or "reports"), ids=ids)

    run_guarded(work, debug=debug, **options)
