"""What must stay: every file of a folder, and what it holds."""

import hashlib
from pathlib import Path


def hashes(folder: Path) -> dict[str, str]:
    """Every file below a folder, and what it holds."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def results(folder: Path) -> dict[str, str]:
    """The files of a run that must repeat: tables, headline numbers, model and pages."""
    deterministic = ("tables/", "model/", "summary.json")
    return {
        name: found
        for name, found in hashes(folder).items()
        if name.startswith(deterministic) or name.endswith(".html")
    }
