"""Runs on a table of customers alone, and what cannot be done with them."""

from segkit.data.runs import Run
from segkit.errors import RunError

CUSTOMERS_ONLY = "customers_only"  # a parameter of such a run


def is_customers_only(run: Run) -> bool:
    """Return whether a run was made from a table of customers alone."""
    return bool(run.record()["parameters"].get(CUSTOMERS_ONLY))


def refuse_customers_only(run: Run, *, what: str) -> None:
    """Stop work that needs events.

    Parameters
    ----------
    what
        The work, as it begins a sentence: "a pilot".

    Raises
    ------
    RunError
        The run was made from a table of customers alone.
    """
    if is_customers_only(run):
        raise RunError(
            f"{run.path.name}: this run was made from a table of customers alone, and {what} needs events (orders, "
            "visits, payments). Add events to the source and make the run again; segkit export --to csv works without."
        )
