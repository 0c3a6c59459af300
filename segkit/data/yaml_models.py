"""YAML written by users: loaded safely, checked against a model, refused with one message for all problems."""

import difflib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

from segkit.data.io import mask_secrets
from segkit.errors import SourceError

MAX_NODES = 100_000  # once aliases are expanded; a large source has some hundreds
MOST_PROBLEMS = 6  # listed in one message
MOST_SHOWN = 60  # characters of a value in a message
Parsed = TypeVar("Parsed", bound="YamlModel")


class _Problems(ValueError):
    """The problems of one mapping of a file, one sentence each."""

    def __init__(self, sentences: list[str]) -> None:
        super().__init__(" ".join(sentences))
        self.sentences = sentences


class YamlModel(BaseModel):
    """A mapping in a YAML file; unknown keys are refused, and a key without a value counts as missing.

    The description of a field completes the sentence "found ..., expected ...".
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    hint: ClassVar[str] = ""  # how to start such a file, for messages about missing keys

    @model_validator(mode="wrap")
    @classmethod
    def _describe_problems(cls, found: Any, handler: ModelWrapValidatorHandler) -> Any:
        if not isinstance(found, dict):
            return handler(found)  # the mapping around it reports what it expects
        fields = _fields(cls)
        given = {str(key): value for key, value in found.items() if value is not None or str(key) not in fields}
        try:
            return handler(given)
        except ValidationError as error:
            raise _Problems(_sentences(error, fields=fields)) from None


def scalar_text(value: Any) -> Any:
    """Return a number, flag or date as text, and mappings, lists and None unchanged."""
    return value if value is None or isinstance(value, dict | list) else str(value)


Text = Annotated[str, BeforeValidator(scalar_text)]  # numbers and dates are read as text
OneOrMore = BeforeValidator(lambda value: [value] if isinstance(value, str) else value)


def one_of(what: str, known: Collection[str]) -> AfterValidator:
    """Make a validator that accepts only known words; its message suggests the most similar one."""

    def check(word: str) -> str:
        if word not in known:
            raise ValueError(f"unknown {what} {word!r}.{suggest(word, known)}")
        return word

    return AfterValidator(check)


def parse_yaml(text: str, model: type[Parsed], *, label: str, of_package: bool = False) -> Parsed:
    """Parse a YAML text as a model.

    `of_package`: as for `load_yaml`. Raises `SourceError`: the text is not safe YAML, or does not fit the model; one
    message lists all problems, sorted.
    """
    found = load_yaml(text, label=label, of_package=of_package)
    found = {} if found is None else found
    if not isinstance(found, dict):
        fields = _fields(model)
        keys = [key for key, field in fields.items() if field.is_required()] or list(fields)
        raise SourceError(
            mask_secrets(f"{label}: found {_shown(found)}, expected a mapping with {', '.join(keys)}.{model.hint}")
        )
    try:
        return model.model_validate(found)
    except ValidationError as error:
        listed = sorted(set(_sentences(error, fields={})))
    message = listed[0]
    if len(listed) > 1:
        numbered = [f"({n}) {sentence}" for n, sentence in enumerate(listed[:MOST_PROBLEMS], start=1)]
        more = [f"And {len(listed) - MOST_PROBLEMS} more."] if len(listed) > MOST_PROBLEMS else []
        message = " ".join([f"{len(listed)} problems.", *numbered, *more])
    hint = model.hint if any(sentence.startswith("the key ") for sentence in listed) else ""
    raise SourceError(mask_secrets(f"{label}: {message}{hint}"))


def read_utf8(path: Path) -> str:
    """Read a text file.

    Raises `SourceError`: the file is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise SourceError(f"{path.name}: it is not UTF-8. Save it as UTF-8.") from None


def suggest(word: str, known: Iterable[str]) -> str:
    """Suggest the most similar known name, as in " Did you mean 'amount'?", or list all when none is similar."""
    names = sorted(str(name) for name in known)
    if not names:
        return ""
    lower = {name.lower(): name for name in reversed(names)}
    close = difflib.get_close_matches(str(word).lower(), list(lower), n=1, cutoff=0.6)
    return f" Did you mean {lower[close[0]]!r}?" if close else f" Known: {', '.join(names)}."


