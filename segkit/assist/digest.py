"""The digest of a run: what changed, three things to do, whether the data is broken; for mail, chat and machines."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from segkit import templates
from segkit.assist.answers import Fact
from segkit.assist.questions import Questions, ask, clean_text
from segkit.data.alone import is_customers_only
from segkit.data.runs import Run
from segkit.errors import InputError
from segkit.format import capitalized, clean
from segkit.refresh.decisions import LOOK
from segkit.reports.wording import day_text
from segkit.texts import ENGLISH, speaking

FILE = "digest.json"  # in the folder of a run
FORMATS = ("html", "text", "json")
MOST_CHANGES, MOST_REVENUE, MOST_TO_DO, MOST_SURE = 4, 3, 3, 2  # sentences
MOST_OF_A_MESSAGE = 600  # characters of an error
OF_A_SEGMENT = re.compile(r"(?:revenue\.)?S\d{2,}\.")  # facts that no sentence of a digest uses
EXPECTED = ("forecast.spend", "forecast.active_share")  # facts that the digest shows
DONE, BROKEN, FAILED, STOPPED = "done", "data looks broken", "failed", "stopped"


@dataclass(frozen=True)
class Digest:
    """What a run has to say in a minute; of a run that was not finished, why.

    Parameters
    ----------
    state
        done, data looks broken, failed, or stopped.
    source, as_of
        Of the run; as_of is an ISO date, or empty.
    headline, broken
        The run, and whether its data is broken, in a sentence each.
    revenue, changes, sure
        Why revenue moved, what changed, and how sure that is, in sentences.
    expected
        What customers are expected to spend and how many to come, with ranges; empty without a forecast.
    to_do
        For each thing to do ``id, title, text, command``.
    facts
        All that the sentences use.
    language
        Of its texts.
    """

    state: str
    source: str
    as_of: str
    headline: str
    broken: str
    revenue: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    expected: str = ""
    to_do: tuple[dict[str, str], ...] = ()
    sure: tuple[str, ...] = ()
    facts: tuple[Fact, ...] = ()
    language: str = ENGLISH

    @property
    def title(self) -> str:
        """The subject of a mail."""
        with speaking(self.language):
            return templates.text("digest", "title", state=self.state, source=self.source, day=day_text(self.as_of))

    def as_html(self, *, link: str = "") -> str:
        """Render it as a mail: tables and inline styles, which mail programs show. `link`: address of the report."""
        with speaking(self.language):
            return str(templates.html("digest", "mail", digest=self, link=link)) + "\n"

    def as_text(self, *, link: str = "") -> str:
        """Write it as plain text for chat. `link`: address of the report."""
        with speaking(self.language):
            lines = templates.html("digest", "chat", digest=self, link=link).unescape().splitlines()
        return "\n".join(line.strip() for line in lines if line.strip()).replace("¶", "").strip() + "\n"

    def as_json(self) -> str:
        """Write it for machines."""
        return json.dumps(asdict(self) | {"title": self.title}, ensure_ascii=False, indent=1, sort_keys=True) + "\n"

    def render(self, format: str, *, link: str = "") -> str:
        """Render it in one of the formats html, text and json."""
        return self.as_json() if format == "json" else getattr(self, f"as_{format}")(link=link)


def make_digest(asked: Questions) -> Digest:
    """Make the digest of a run from the answers to its questions.

    Examples
    --------
    >>> made = make_digest(segkit.load_run(segkit.example_run()).ask)
    >>> made.state, made.title
    ('done', 'Synth retail: customer segments as of 1 March 2025')
    """
    run, language = asked.run, asked.language or asked.run.language
    made, segments, moved = run.parameters(), asked.list_segments(), asked.why_revenue_moved()
    changed, sure, first = asked.what_changed(), asked.how_sure(), asked.opportunities(most=MOST_TO_DO)
    with speaking(language):
        is_broken, broken = _broken(run)
    expected = asked.forecast().facts if run.has("predicted_segments") else ()
    expected = [fact for fact in expected if fact.name in EXPECTED]
    to_do = []
    for sentence in first.sentences if first.facts else ():
        name = sentence.partition(":")[0]
        texts = {one: fact.text for fact in first.facts for one in ("title", "command") if fact.name == f"{name}.{one}"}
        text = sentence.removeprefix(f"{name}: {texts.get('title', '')}, ")
        to_do.append({"id": name, "title": texts.get("title", ""), "text": text, "command": texts.get("command", "")})
    return Digest(
        state=BROKEN if is_broken else DONE,
        source=made["source_name"],
        as_of=made["as_of"],
        headline=segments.sentences[0],
        broken=broken,
        revenue=moved.sentences[:MOST_REVENUE] if moved.facts else (),
        changes=changed.sentences[:MOST_CHANGES],
        expected=" ".join(f"{capitalized(fact.label)}: {fact.text}." for fact in expected),
        to_do=tuple(to_do),
        sure=tuple(line for line in sure.sentences[:MOST_SURE] if line),
        facts=tuple(
            fact
            for answer in (segments, moved, changed, first, sure)
            for fact in answer.facts
            if not OF_A_SEGMENT.match(fact.name)
        )
        + tuple(expected),
        language=language,
    )


def _broken(run: Run) -> tuple[bool, str]:
    """Say whether the data looks broken, and why."""
    checks = run.table("checks") if run.has("checks") else None
    if checks is None or checks.empty:
        return False, templates.text("digest", "untested")
    failed = [clean_text(words) for words in checks.loc[checks["broken"].astype(bool), "words"]]
    log = run.table("decisions") if run.has("decisions") else None
    looks = log is not None and ((log["as_of"] == run.parameters()["as_of"]) & (log["decision"] == LOOK)).any()
    return bool(failed) or bool(looks), templates.text("digest", "tested", tests=len(checks), failed=failed)


def make_alert(*, source: str, as_of: str, message: str, stopped: bool, language: str = ENGLISH) -> Digest:
    """Make the digest of a run that failed or was stopped: what happened, and that the last report stays."""
    state = STOPPED if stopped else FAILED
    with speaking(language):
        headline = templates.text("digest", "not_done", state=state)
    return Digest(
        state=state,
        source=clean(source),
        as_of=as_of,
        headline=headline,
        broken=clean_text(message)[:MOST_OF_A_MESSAGE],
        language=language,
    )


def read_digest(run_dir: str | Path, *, format: str, link: str = "", language: str = "") -> str:
    """Render the digest of a finished run.

    `language`: empty is that of the run.

    Raises
    ------
    InputError
        The format, the link or the language is none.
    RunError
        The folder is no finished run with segments.
    """
    if format not in FORMATS:
        raise InputError(f"--format {format}: give {', '.join(FORMATS[:-1])} or {FORMATS[-1]}.")
    if link and not link.startswith(("https://", "http://")):
        raise InputError(f"--link {link[:80]}: give the address of the report, which starts with https://.")
    return make_digest(ask(run_dir, language=language)).render(format, link=link)


def write_digest(run: Run) -> None:
    """Write ``digest.json`` into a run that is being built, once it has segments of what customers do."""
    if run.has("segments") and not is_customers_only(run):
        run.write_text(make_digest(Questions(run)).as_json(), FILE)


def write_digest_in(path: str) -> None:
    """Write the digest of a run into its folder, whatever language is spoken."""
    with speaking(ENGLISH):
        write_digest(Run(Path(path)))


def chat_payload(digest: Digest) -> dict[str, Any]:
    """Return what a webhook gets: ``text``, which chat programs show, and the digest itself, which machines read."""
    return {"text": digest.as_text().strip(), "digest": json.loads(digest.as_json())}
