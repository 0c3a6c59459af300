"""Any data ends in a report, or in one true sentence: the whole chain on small and odd sources of every kind."""

import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, given, seed, settings

from segkit.cli import main
from segkit.data.check import check_source
from segkit.errors import InputError
from tests.guarantees.any_data import Odd, odd_sources, run_here, write_odd

pytestmark = pytest.mark.filterwarnings("ignore")  # of arithmetic on nothing; what is shown counts
DAILY, SLOW = 2, int(os.environ.get("SEGKIT_EXAMPLES", "12"))  # 200 take 40 minutes
UNTRUE = re.compile(r"there is no table|Traceback|\bnan\b")  # in a sentence to a user
MOST_CHARACTERS = 500
options = {"deadline": None, "database": None, "suppress_health_check": list(HealthCheck)}


def ends_well(odd: Odd) -> None:
    """Run the whole chain on a source; it ends in a report, or is refused in a sentence."""
    with TemporaryDirectory() as folder:
        source = write_odd(odd, Path(folder) / "source")
        windows = dict(zip(("lookback_days", "horizon_days"), odd.windows, strict=True))
        carries = check_source(str(source), **windows).status == 0
        try:
            run = run_here(source, Path(folder) / "runs" / "run", **windows)
        except InputError as error:
            words = str(error)
            assert not UNTRUE.search(words) and len(words) <= MOST_CHARACTERS and "\n" not in words, words
            assert not carries, f"check lets it pass, and a run refuses it: {words}"
            return
        assert run.record()["outcome"] == "done" and (run.path / "index.html").is_file()
        for page in run.path.glob("*.html"):
            text = re.sub(
                r"<(script|style|svg)\b.*?</\1>|<[^>]+>", " ", page.read_text(encoding="utf-8"), flags=re.DOTALL
            )
            assert not re.search(r"\b(nan|None)\b", text), page.name


@seed(4)
@settings(max_examples=DAILY, phases=[Phase.generate], **options)
@given(odd_sources)
def test_a_few_odd_sources_end_in_a_report_or_a_sentence(odd: Odd) -> None:
    ends_well(odd)


@pytest.mark.slow
@seed(11)
@settings(max_examples=SLOW, **options)
@given(odd_sources)
def test_many_odd_sources_end_in_a_report_or_a_sentence(odd: Odd) -> None:
    ends_well(odd)


def test_a_refused_source_leaves_status_2_and_one_line(tmp_path: Path) -> None:
    few = Odd(
        3, 5, 400, ("amount",), "plain", "few", "one", "spread", "", "plain", once=False, windows=(182, 91), seed=1
    )
    source = write_odd(few, tmp_path / "source")
    result = CliRunner().invoke(main, ["run", "--source", str(source), "--out", str(tmp_path / "out")])
    assert result.exit_code == 2 and "2 segments of 20 need 40" in result.output
    assert not (tmp_path / "out").exists()
