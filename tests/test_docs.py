"""The examples of the documents run as they are written, and their links lead somewhere."""

import re
from pathlib import Path

import pandas as pd
import pytest

from segkit.data.sources import connect, count_rejected_rows, open_source, read_customers, read_events
from segkit.data.spec import (
    CONTRACT,
    ROLES,
    CustomerTable,
    EventTable,
    Lookup,
    NeedsSpec,
    SourceYaml,
    parse_source,
)

HOME = Path(__file__).parents[1]
DOCUMENTS = sorted([HOME / "README.md", *(HOME / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(?P<kind>\w+) ?(?P<name>[\w.-]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|#)([^)#]+)")


def source_examples(document: str) -> list[tuple[str, dict[str, str], str]]:
    """Heading, tables by file name, and YAML of each complete example in a document."""
    text = (HOME / "docs" / document).read_text(encoding="utf-8")
    examples, tables = [], {}
    for block in BLOCK.finditer(text):
        if block["name"]:
            tables[block["name"]] = block["body"]
        elif block["kind"] == "yaml":
            heading = re.findall(r"^##+ (.+)$", text[: block.start()], flags=re.MULTILINE)[-1]
            examples.append((heading, tables, block["body"]))
            tables = {}
    return examples


EXAMPLES = [*source_examples("sources.md"), *source_examples("cookbook.md")]


@pytest.mark.parametrize(("heading", "tables", "yaml"), EXAMPLES, ids=[one[0] for one in EXAMPLES])
def test_example_of_a_source_is_read(heading: str, tables: dict[str, str], yaml: str, tmp_path: Path) -> None:
    if "database:" in yaml:  # of a server, of which only the YAML can be read here
        assert parse_source(yaml, label=heading, base=tmp_path).tables[0].table
        return
    for name, body in tables.items():
        (tmp_path / name).write_text(body, encoding="utf-8")
        if name.endswith(".xlsx"):
            sheet = re.search(r"sheet: (\w+)", yaml)[1]
            pd.read_csv(tmp_path / name).to_excel(tmp_path / name, sheet_name=sheet, index=False)
    (tmp_path / "source.yaml").write_text(yaml, encoding="utf-8")
    source, con = open_source(str(tmp_path / "source.yaml")), connect()
    if source.customers_only:
        people = read_customers(source, con=con).to_pandas()
        assert len(people) >= 2 and people.notna().any().all(), "each column holds something"
        return
    events = read_events(source, con=con).to_pandas()
    assert len(events) >= 2 and events["customer_id"].notna().all() and events["day"].notna().all()
    if source.customers:
        assert len(read_customers(source, con=con).to_pandas()) >= 2
    mapped = set().union(*(table.columns for table in source.tables))
    assert all(events[name].notna().any() for name in mapped), "each mapped column holds something"
    assert set(events["event"]) == set(source.kinds), "each kind of event is there, and no other"
    assert count_rejected_rows(source, con=con).empty


def test_every_key_of_a_source_has_an_example() -> None:
    text = (HOME / "docs" / "sources.md").read_text(encoding="utf-8")
    models = (SourceYaml, EventTable, CustomerTable, Lookup, NeedsSpec)
    keys = {field.alias or name for model in models for name, field in model.model_fields.items()}
    assert not [name for name in {*keys, *CONTRACT, *ROLES} if f"`{name}`" not in text]
    used = "\n".join(yaml for _, _, yaml in EXAMPLES)
    assert not [name for name in {*keys, *CONTRACT} if not re.search(rf"(^|[\s{{]){name}:", used)]
    assert not [role for role in ROLES if not re.search(rf": {role}\b", used)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_files_named_in_a_document_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not [link for link in LINK.findall(text) if not (path.parent / link).exists()]
    named = re.findall(r"`((?:docs|notebooks|segkit|tests|benchmarks)/[\w./-]+)`", text)
    assert not [name for name in named if not (HOME / name).exists()]
    assert "pip install segkit" not in text and "pip install 'segkit" not in text
