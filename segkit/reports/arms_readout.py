"""Read out an experiment made anywhere, from its table to a folder with the page, the figures and the effects."""

import io
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import pandas as pd

from segkit.data.io import read_json, write_bytes, write_json
from segkit.data.runs import load_run, publish_run, stage_run
from segkit.errors import InputError
from segkit.experiments.arms import read_experiment
from segkit.experiments.effects import Effects, measure_effects
from segkit.experiments.estimate import price_of
from segkit.experiments.pilot import to_rounded_json
from segkit.reports.arms import FLAG, describe_guards, effects_headline, effects_json, render_effects, with_arm_names
from segkit.templates import text
from segkit.texts import ENGLISH, check_language, speaking

MARKER, FIGURES = "effects.parquet", "readout.json"
EFFECT_COLUMNS = [
    *("arm", "kpi", "segment", "customers", "control_customers", "mean", "control_mean"),
    *("lift", "lift_low", "lift_high", "relative", "verdict"),
]


def run_arms_readout(
    table: str,
    *,
    arm: str = "",
    control: str = "",
    kpis: Sequence[str] = (),
    guards: Sequence[str] = (),
    before: Sequence[str] = (),
    segment_by: str = "",
    household: str = "",
    split: Mapping[str, float] | None = None,
    look: int | None = None,
    contact_cost: float | None = None,
    margin: float | None = None,
    currency: str = "",
    language: str = ENGLISH,
    out: str | None = None,
    seed: int = 7,
) -> tuple[Path, list[str]]:
    """Read out a table with arms, and write readout.html, readout.json and effects.parquet.

    Parameters
    ----------
    table
        A file with one row a customer, or the YAML of a source with a table of customers; see
        `segkit.experiments.arms.read_experiment` for the columns.
    segment_by
        A column of the table, or the folder of a run whose segments its customers have.
    split
        Share of customers that each arm was to get; empty takes the nearest plain split.
    look
        Customers that the experiment will have, while it still runs; None where it is over.
    contact_cost, margin
        Of a contact, and of a unit of money; without them no arm is scaled.
    currency
        Of amounts, such as EUR.
    out
        Folder to write to; None is ``readout/`` in the folder of the table.

    Returns
    -------
    tuple
        Path of the page, and its main sentences.

    Raises
    ------
    InputError
        The table or an option cannot be used; nothing was written.
    RunError
        The folder holds something else.
    """
    check_language(language)
    price = price_of(contact_cost, margin, kpi="spend")
    if look is not None and look < 1:
        raise InputError(f"--look {look}: give the number of customers that the test will have.")
    segments, names = _segments_of(segment_by)
    experiment = read_experiment(
        table, arm=arm, control=control, kpis=kpis, guards=guards, before=before, segments=segments,
        household=household,
    )  # fmt: skip
    if isinstance(segments, str):
        names = {value: f"{segments} {value}" for value in set(experiment.segment) if FLAG.fullmatch(value)}
    if look is not None and look < len(experiment.arm):
        raise InputError(f"--look {look}: the table has {len(experiment.arm):,} customers already. Leave --look out.")
    effects = measure_effects(experiment, price=price, planned=look, split=dict(split or {}), seed=seed)
    target = Path(out) if out else Path(table).parent / "readout"
    _refuse_other(target, table=Path(table))
    fingerprint = sha256(Path(table).read_bytes()).hexdigest()
    with speaking(language):
        shown = with_arm_names(effects)
        page = render_effects(shown, names=names, price=price, currency=currency, planned=look)
        sentences = [effects_headline(shown, currency=currency)]
        failed = [check for check in shown.checks if not check.passed]
        sentences += [text("arms", "check", one=check) for check in failed]
        sentences += [words for _, words in describe_guards(shown, currency=currency)]
    content = effects_json(effects, price=price, currency=currency, planned=look, fingerprint=fingerprint)
    with stage_run(target, marker=MARKER) as building:
        write_json(building / FIGURES, to_rounded_json(content))
        write_bytes(building / "readout.html", page.encode("utf-8"))
        write_bytes(building / MARKER, _parquet(effects))
        publish_run(building, target)
    return target / "readout.html", sentences


def _segments_of(segment_by: str) -> tuple[str | pd.Series | None, dict[str, str]]:
    """Read the segments of a run by customer id, with their names; the name of a column stays as it is."""
    folder = Path(segment_by) if segment_by else None
    if folder is None or not folder.is_dir():
        return segment_by or None, {}
    run = load_run(folder)
    assigned = run.table("assignments").set_index("customer_id")["segment"].astype(str)
    assigned.index = assigned.index.astype(str)
    return assigned, run.table("segments").set_index("segment")["name"].to_dict()


def _refuse_other(target: Path, *, table: Path) -> None:
    """Refuse a folder that holds the read-out of a pilot or of another table."""
    if not (target / FIGURES).is_file():
        return
    read = read_json(target / FIGURES).get("table")
    if read != table.name:
        whose = f"of {read}" if read else "of a pilot"
        raise InputError(f"{target}: it holds the read-out {whose}. Give another --out.")


def _parquet(effects: Effects) -> bytes:
    buffer = io.BytesIO()
    effects.table[EFFECT_COLUMNS].to_parquet(buffer, index=False, compression="zstd")
    return buffer.getvalue()
