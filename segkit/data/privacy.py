"""Keep erased customers out, and pseudonymise customer ids."""

import hashlib
import json
import os
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

import ibis

from segkit.data.io import read_json, write_json
from segkit.errors import InputError, RunError

KEY_FILE, KEY_VARIABLE, ERASURE_FILE = "segkit.key", "SEGKIT_KEY", "forgotten.json"
MIN_KEY_LENGTH = 16  # characters of a key from the environment
SEPARATOR = "\x1f"  # between the parts that are hashed
ERASURE, PSEUDONYM, KEY_ID = "forgotten", "pseudonym", "key"  # what a hash is for: one tells nothing of another
PSEUDONYM_LENGTH = 24  # hex digits: 96 bits, so that no two customers share one
KEY_ID_LENGTH = 12


@dataclass(frozen=True)
class PrivacyRules:
    """`lists`: the key and the marks of each list; `key`: of pseudonyms, empty where ids are shown as they are."""

    lists: tuple[tuple[str, frozenset[str]], ...] = field(default=(), repr=False)
    key: str = field(default="", repr=False)

    def is_erased(self, customer_id: str) -> bool:
        """Whether a customer was forgotten."""
        return any(_hash(customer_id, key=key, use=ERASURE) in hashes for key, hashes in self.lists)

    def displayed_id(self, customer_id: str) -> str:
        """The id a customer has in the tables of a run."""
        return _hash(customer_id, key=self.key, use=PSEUDONYM)[:PSEUDONYM_LENGTH] if self.key else customer_id

    @property
    def fingerprint(self) -> str:
        """What tells this veil from others, without telling anything of it."""
        text = json.dumps([[key, sorted(hashes)] for key, hashes in self.lists] + [self.key])
        return hashlib.sha256(text.encode()).hexdigest()[:10]


def load_privacy(folder: Path, *, pseudonyms: str = "") -> PrivacyRules:
    """The veil over the runs of a folder: the lists in it and in all folders above it.

    Parameters
    ----------
    pseudonyms : the id of the key that a run shows ids by; empty for ids as they are

    Raises
    ------
    RunError : the key of a list, or that of the pseudonyms, is not there or is another one
    """
    folder = folder.resolve()
    lists = []
    for place in (folder, *folder.parents):
        if (place / ERASURE_FILE).is_file():
            stored = read_json(place / ERASURE_FILE)
            lists.append(
                (
                    _require_key(place, expected_id=stored.get("key", ""), what=str(place / ERASURE_FILE)),
                    stored["marks"],
                )
            )
    key = _require_key(folder, expected_id=pseudonyms, what="--pseudonymise") if pseudonyms else ""
    return PrivacyRules(lists=tuple((key, frozenset(hashes)) for key, hashes in lists), key=key)


def find_key(folder: Path) -> str:
    """The key in the environment, or else in a folder or the nearest above it; empty where there is none."""
    given = os.environ.get(KEY_VARIABLE, "")
    if given:
        if len(given) < MIN_KEY_LENGTH:
            raise InputError(f"{KEY_VARIABLE}: at least {MIN_KEY_LENGTH} characters, so that nobody can guess it.")
        return given
    for place in (folder.resolve(), *folder.resolve().parents):
        if (place / KEY_FILE).is_file():
            found = (place / KEY_FILE).read_text(encoding="ascii", errors="replace").strip()
            if len(found) < MIN_KEY_LENGTH:
                raise RunError(f"{place / KEY_FILE}: this is no key. Put back the file as it was.")
            return found
    return ""


def make_key(folder: Path) -> str:
    """The key that holds in a folder; a new file in it, for its owner alone, where there is none."""
    if not find_key(folder):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{KEY_FILE}.{os.getpid()}"
        handle = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
        try:
            os.link(temporary, folder / KEY_FILE)  # never over a key that another process has just made
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    return find_key(folder)


def key_id(key: str) -> str:
    """What tells a key from another and does not give it away."""
    return _hash("", key=key, use=KEY_ID)[:KEY_ID_LENGTH]


def find_erased(folder: Path, ids: Collection[str]) -> set[str]:
    """Those of the customers who are on the list of a folder, or on one above it."""
    privacy = load_privacy(folder)
    return {one for one in ids if privacy.is_erased(one)}


def add_to_erasure_list(folder: Path, ids: Collection[str]) -> None:
    """Write customers on the list of a folder, as marks; the list is whole at any moment."""
    path, key = folder / ERASURE_FILE, make_key(folder)
    stored = read_json(path)["marks"] if path.is_file() else []
    hashes = {_hash(one, key=key, use=ERASURE) for one in ids}
    write_json(path, {"key": key_id(key), "marks": sorted({*stored, *hashes})})


def private_view(view: str, *, privacy: PrivacyRules, con: ibis.BaseBackend) -> str:
    """The name of a view of the same rows without the forgotten, and with ids as the veil shows them.

    Takes  the name of a view with a customer_id
    """
    if not privacy.lists and not privacy.key:
        return view
    keys, made = f"{view}_keys_{privacy.fingerprint}", f"{view}_{privacy.fingerprint}"
    # in tables, not in the text of the view: what DuckDB says of an error would show it
    con.con.execute(f'create or replace table "{keys}" (number integer, key varchar, marks varchar[])').fetchall()
    rows = [(number, key, sorted(hashes)) for number, (key, hashes) in enumerate(privacy.lists)]
    for row in [*rows, (len(rows), privacy.key, [])]:
        con.con.execute(f'insert into "{keys}" values (?, ?, ?)', list(row)).fetchall()
    hidden = [
        f'{_hash_sql(keys, number=n, use=ERASURE)} in (select unnest(marks) from "{keys}" where number = {n})'
        for n in range(len(rows))
    ]
    shown = f"{_hash_sql(keys, number=len(rows), use=PSEUDONYM)}[:{PSEUDONYM_LENGTH}] as customer_id"
    chosen = f"* replace ({shown})" if privacy.key else "*"
    where = f" where not ({' or '.join(hidden)})" if hidden else ""
    con.con.execute(f'create or replace view "{made}" as select {chosen} from "{view}"{where}').fetchall()
    return made


def _require_key(folder: Path, *, expected_id: str, what: str) -> str:
    """The key that holds in a folder, held against the name of the key that is needed."""
    key = find_key(folder)
    if not key or key_id(key) != expected_id:
        found = "another key is there now" if key else "there is no key now"
        raise RunError(
            f"{what}: it was written by a key of its own, and {found}. Put back {KEY_FILE} ({folder} or above), or "
            f"set {KEY_VARIABLE} as it was."
        )
    return key


def _hash(customer_id: str, *, key: str, use: str) -> str:
    return hashlib.sha256(SEPARATOR.join((key, use, customer_id, key)).encode("utf-8", "surrogatepass")).hexdigest()


def _hash_sql(keys: str, *, number: int, use: str) -> str:
    """The same hash as SQL over customer_id."""
    key = f'(select key from "{keys}" where number = {number})'
    return f"sha256({key} || chr(31) || '{use}' || chr(31) || customer_id || chr(31) || {key})"
