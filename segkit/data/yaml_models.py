"""YAML from a user: loaded without running anything, checked against a model, refused in one message."""

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

MAX_NODES = 100_000  # after aliases are unfolded; a large source has some hundreds
MOST_PROBLEMS = 6  # of a file, in one message
MOST_SHOWN = 60  # characters of a value in a message
Parsed = TypeVar("Parsed", bound="YamlModel")


class Problems(ValueError):
    """What does not fit in one mapping of a file, a sentence each."""

    def __init__(self, sentences: list[str]) -> None:
        super().__init__(" ".join(sentences))
        self.sentences = sentences


class YamlModel(BaseModel):
    """A mapping in a YAML file: unknown keys are refused, and a key without a value counts as left out.

    The description of a field completes the sentence "found ..., expected ...".
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    hint: ClassVar[str] = ""  # how to start such a file, for messages on what it lacks

    @model_validator(mode="wrap")
    @classmethod
    def _describe_problems(cls, found: Any, handler: ModelWrapValidatorHandler) -> Any:
        if not isinstance(found, dict):
            return handler(found)  # what holds it names what it expects
        fields = _fields(cls)
        given = {str(key): value for key, value in found.items() if value is not None or str(key) not in fields}
        try:
            return handler(given)
        except ValidationError as error:
            raise Problems(_sentences(error, fields=fields)) from None


def scalar_text(value: Any) -> Any:
    """Write a number, flag or date as text; leave mappings, lists and nothing as they are."""
    return value if value is None or isinstance(value, dict | list) else str(value)


Text = Annotated[str, BeforeValidator(scalar_text)]  # numbers and dates count as they are written
OneOrMore = BeforeValidator(lambda value: [value] if isinstance(value, str) else value)


def one_of(what: str, known: Collection[str]) -> AfterValidator:
    """Make a check that a word is a known one; its message names the nearest."""

    def check(word: str) -> str:
        if word not in known:
            raise ValueError(f"unknown {what} {word!r}.{nearest(word, known)}")
        return word

    return AfterValidator(check)


def parse_yaml(text: str, model: type[Parsed], *, label: str) -> Parsed:
    """Parse a YAML text as a model.

    Parameters
    ----------
    text
        The text of the file.
    model
        What the file may say.
    label
        Name of the file, for messages.

    Raises
    ------
    SourceError
        The text is no safe YAML, or does not fit the model: one message with all problems, sorted.
    """
    found = load_yaml(text, label=label)
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
    words = listed[0]
    if len(listed) > 1:
        numbered = [f"({n}) {sentence}" for n, sentence in enumerate(listed[:MOST_PROBLEMS], start=1)]
        more = [f"And {len(listed) - MOST_PROBLEMS} more."] if len(listed) > MOST_PROBLEMS else []
        words = " ".join([f"{len(listed)} problems.", *numbered, *more])
    hint = model.hint if any(sentence.startswith("the key ") for sentence in listed) else ""
    raise SourceError(mask_secrets(f"{label}: {words}{hint}"))


def read_utf8(path: Path) -> str:
    """Read a text file.

    Raises
    ------
    SourceError
        The file is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise SourceError(f"{path.name}: not a text in UTF-8. Save it as UTF-8.") from None


def nearest(word: str, known: Iterable[str]) -> str:
    """Say which known name comes closest: " Did you mean 'amount'?", or list them all when none is close."""
    names = sorted(str(name) for name in known)
    if not names:
        return ""
    lower = {name.lower(): name for name in reversed(names)}
    close = difflib.get_close_matches(str(word).lower(), list(lower), n=1, cutoff=0.6)
    return f" Did you mean {lower[close[0]]!r}?" if close else f" Known: {', '.join(names)}."


def _fields(model: type[YamlModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _sentences(error: ValidationError, *, fields: Mapping[str, FieldInfo]) -> list[str]:
    """Each error of one mapping as where it is, what was found, and what to do."""
    sentences, errors = [], error.errors(include_url=False)
    spoilt = {one["loc"][:1] for one in errors if one["type"] != "too_short"}
    for one in errors:
        if one["type"] == "too_short" and one["loc"][:1] in spoilt:
            continue  # only because parts of it are wrong
        key, *rest = one["loc"] or ("",)
        found = one["input"]
        rest = rest[:-2] if rest[-1:] == ["[key]"] else rest
        where = str(key) + "".join(f" {part + 1 if isinstance(part, int) else _shown(part)}" for part in rest)
        if one["type"] == "extra_forbidden":
            sentences.append(f"unknown key {_shown(key)}.{nearest(key, fields)}")
        elif one["type"] == "missing":
            sentences.append(f"the key {key!r} is missing. Add {fields[key].description}.")
        elif one["type"] == "value_error":
            inner = one["ctx"]["error"]
            parts = inner.sentences if isinstance(inner, Problems) else [str(inner)]
            sentences += [f"{where}{_table(found)}: {part}" if where else part for part in parts]
        else:
            sentences.append(f"{where}: found {_shown(found)}, expected {fields[key].description}.")
    return sentences


def _table(found: Any) -> str:
    """The file or table that a mapping is about, in brackets."""
    name = (found.get("path") or found.get("table")) if isinstance(found, dict) else None
    return f" ({Path(name).name[:MOST_SHOWN]})" if isinstance(name, str) else ""


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


class _Loader(yaml.SafeLoader):
    """Safe YAML in which `on`, `yes` and `no` are words and a key stands once."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, rule) for tag, rule in rules if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def load_yaml(text: str, *, label: str) -> Any:
    """What a YAML text says: mappings, lists, texts, numbers, flags and dates.

    Parameters
    ----------
    label : name of the file, for messages

    Raises
    ------
    SourceError : not YAML, a tag, a key twice, an impossible date, or aliases that unfold without end
    """
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _refuse_bomb(node)
        return loader.construct_document(node)
    except SourceError as error:
        raise SourceError(f"{label}: {error}") from None
    except RecursionError:
        raise SourceError(f"{label}: brackets in brackets without end. Write it in the form README shows.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be parsed"
        raise SourceError(
            f"{label}: not valid YAML{place} ({problem}). Quote texts that hold ': ', '#' or brackets."
        ) from None
    except ValueError as error:  # a date such as 2024-13-01, which is none
        raise SourceError(f"{label}: a value that cannot be read ({error}). Put it in quotes, or mend it.") from None


def _mapping_without_duplicates(loader: _Loader, node: yaml.MappingNode) -> dict:
    keys = [key.value for key, _ in node.value]
    twice = sorted({key for key in keys if isinstance(key, str) and keys.count(key) > 1})
    if twice:
        line = node.start_mark.line + 1
        raise SourceError(f"the mapping that starts on line {line} holds {twice[0]!r} twice. Keep one of them.")
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_without_duplicates)


def _refuse_bomb(top: yaml.Node) -> None:
    """Count what a tree holds once its aliases are unfolded, without unfolding them ("billion laughs")."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = 1  # a node within itself counts once here; to build it is refused later
            parts = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
            sizes[id(node)] += 0 if isinstance(node, yaml.ScalarNode) else sum(size(part) for part in parts)
        return sizes[id(node)]

    if size(top) > MAX_NODES:
        raise SourceError(f"its aliases unfold to more than {MAX_NODES:,} values. Write them out, or fewer of them.")
