"""The house in figures: files, sizes, names at the door, notebooks, tests. Prints a table.

usage: python benchmarks/house.py
"""

import ast
import json
import re
import statistics
from pathlib import Path

import segkit

HOME = Path(__file__).parents[1]
WORDS = re.compile(r"[A-Za-z][\w'-]*")


def main() -> None:
    """Print the figures of the package, the notebooks, the documents and the tests."""
    files = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in (HOME / "segkit").rglob("*.py")}
    modules = {path: lines for path, lines in files.items() if path.name not in ("__init__.py", "__main__.py")}
    folders = {folder: sum(path.parent == folder for path in modules) for folder in {path.parent for path in modules}}
    largest, crowded = max(modules, key=modules.get), max(folders, key=folders.get)
    lengths = sorted(lines for path in modules for lines in body_lines(path))
    tests = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in (HOME / "tests").rglob("*.py"))
    rows = [
        ("modules", len(modules)),
        ("lines of Python", sum(files.values())),
        ("median module, lines", round(statistics.median(modules.values()))),
        ("largest module, lines", f"{modules[largest]} ({largest.relative_to(HOME)})"),
        ("largest folder, modules", f"{folders[crowded]} ({crowded.relative_to(HOME)})"),
        ("function bodies, lines: median / largest", f"{lengths[len(lengths) // 2]} / {lengths[-1]}"),
        ("names at the door", len([name for name in segkit.__all__ if not name.startswith("_")])),
        ("words in README.md", len((HOME / "README.md").read_text(encoding="utf-8").split())),
        ("lines of tests per line of package", round(tests / sum(files.values()), 2)),
    ]
    print("| figure | value |\n|---|---|")
    print("\n".join(f"| {name} | {value} |" for name, value in rows))
    print("\n| notebook | cells | code lines | median cell | longest cell | words a code line | import lines |")
    print("|---|---|---|---|---|---|---|")
    for path in sorted((HOME / "notebooks").glob("**/*.ipynb")):
        print(f"| {path.stem} | {' | '.join(str(value) for value in notebook_figures(path))} |")


def body_lines(path: Path) -> list[int]:
    """Lines of each function of a file, docstring left out."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            found.append(body[-1].end_lineno - body[0].lineno + 1 if body else 0)
    return found


def notebook_figures(path: Path) -> tuple[int, int, float, int, float, int]:
    """Cells, code lines, median and longest code cell, words of text per code line, import lines."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = {kind: ["".join(c["source"]) for c in cells if c["cell_type"] == kind] for kind in ("code", "markdown")}
    code = [[line for line in cell.splitlines() if line.strip()] for cell in texts["code"]]
    sizes = [len(lines) for lines in code if lines]
    words = sum(len(WORDS.findall(text)) for text in texts["markdown"])
    imports = sum(line.startswith(("import ", "from ")) for lines in code for line in lines)
    return len(cells), sum(sizes), statistics.median(sizes), max(sizes), round(words / sum(sizes), 1), imports


if __name__ == "__main__":
    main()
