"""Find files: where a relative path starts."""

from pathlib import Path

HOME = Path(__file__).resolve().parents[2]  # the repository: segkit is installed in place


def find_path(path: str | Path) -> Path:
    """Find where a relative path starts, in a notebook and on the command line: one rule.

    It starts at the current folder if something is there; else at the repository if something is there. What does not
    exist yet starts at the repository where the current folder lies in it, else at the current folder.
    """
    here, there = Path.cwd() / path, HOME / path
    if here.exists() or not (there.exists() or Path.cwd().is_relative_to(HOME)):
        return here
    return there
