"""The source of a run, read as the run reads it: without the forgotten, and with the ids that its tables show."""

from dataclasses import replace

import pandas as pd

from segkit.data.sources import connect, open_source, read_events
from segkit.data.spec import Source
from segkit.data.store import Run
from segkit.data.veil import Veil, veil_at
from segkit.errors import RunError


def source_of(run: Run, *, source: str = "", data_dir: str = "", source_ids: bool = False) -> Source:
    """Open the source that a run was made from.

    Parameters
    ----------
    source, data_dir : where the source is now; by default as the run was made
    as_they_are : ids as the source has them, also where the run shows them as hashes

    Raises
    ------
    SourceError : the source is not there, or cannot be understood
    RunError : the key of the forgotten or of the pseudonyms is not there
    """
    parameters = run.parameters()
    opened = open_source(source or parameters["source"], data_dir=(data_dir or parameters.get("data_dir")) or None)
    privacy = veil_of(run)
    return opened.model_copy(update={"veil": replace(privacy, key="") if source_ids else privacy})


def veil_of(run: Run) -> Veil:
    """Who is left out of a run, and how it shows ids.

    Raises
    ------
    RunError : the key of the forgotten or of the pseudonyms is not there
    """
    return veil_at(run.path.resolve().parent, pseudonyms=run.parameters().get("pseudonyms", ""))


def real_ids(run: Run, source: Source) -> pd.Series:
    """The id in the source of each id in the tables of a run whose ids are hashes.

    Takes  the run; its source, ids as they are
    Gives  id of the source, by id of the run
    """
    privacy, con = veil_of(run), connect()
    ids = read_events(source, con=con).select("customer_id").distinct().to_pandas()["customer_id"]
    return pd.Series(ids.to_numpy(), index=[privacy.displayed_id(one) for one in ids], dtype=object)


def refuse_pseudonyms(run: Run, *, what: str) -> None:
    """Stop what needs the ids that customers have in the source.

    Raises
    ------
    RunError : the ids in the tables of the run are hashes
    """
    if run.parameters().get("pseudonyms"):
        raise RunError(
            f"{run.path.name}: its ids are hashes (--pseudonymise), and {what}. Make a run without --pseudonymise in "
            "another --out for it."
        )
