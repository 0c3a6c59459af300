"""Run notebooks: the session inside one, and the chain of all."""

from segkit.imports import hidden

with hidden("rfc3987_syntax"):  # its grammars take a second in every process, for formats that no notebook has
    import nbformat  # noqa: F401
