"""YAML that a user gave: no tag makes an object, no key stands twice, and no few lines unfold into millions."""

from typing import Any

import yaml

from segkit.errors import SourceError

MOST_NODES = 100_000  # after aliases are unfolded; a large source has some hundreds


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


def _mapping_once(loader: _Loader, node: yaml.MappingNode) -> dict:
    keys = [key.value for key, _ in node.value]
    twice = sorted({key for key in keys if isinstance(key, str) and keys.count(key) > 1})
    if twice:
        line = node.start_mark.line + 1
        raise SourceError(f"the mapping that starts on line {line} holds {twice[0]!r} twice. Keep one of them.")
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping_once)


def _refuse_bomb(top: yaml.Node) -> None:
    """Count what a tree holds once its aliases are unfolded, without unfolding them ("billion laughs")."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = 1  # a node within itself counts once here; to build it is refused later
            parts = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
            sizes[id(node)] += 0 if isinstance(node, yaml.ScalarNode) else sum(size(part) for part in parts)
        return sizes[id(node)]

    if size(top) > MOST_NODES:
        raise SourceError(f"its aliases unfold to more than {MOST_NODES:,} values. Write them out, or fewer of them.")
