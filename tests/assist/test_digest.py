"""The digest: right figures, small, sent only where asked, and never a reason for a run to fail."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from segkit.assist.delivery import DeliveryError, check_target, deliver
from segkit.assist.digest import make_alert, make_digest
from segkit.assist.questions import ask
from segkit.cli import main
from segkit.data import webhook as webhooks
from segkit.errors import InputError
from segkit.notebook import delivering
from segkit.notebook.delivering import run_with_digest
from segkit.personas.facts import NUMBER_WORDS
from tests.test_texts import ENGLISH_WORDS

MOST_BYTES = 100_000


def test_a_digest_holds_facts_only_and_stays_small(whole_run: Path, tmp_path: Path) -> None:
    asked = ask(whole_run)
    made = make_digest(asked)
    assert (whole_run / "digest.json").read_text(encoding="utf-8") == made.as_json()
    text = NUMBER_WORDS.sub(lambda word: word[0] if word[0] == "%" else "some", made.as_text())
    lines = [line for line in text.splitlines() if "segkit pilot" not in line and not line.startswith("*")]
    wrong = [
        one
        for one in asked.check_text("\n".join(line.lstrip("123. ") for line in lines)).checked
        if one.verdict != "fact"
    ]
    assert not [one for one in wrong if "tests" not in one.sentence]
    for form in ("html", "text", "json"):
        answer = CliRunner().invoke(
            main, ["digest", str(whole_run), "--format", form, "--link", "https://bi.example/r"]
        )
        assert answer.exit_code == 0 and len(answer.stdout.encode()) < MOST_BYTES
    html = made.as_html()
    assert "<style" not in html and "<script" not in html and "<img" not in html and html.count("<table") >= 3
    assert made.revenue[0] in made.as_text() and len(made.to_do) <= 3
    for wrong_call in (["--format", "pdf"], ["--link", "javascript:alert(1)"]):
        answer = CliRunner().invoke(main, ["digest", str(whole_run), *wrong_call])
        assert answer.exit_code == 2 and answer.stderr.count("\n") == 1
    assert CliRunner().invoke(main, ["digest", str(tmp_path)]).exit_code != 0


def test_a_webhook_is_tried_again_and_secrets_stay_secret(webhook: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhooks, "WAIT_SECONDS", (0, 0))
    monkeypatch.setenv("HOOK_SECRET", "sesame")
    alert = make_alert(source="shop", as_of="2024-01-01", message="no file", stopped=False)
    target = f"http://127.0.0.1:{webhook.server_port}/hooks/$HOOK_SECRET"
    webhook.statuses = [500, 503, 204]
    assert deliver(alert, target) == "127.0.0.1" and len(webhook.got) == 3
    path, body = webhook.got[-1]
    assert path == "/hooks/sesame" and body["text"].startswith("*Shop: the run has failed (as of 1 January 2024)*")
    assert body["digest"]["state"] == "failed" and body["digest"]["broken"] == "no file"
    webhook.statuses = [204]
    assert deliver(alert, f"{target}/größe 1?to=%41&x=ß") == "127.0.0.1"
    assert webhook.got.pop()[0] == "/hooks/sesame/gr%C3%B6%C3%9Fe%201?to=%41&x=%C3%9F"
    webhook.statuses = [302]
    with pytest.raises(DeliveryError, match="it answered 302, which leads to another address") as failed:
        deliver(alert, target)
    assert "sesame" not in str(failed.value) and len(webhook.got) == 4, "a redirect is not followed, nor tried again"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("http://example.com/hook", "without encryption"),
        ("https://hooks.example/$NOT_SET_ANYWHERE", "NOT_SET_ANYWHERE is not set"),
        ("ftp://example.com/x", "no address of a webhook"),
        ("https://[::1", "no address of a webhook"),
        ("https://hooks..example/x", "no address of a webhook"),
        ("digest.exe", "give a file that ends in"),
        ("no/such/folder/d.html", "there is no folder"),
    ],
)
def test_a_target_that_cannot_be_used_is_refused_before_the_run(target: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_target(target)
    answer = CliRunner().invoke(main, ["run", "--source", "nowhere.yaml", "--digest", target])
    assert answer.exit_code == 2 and "--digest" in answer.stderr


def test_a_run_delivers_its_digest_and_an_alert_where_it_fails(
    whole_run: Path, webhook: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(webhooks, "WAIT_SECONDS", (0, 0))
    monkeypatch.setattr(delivering.chain, "run_chain", lambda **_: whole_run / "index.html")
    hook = f"http://127.0.0.1:{webhook.server_port}/x"
    webhook.statuses = [500, 500, 500]
    assert run_with_digest(digest=hook, source="x") == whole_run / "index.html"
    assert "(it answered 500). The run is complete." in capsys.readouterr().err
    run_with_digest(digest=str(tmp_path / "d.html"), source="x")
    assert (tmp_path / "d.html").read_text(encoding="utf-8") == make_digest(ask(whole_run)).as_html()

    def fail(**_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(delivering.chain, "run_chain", fail)
    with pytest.raises(KeyboardInterrupt):
        run_with_digest(digest=str(tmp_path / "d.txt"), source="shop.yaml", as_of="2024-01-01")
    assert (
        (tmp_path / "d.txt")
        .read_text(encoding="utf-8")
        .startswith("*Shop: the run was stopped (as of 1 January 2024)*")
    )
    monkeypatch.setattr(webhooks, "_post", lambda *_, **__: "ü".encode("ascii"))
    with pytest.raises(KeyboardInterrupt):
        run_with_digest(digest=hook, source="shop.yaml", as_of="2024-01-01")
    assert "127.0.0.1 (UnicodeEncodeError). The run had failed already." in capsys.readouterr().err
    monkeypatch.undo()
    answer = CliRunner().invoke(
        main, ["run", "--source", str(tmp_path / "no.yaml"), "--digest", str(tmp_path / "d.json")]
    )
    alert = json.loads((tmp_path / "d.json").read_text(encoding="utf-8"))
    assert answer.exit_code == 2 and alert["state"] == "failed" and "no.yaml" in alert["broken"]


def test_a_digest_and_answers_speak_german_and_a_german_draft_is_not_needed(whole_run: Path) -> None:
    asked = ask(whole_run, language="de")
    names = "|".join(map(re.escape, sorted(asked.names.values(), key=len, reverse=True)))
    stored = re.compile(rf"{names}|[A-Z]\d\d|segkit pilot.*", re.IGNORECASE)  # in the language of the run
    answers = (asked.list_segments(), asked.what_changed(), asked.how_sure(), asked.forecast(), asked.list_needs())
    texts = [*(line for answer in answers for line in answer.sentences), *asked.why_revenue_moved().sentences]
    texts += [fact.label for answer in answers for fact in answer.facts]
    answer = CliRunner().invoke(main, ["digest", str(whole_run), "--language", "de"])
    assert answer.exit_code == 0 and answer.stdout.startswith("*Synth retail: Kundensegmente, Stand 1. März 2025*")
    texts += [line for line in answer.stdout.splitlines() if not line.startswith(("1.", "2.", "3."))]
    assert [text for text in texts if ENGLISH_WORDS.search(stored.sub("", text))] == []
    assert '<html lang="de">' in make_digest(asked).as_html() and make_digest(asked).language == "de"
    spend = ask(whole_run).forecast().fact("forecast.spend").text.partition(" ")[0]
    assert asked.check_text(f"We expect spend of {spend}.").checked[0].verdict == "fact"
    alert = make_alert(source="shop", as_of="", message="no such file", stopped=False, language="de")
    assert "Der Lauf ist fehlgeschlagen. Der letzte gute Bericht ist unverändert." in alert.as_text()
    wrong = CliRunner().invoke(main, ["digest", str(whole_run), "--language", "fr"])
    assert wrong.exit_code == 2 and "there are no texts in this language" in wrong.stderr
