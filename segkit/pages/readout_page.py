"""`segkit readout`: outcomes in, readout.json and a page out; the folder is written whole or not at all."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from segkit import __version__, templates
from segkit.actions.outcomes_in import read_outcomes
from segkit.actions.pilot_files import as_plain, find_pilot, load_pilot
from segkit.actions.readout import Readout, experiment_of, read_out, readout_json
from segkit.data.aside import build_aside, swap_in
from segkit.data.plain import write_bytes, write_json
from segkit.pages import measure_plots, pilot_story
from segkit.pages.html import figure_facts, table_facts
from segkit.pages.look import stylesheet


def run_readout(
    run_dir: str,
    outcomes: str,
    *,
    pilot: str = "",
    data_dir: str = "",
    contact_cost: float | None = None,
    margin: float | None = None,
    out: str | None = None,
) -> tuple[Path, list[str]]:
    """Read a pilot out and write readout.json and readout.html.

    Takes  run_dir: the run the pilot was drawn from, or the pilot's own folder; outcomes: a source or a table
    Gives  the path of the page, and what it says in sentences

    Parameters
    ----------
    pilot : folder of the pilot; empty finds the only one that was drawn from the run
    data_dir : folder of the source's files
    contact_cost, margin : None is what the pilot was designed with
    out : folder; None is readout/ in the pilot's

    Raises
    ------
    InputError : the outcomes, the files of the pilot, a cost or a margin cannot be used; nothing was written
    """
    place = find_pilot(run_dir, pilot=pilot)
    design = load_pilot(place)
    values, about = read_outcomes(outcomes, facts=design.facts, index=design.units.index, data_dir=data_dir)
    found = read_out(design, values, contact_cost=contact_cost, margin=margin)
    content = as_plain(readout_json(found, about=about))
    target = Path(out) if out else place / "readout"
    with build_aside(target, mark="readout.json") as building:
        write_json(building / "readout.json", content)
        write_bytes(building / "readout.html", page_of(found, content=content).encode("utf-8"))
        swap_in(building, target)
    table = experiment_of(content)
    sentences = [pilot_story.readout_headline(table), *pilot_story.what_next(table)]
    sentences.append(pilot_story.qini_said(content["qini"], unit=content["unit"]))
    return target / "readout.html", sentences + pilot_story.forgotten_said(found.facts)


def page_of(found: Readout, *, content: Mapping[str, Any]) -> str:
    """The page of a read-out, a whole HTML document: the answer, the picture, the table, what to do, whom to contact,
    limits.
    """
    table, facts, curve = found.experiment, found.facts, pd.DataFrame(content["curve"])
    page = templates.html(
        "readout",
        "page",
        words={
            "headline": pilot_story.readout_headline(table),
            "pilot": pilot_story.pilot_in_words(facts),
            "what_next": pilot_story.what_next(table),
            "order": pilot_story.qini_said(content["qini"], unit=facts["unit"]),
            "forgotten": pilot_story.forgotten_said(facts),
        },
        facts=facts,
        lifts=figure_facts(measure_plots.lifts(table, break_even=found.price.break_even)),
        experiment=table_facts(pilot_story.experiment_shown(table)),
        price=found.price,
        order=figure_facts(measure_plots.qini(curve, unit=facts["unit"])) if content["qini"] is not None else None,
        version=__version__,
        css=stylesheet("views") + stylesheet("page"),
    )
    return str(page)
