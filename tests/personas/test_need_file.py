"""The file in which an analyst names needs."""

from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

from segkit.cli import main
from segkit.data.runs import Run, open_run
from segkit.errors import InputError, SourceError
from segkit.personas.need_file import give_names, read_need_names, write_need_names

NEEDS = {"N01": "Fuel", "N02": "Baby care", "N05": "Tea: hot, and <b>cold</b>"}


def run_with_needs(folder: Path) -> Run:
    run = open_run(folder / "2025-01-01", step="01_profile")
    shares = {f"{name}{end}": 0.3 for name in ("share", "main") for end in ("", "_low", "_high")}
    needs = pd.DataFrame({"need": list(NEEDS), "name": list(NEEDS.values()), "named_by": "lexicon", "job": ""})
    counts = {"things": 2, "spend_share": 0.3, "buyers": 50, "stability": 0.8, "sensitive": False}
    run.write(needs.assign(**counts, **shares), "needs")
    things = [(f"thing {need} {i}", need, 0.5, 0.0, 0.0) for need in NEEDS for i in range(2)]
    listed = pd.DataFrame(things, columns=["thing", "need", "weight", "x", "y"])
    run.write(listed.assign(sensitive=False, never_offer=False), "need_things")
    return run


def test_guesses_are_comments_and_names_that_were_given_stay(tmp_path: Path) -> None:
    run = run_with_needs(tmp_path)
    file = write_need_names(run)
    assert file == tmp_path / "needs.yaml" and read_need_names(file) == {}
    text = file.read_text(encoding="utf-8")
    assert "  # N02: Baby care" in text and "# thing n01 0, thing n01 1" in text
    assert '  # N05: "Tea: hot, and <b>cold</b>"' in text
    file.write_text(text.replace("  # N02: Baby care", '  N02: "Für die \\"Kleinen\\""\n  N09: Gone'), encoding="utf-8")
    given = {"N02": 'Für die "Kleinen"', "N09": "Gone"}
    assert read_need_names(file) == given
    write_need_names(run)
    assert read_need_names(file) == given, "also the name of a need that is gone"


def test_given_names_replace_guesses_and_those_of_needs_that_are_gone_are_ignored() -> None:
    named = pd.DataFrame(
        {"name": list(NEEDS.values()), "named_by": "lexicon"}, index=pd.Index(list(NEEDS), name="need")
    )
    found = give_names(named, {"N01": "Petrol", "N77": "Gone"})
    assert found["name"].tolist() == ["Petrol", *named["name"][1:]]
    assert found["named_by"].tolist() == ["analyst", "lexicon", "lexicon"]
    with pytest.raises(InputError, match="N01, N02 would all be called 'baby care'"):
        give_names(named, {"N01": "baby care"})


def test_a_file_that_is_none_is_refused_in_one_message(tmp_path: Path) -> None:
    file = tmp_path / "needs.yaml"
    file.write_text("names: [fuel]\nlabels: {}\n", encoding="utf-8")
    with pytest.raises(SourceError, match=r"needs\.yaml"):
        read_need_names(file)


def test_the_command_writes_the_file_and_prints_its_path(tmp_path: Path) -> None:
    run = run_with_needs(tmp_path)
    answer = CliRunner().invoke(main, ["needs", str(run.path), "--names", str(tmp_path / "mine.yaml")])
    assert answer.exit_code == 0 and answer.output.splitlines()[-1] == str(tmp_path / "mine.yaml"), answer.output
    bare = open_run(tmp_path / "2025-02-01", step="01_profile")
    refused = CliRunner().invoke(main, ["needs", str(bare.path)])
    assert refused.exit_code == 2 and "no needs" in refused.output
