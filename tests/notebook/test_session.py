"""In JupyterLab: tables of the contract show themselves, others as ever, and a circle is told beside everyone."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from IPython.core.formatters import DisplayFormatter

from segkit.data.paths import HOME
from segkit.data.runs import open_run
from segkit.errors import InputError
from segkit.notebook import session
from segkit.notebook.example import example_run, example_source
from segkit.notebook.run_list import list_runs
from segkit.notebook.runs import Run

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
TOKEN = "loopback"
START_SECONDS, RUN_SECONDS = 90, 150  # that a server may take to start, and a notebook to run
PATIENCE = 15  # seconds before it is asked to run again


def test_tables_of_the_contract_show_themselves(segments: pd.DataFrame) -> None:
    assert "sk-sort" in session.table_repr(segments)
    personas = segments[["segment", "name", "need_name"]].assign(size="They come early.")
    assert "<article" in session.table_repr(personas)
    score = {f"{m}_{part}": 0.5 for m in ("spend", "need", "mix", "active") for part in ("r2", "low", "high")}
    baselines = pd.DataFrame([{"baseline": "kmeans", "label": "KMeans <b>", "segments": 5, "verdict": "", **score}])
    assert "KMeans &lt;b&gt;" in session.table_repr(baselines) and ">0.50</td>" in session.table_repr(baselines)


def test_any_other_table_shows_as_pandas_would(segments: pd.DataFrame) -> None:
    for table in (pd.DataFrame({"a": [1]}), segments[["segment", "name"]], segments.head(0)):
        assert session.table_repr(table) == table._repr_html_()
    broken = segments.assign(revenue_share="much")
    assert session.table_repr(broken) == broken._repr_html_()


def test_registering_makes_the_kernel_show_them(segments: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    session.register()  # no kernel: nothing to do
    formatter = DisplayFormatter()
    formatter.active_types = formatter.format_types
    monkeypatch.setattr(session, "get_ipython", lambda: SimpleNamespace(display_formatter=formatter))
    session.register()
    shown, _ = formatter.format(segments)
    assert "sk-sort" in shown["text/html"] and "S13" in shown["text/plain"]


def test_run_shows_its_tables_by_their_maker(tmp_path: Path) -> None:
    run = open_run(tmp_path / "run", step="01_profile", source_name="shop", as_of="2024-01-01")
    run.write(pd.DataFrame({"value": [1]}), name="numbers")
    shown = Run(run.path)._repr_html_()
    assert "shop, as of 2024-01-01" in shown and "numbers" in shown


def test_a_lab_run_keeps_the_segments_of_the_run_it_is_given(tmp_path: Path) -> None:
    given = {"source": str(example_source()), "run_dir": str(tmp_path / "lab")}
    with pytest.raises(InputError, match="keep_segments: no run is given"):
        session.start("01_profile", {**given, "keep_segments": True})
    kept = {**given, "keep_segments": True, "previous": str(example_run())}
    assert session.start("01_profile", kept).kept == str(example_run())
    run = session.start("01_profile", {**given, "keep_segments": False, "previous": str(example_run())})
    assert run.kept == "", "its ids are continued, nothing is kept"


def test_circle_is_reported_next_to_everyone(segments: pd.DataFrame, assignments: pd.DataFrame) -> None:
    features = pd.DataFrame({"spend": np.arange(12.0), "needs: tea": [0.5] * 6 + [0.0] * 6})
    features.index = pd.Index(assignments["customer_id"])
    names = segments.set_index("segment")["name"]
    texts = session.circle_html(assignments.head(6), features=features, names=names)
    assert "6 customers: Fresh &amp; early 100%" in texts
    assert "spend so far, each" in texts and "buy: tea" in texts and "50%" in texts and "25%" in texts
    assert "draw around customers" in session.circle_html(assignments.head(0), features=features, names=names)


def test_where_there_is_no_finished_run_a_made_up_one_stands_in(tmp_path: Path) -> None:
    found = list_runs(reports=tmp_path)
    assert "no finished run yet" in found._repr_html_() and "segkit-example" in found.latest


@pytest.mark.slow
@pytest.mark.skipif(
    CHROMIUM is None and os.environ.get("CI") != "true", reason="no Chromium here: apt-get install chromium"
)
def test_notebook_runs_in_a_real_jupyterlab(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "CI needs a Chromium: apt-get install chromium"
    for name in ("start.ipynb", "README.md"):
        shutil.copy(HOME / "notebooks" / name, tmp_path)
    server = _Server(tmp_path)
    try:
        server.wait()
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
            page = browser.new_page(viewport={"width": 1400, "height": 1000})
            page.goto(f"{server.address}/lab/tree/start.ipynb?token={TOKEN}&reset")
            page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=1000 * START_SECONDS)
            _run_all(page)
            assert page.locator(".jp-OutputArea-output[data-mime-type*=error]").count() == 0
            assert page.locator("h1", has_text="Start here").count() == 1
            browser.close()
    finally:
        server.stop()


def _run_all(page: Any) -> None:
    """Run a notebook until it answers: what is asked before its kernel is there, JupyterLab forgets."""
    from playwright.sync_api import TimeoutError as NothingYet

    answer = page.locator(".jp-OutputArea .sk-table:visible, .jp-OutputArea .sk-note:visible").first
    asked = page.locator(".jp-Dialog .jp-mod-accept")  # which kernel to start
    for _ in range(RUN_SECONDS // PATIENCE):
        try:
            if asked.count():
                asked.first.click(timeout=1000 * PATIENCE)
                asked.first.wait_for(state="detached", timeout=1000 * PATIENCE)
            page.get_by_role("menuitem", name="Run", exact=True).click()
            page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
            answer.wait_for(timeout=1000 * PATIENCE)
            return
        except NothingYet:
            continue
    raise AssertionError("the notebook did not answer")


class _Server:
    """A JupyterLab on loopback that reads and writes nothing of this user's."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{port}"
        own = {f"JUPYTER_{name}": str(folder / name.lower()) for name in ("CONFIG_DIR", "DATA_DIR", "RUNTIME_DIR")}
        paths = {"PYTHONPATH": str(HOME), "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings")}
        options = [f"--ServerApp.port={port}", f"--ServerApp.root_dir={folder}", f"--IdentityProvider.token={TOKEN}"]
        more = ["--ServerApp.allow_root=True", "--no-browser", "--LabApp.news_url=", "--ServerApp.ip=127.0.0.1"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "jupyter", "lab", *options, *more],
            env={**os.environ, **own, **paths},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def wait(self) -> None:
        """Until it answers."""
        for _ in range(2 * START_SECONDS):
            if self._answers():
                return
            time.sleep(0.5)
        raise AssertionError("JupyterLab did not start")

    def _answers(self) -> Any:
        try:
            with urllib.request.urlopen(f"{self.address}/api/status?token={TOKEN}", timeout=5) as answer:
                return "started" in json.load(answer)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def stop(self) -> None:
        """And the kernels with it."""
        self.process.terminate()
        self.process.wait(timeout=30)
