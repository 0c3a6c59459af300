"""Copy: subject line, push message, short ad and product line for each segment; by template, or by a model whose text
passes the same check, else the template stands and the table says why.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib import resources

import jinja2
import pandas as pd
import yaml

from segkit.actions.copy_check import LABELS, NAMES, refusal
from segkit.actions.facts import Fact, with_forms
from segkit.errors import InputError, SegkitError

GIVES_UP_AFTER = 2  # failures to answer, one after another; the rest is not asked
COLUMNS = ["segment", "slot", "tone", "text", "writer", "why", "forms"]
PLAIN = ("slot", "tone", "writer", "why")  # columns without a form

Writer = Callable[[Mapping[str, object]], Mapping[str, object]]


class WriterError(SegkitError):
    """A writer did not answer, or answered with no text: the template stands."""


def write_copy(
    activity_levels: Mapping[str, str],
    facts: Sequence[Fact],
    *,
    tone: str = "plain",
    writer: Writer | None = None,
    names: Iterable[str] = (),
) -> pd.DataFrame:
    """The texts of each segment that has a need to speak of.

    Takes  looks: segment -> how it comes, of the segments that have a story; facts of all segments
    Gives  segment, slot, tone, text, writer ("template" or "model"), why (why the template stands where a model was
           asked), forms: what `facts.verify` derives the texts again from

    Parameters
    ----------
    tone : plain, warm or brief
    writer : asked for each segment; None for the templates
    names : names from the data that a text may say by placeholder only

    Raises
    ------
    InputError : there is no such tone
    """
    if tone not in templates():
        raise InputError(f"tone is {tone!r}: there are {', '.join(templates())}. Give one of them.")
    names, failures, rows, plain = tuple(names), 0, [], []
    for segment, activity_level in activity_levels.items():
        forms = template_forms(activity_level, tone=tone, facts=facts, segment=segment)
        if not forms:
            continue
        answers, why = {}, ""
        if writer is not None and failures < GIVES_UP_AFTER:
            answers, why = _asked(writer, brief_of(segment, activity_level, tone=tone, facts=facts))
            failures = failures + 1 if why else 0
        elif writer is not None:
            why = "the model did not answer for other segments, and was not asked again"
        for slot, form in forms.items():
            reason = why or (refusal(answers.get(slot), slot=slot, facts=facts, segment=segment, names=names))
            taken = writer is not None and not reason
            rows.append({"segment": segment, "text": answers[slot] if taken else form})
            plain.append((slot, tone, "model" if taken else "template", reason if writer is not None else ""))
    if not rows:
        return pd.DataFrame(columns=COLUMNS)
    return with_forms(rows, facts).assign(**dict(zip(PLAIN, zip(*plain, strict=True), strict=True)))[COLUMNS]


def template_forms(activity_level: str, *, tone: str, facts: Sequence[Fact], segment: str) -> dict[str, str]:
    """The texts of the templates, with placeholders; none where the segment has no need to speak of.

    Raises
    ------
    WriterError : a template does not pass the check that all texts pass
    """
    have = {f.name: f"{{{f.name}}}" for f in facts if f.segment == segment and f.name in NAMES}
    if "need_1" not in have:
        return {}
    found = {}
    for slot, ways in templates()[tone].items():
        form = _jinja().from_string(ways[activity_level]).render(have)
        why = refusal(form, slot=slot, facts=facts, segment=segment)
        if "longer" in why:  # long names: the same without what may be left out
            form = (
                _jinja()
                .from_string(ways[activity_level])
                .render({n: v for n, v in have.items() if n.startswith("need_1")})
            )
            why = refusal(form, slot=slot, facts=facts, segment=segment)
        if why and "longer" not in why:
            raise WriterError(
                f"copy.yaml: the {slot} for {activity_level} customers may not be used: {why}. Mend the template."
            )
        if not why:
            found[slot] = form
    return found


def brief_of(segment: str, activity_level: str, *, tone: str, facts: Sequence[Fact]) -> dict[str, object]:
    """All that a writer gets to see of a segment: facts, no customer; names cut down to plain words."""
    own = {f.name: f for f in facts if f.segment == segment and f.name in NAMES}
    placeholders = {name: "".join(s for s in f.text if s.isalpha() or s in " &'-")[:40] for name, f in own.items()}
    return {
        "segment": segment,
        "how they come": activity_level,
        "tone": tone,
        "placeholders": placeholders,
        "slots": dict(LABELS),
    }


@cache
def templates() -> dict[str, dict[str, dict[str, str]]]:
    """Tone -> slot -> look -> Jinja2 template, from the file beside this one."""
    return yaml.safe_load(resources.files("segkit.actions").joinpath("copy.yaml").read_text(encoding="utf-8"))


def _asked(writer: Writer, brief: Mapping[str, object]) -> tuple[dict[str, object], str]:
    """The writer's texts, or why there are none."""
    try:
        return dict(writer(brief)), ""
    except WriterError as error:
        return {}, str(error)


@cache
def _jinja() -> jinja2.Environment:
    return jinja2.Environment(autoescape=False)  # noqa: S701 - the result is plain text, escaped where it is shown