def _fields(model: type[YamlModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _sentences(error: ValidationError, *, fields: Mapping[str, FieldInfo]) -> list[str]:
    """Describe each error of one mapping: where it is, what was found, and what to do."""
    sentences, errors = [], error.errors(include_url=False)
    wrong = {problem["loc"][:1] for problem in errors if problem["type"] != "too_short"}
    for problem in errors:
        if problem["type"] == "too_short" and problem["loc"][:1] in wrong:
            continue  # too short only because parts of it are wrong
        key, *rest = problem["loc"] or ("",)
        found = problem["input"]
        rest = rest[:-2] if rest[-1:] == ["[key]"] else rest
        where = str(key) + "".join(f" {part + 1 if isinstance(part, int) else _shown(part)}" for part in rest)
        if problem["type"] == "extra_forbidden":
            sentences.append(f"unknown key {_shown(key)}.{suggest(key, fields)}")
        elif problem["type"] == "missing":
            sentences.append(f"the key {key!r} is missing. Add {fields[key].description}.")
        elif problem["type"] == "value_error":
            inner = problem["ctx"]["error"]
            parts = inner.sentences if isinstance(inner, _Problems) else [str(inner)]
            sentences += [f"{where}{_table(found)}: {part}" if where else part for part in parts]
        else:
            sentences.append(f"{where}: found {_shown(found)}, expected {fields[key].description}.")
    return sentences


def _table(found: Any) -> str:
    """Return the file or table of a mapping, in brackets."""
    name = (found.get("path") or found.get("table")) if isinstance(found, dict) else None
    return f" ({Path(name).name[:MOST_SHOWN]})" if isinstance(name, str) else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


class _Loader(yaml.SafeLoader):
    """Safe YAML in which ``on``, ``yes`` and ``no`` are words and no key may repeat."""


class _QuickLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """The same, parsed by C in a seventh of the time; only for texts of the package, as deep nesting breaks it."""


def load_yaml(text: str, *, label: str, of_package: bool = False) -> Any:
    """Load a YAML text: mappings, lists, texts, numbers, flags and dates.

    `of_package`: nobody else wrote it, so that a quick parser may read it.

    Raises `SourceError`: the text is not YAML, or has a tag, a repeated key, an impossible date, or aliases that expand
    without end.
    """
    try:
        loader = (_QuickLoader if of_package else _Loader)(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_bomb(node)
        return loader.construct_document(node)
    except SourceError as error:
        raise SourceError(f"{label}: {error}") from None
    except RecursionError:
        raise SourceError(
            f"{label}: too many nested brackets. Write it in the form that docs/sources.md shows."
        ) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise SourceError(
            f"{label}: not valid YAML{place} ({problem}). Quote texts that contain ': ', '#' or brackets."
        ) from None
    except ValueError as error:  # an impossible date such as 2024-13-01
        raise SourceError(f"{label}: a value cannot be read ({error}). Put it in quotes, or fix it.") from None


def _mapping_without_duplicates(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict:
    keys = [key.value for key, _ in node.value]
    repeated = sorted({key for key in keys if isinstance(key, str) and keys.count(key) > 1})
    if repeated:
        line = node.start_mark.line + 1
        raise SourceError(f"the mapping that starts on line {line} repeats the key {repeated[0]!r}. Keep one of them.")
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


for _each in (_Loader, _QuickLoader):
    _each.yaml_implicit_resolvers = {
        first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    _each.add_constructor("tag:yaml.org,2002:map", _mapping_without_duplicates)


def _refuse_bomb(top: yaml.Node) -> None:
    """Refuse a tree that is too large once its aliases are expanded ("billion laughs"); they are not expanded here."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = 1  # a node inside itself counts once here, and is refused when it is built
            parts = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
            sizes[id(node)] += 0 if isinstance(node, yaml.ScalarNode) else sum(size(part) for part in parts)
        return sizes[id(node)]

    if size(top) > MAX_NODES:
        raise SourceError(f"its aliases expand to more than {MAX_NODES:,} values. Use fewer of them.")
