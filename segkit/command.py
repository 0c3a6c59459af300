"""How a command of `segkit` ends: one message and a status; and how the text of an option is read."""

import ast
import errno
import os
import sys
import traceback
import unicodedata
from collections.abc import Callable
from typing import Any

import click

from segkit.errors import SegkitError

FULL = os.strerror(errno.ENOSPC)
MOST_SAID = 4_000  # characters of a message
DEBUG = click.option("--debug", is_flag=True, help="Show the traceback of an error.")


def guarded(work: Callable[..., Any], *, debug: bool, **options: Any) -> Any:
    """The result of some work; an error ends the command with one message and its status."""
    try:
        return work(**options)
    except SegkitError as error:
        _end(str(error), status=error.status, debug=debug)
    except KeyboardInterrupt:
        _end("interrupted", status=1, debug=debug)
    except OSError as error:
        _end(_of_system(error), status=1, debug=debug)
    except Exception as error:  # the last door: whatever else is wrong is said in a line
        first = str(error).strip().splitlines()
        _end(
            f"{type(error).__name__}: {first[0] if first else 'no message'} (--debug shows where)",
            status=1,
            debug=debug,
        )


def _of_system(error: OSError) -> str:
    """What the system refused, and what was left as it was."""
    if FULL in str(error):  # copying a folder lists what happened to each file
        return "the disk is full. What was there before stands as it was: free space, and run it again"
    first = (str(error).strip().splitlines() or ["no message"])[0]
    return f"{type(error).__name__}: {first} (--debug shows where)"


def _end(message: str, *, status: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    click.echo(f"segkit: {terminal_text(message)}", err=True)
    sys.exit(status)


def terminal_text(text: str, *, most: int = MOST_SAID) -> str:
    """A text for a terminal: what a name in the data may hold to steer it is shown as a mark, and no name goes on."""
    clean = "".join(c if c in "\n\t" or unicodedata.category(c)[0] != "C" else "\ufffd" for c in text)
    return clean if len(clean) <= most else clean[:most] + " ..."


def literal(text: str) -> Any:
    """A value as a notebook's parameters cell would have it: whole number, fraction, True, False, else text."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, bool | int | float) else text
