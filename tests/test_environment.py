"""environment.yml for conda and pyproject.toml for pip ask for the same; every pin of constraints.txt fits them."""

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HOME = Path(__file__).parents[1]
CONDA_NAMES = {"python-duckdb": "duckdb", "ibis-duckdb": "ibis-framework", "matplotlib-base": "matplotlib"}


def _project() -> dict[str, Any]:
    return tomllib.loads((HOME / "pyproject.toml").read_text())["project"]


def _asked(lines: list[str]) -> dict[str, str]:
    parsed = [Requirement(line) for line in lines]
    return {canonicalize_name(CONDA_NAMES.get(one.name, one.name)): str(one.specifier) for one in parsed}


def test_conda_and_pip_ask_for_the_same() -> None:
    dependencies = yaml.safe_load((HOME / "environment.yml").read_text())["dependencies"]
    conda = [line for line in dependencies if isinstance(line, str)]
    pip = next(line["pip"] for line in dependencies if isinstance(line, dict))
    assert pip[-1] == "-e ."
    asked = _asked(conda) | _asked(pip[:-1])
    assert asked.pop("python") == str(Requirement(f"python{_project()['requires-python']}").specifier)
    assert asked.pop("pip") == ""
    assert asked == _asked(_project()["dependencies"])


def test_constraints_hold_no_address_and_fit_what_is_asked() -> None:
    text = (HOME / "constraints.txt").read_text()
    assert "://" not in text and "--" not in text
    environment = {**default_environment(), "python_version": "3.11", "python_full_version": "3.11.9"}
    pins: dict[str, str] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            one = Requirement(line)
            if one.marker is None or one.marker.evaluate(environment):
                pins[one.name] = str(one.specifier).removeprefix("==")
    for line in _project()["dependencies"]:
        one = Requirement(line)
        assert one.specifier.contains(pins[one.name]), line


def test_version_is_said_once() -> None:
    said = re.search(r'__version__ = "(.+)"', (HOME / "segkit" / "__init__.py").read_text())
    assert said and said[1] == _project()["version"]
