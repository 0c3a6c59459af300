"""Slow parts of libraries stay out of a process until somebody uses them."""

import subprocess
import sys

DRAW = """
import sys
import numpy as np
import segkit.notebook
from segkit.customers.plane import draw_plane

points = np.random.default_rng(1).normal(size=(60, 4))
drawn = draw_plane(points, n_neighbors=5, epochs=20)
assert not {"rfc3987_syntax", "lark", "pynndescent"} & set(sys.modules), "what is slow and unused was loaded"
import nbformat, umap.umap_
nbformat.validate(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("words")]))
search = umap.umap_.NNDescent(points, n_neighbors=5, random_state=1)
import pynndescent
assert isinstance(search, pynndescent.NNDescent) and isinstance(search, umap.umap_.NNDescent)
assert "euclidean" in umap.umap_.pynn_named_distances, "a search by somebody else has the real library"
assert (draw_plane(points, n_neighbors=5, epochs=20) == drawn).all()
"""


def test_what_is_slow_and_unused_is_not_loaded_until_somebody_uses_it() -> None:
    made = subprocess.run([sys.executable, "-c", DRAW], capture_output=True, text=True, timeout=300)
    assert made.returncode == 0, made.stderr


def test_the_command_loads_no_library_that_only_notebooks_use() -> None:
    code = "import sys, segkit.notebook.delivering; print(*{'matplotlib', 'scipy.stats', 'sklearn'} & set(sys.modules))"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (made.returncode, made.stdout.strip()) == (0, ""), made.stderr
