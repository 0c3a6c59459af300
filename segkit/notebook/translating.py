"""Pages in another language: the text of notebooks and the words of scripts."""

from copy import deepcopy

import nbformat

from segkit.texts import ENGLISH, check_language, load_texts, spoken


def language_parameter(language: str) -> dict[str, str]:
    """Return the parameter of a run in another language than English; an unknown one is refused by `InputError`."""
    check_language(language)
    return {} if language == ENGLISH else {"language": language}


def translate_notebook(notebook: nbformat.NotebookNode, *, step: str) -> nbformat.NotebookNode:
    """Return a notebook with its text in the language that is spoken; a cell that has no other text stays.

    Parameters
    ----------
    notebook
        As executed; it is not changed.
    step
        Its name, such as ``00_overview``.
    """
    if spoken() == ENGLISH:
        return notebook
    texts, made = load_texts("pages")[step], deepcopy(notebook)
    for cell in made.cells:
        if cell.cell_type == "markdown":
            cell.source = texts.get(cell.source.partition("\n")[0], cell.source).strip()
    return made


def title_of(notebook: nbformat.NotebookNode, *, default: str) -> str:
    """Return the first heading of a notebook that was translated; else the default."""
    if spoken() == ENGLISH:
        return default
    texts = (cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    lines = (line for text in texts for line in text.splitlines())
    return next((line.removeprefix("# ").strip() for line in lines if line.startswith("# ")), default)


def translate_script(script: str) -> str:
    """Return a script with its words in the language that is spoken."""
    for english, words in ({} if spoken() == ENGLISH else load_texts("scripts")).items():
        script = script.replace(english, words)
    return script
