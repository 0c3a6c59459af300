"""Keep erased customers out, and pseudonymise customer ids."""

import hashlib
import json
import os
import secrets
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ibis

from segkit.data.io import read_json, sync_to_disk, write_json
from segkit.errors import InputError, RunError

KEY_FILE, KEY_VARIABLE, ERASURE_FILE = "segkit.key", "SEGKIT_KEY", "forgotten.json"
MIN_KEY_LENGTH = 16  # characters of a key from the environment
SEPARATOR = "\x1f"  # between the parts that are hashed
ERASURE, PSEUDONYM, ORDER, KEY_ID = (
    "forgotten",
    "pseudonym",
    "order",
    "key",
)  # what a hash is for: hashes for different uses cannot be matched
PSEUDONYM_LENGTH = 24  # hex digits: 96 bits, so that no two customers share a pseudonym
KEY_ID_LENGTH = 12


@dataclass(frozen=True)
class PrivacyRules:
    """Which customers are erased, and how ids are shown.

    Attributes
    ----------
    lists
        Key and hashes of each erasure list.
    key
        Key of the pseudonyms; empty where ids are shown as in the source.
    """

    lists: tuple[tuple[str, frozenset[str]], ...] = field(default=(), repr=False)
    key: str = field(default="", repr=False)

    def is_erased(self, customer_id: str) -> bool:
        """Return whether a customer was erased."""
        return any(_hash(customer_id, key=key, use=ERASURE) in hashes for key, hashes in self.lists)

    def displayed_id(self, customer_id: str) -> str:
        """Return the id of a customer in the tables of a run."""
        return _hash(customer_id, key=self.key, use=PSEUDONYM)[:PSEUDONYM_LENGTH] if self.key else customer_id

    @property
    def fingerprint(self) -> str:
        """Identify these rules by a hash that reveals neither keys nor customers."""
        text = json.dumps([[key, sorted(hashes)] for key, hashes in self.lists] + [self.key])
        return hashlib.sha256(text.encode()).hexdigest()[:10]


def list_files(*folders: Path) -> list[Path]:
    """List the erasure lists in folders and all above them, along each path as given and without its links."""
    ends = [path for folder in folders for path in (folder.resolve(), folder.absolute())]
    places = dict.fromkeys(place.resolve() for end in ends for place in (end, *end.parents))
    return [place / ERASURE_FILE for place in places if (place / ERASURE_FILE).is_file()]


def load_privacy(folder: Path, *, also: tuple[Path, ...] = (), pseudonyms: str = "") -> PrivacyRules:
    """Load the privacy rules of a folder of runs, with the erasure lists in it and in all folders above it.

    Parameters
    ----------
    also
        More folders whose lists hold, with those above them.
    pseudonyms
        Id of the key of the pseudonyms of a run; empty for ids as in the source.

    Raises
    ------
    RunError
        The key of a list or of the pseudonyms is missing, or is another key.
    """
    lists = []
    for path in list_files(folder, *also):
        stored = _read_list(path)
        key = _require_key(path.parent, expected_id=stored.get("key", ""), what=str(path))
        lists.append((key, frozenset(stored["marks"])))
    folder = folder.resolve()
    key = _require_key(folder, expected_id=pseudonyms, what="--pseudonymise") if pseudonyms else ""
    return PrivacyRules(lists=tuple(lists), key=key)


def _read_list(path: Path) -> dict[str, Any]:
    try:
        stored = read_json(path)
        if isinstance(stored.get("marks"), list) and all(isinstance(mark, str) for mark in stored["marks"]):
            return stored
    except RunError:
        pass
    raise RunError(
        f"{path}: this erasure list cannot be read, and without it erased customers would come back. Restore the file."
    )


def find_key(folder: Path) -> str:
    """Return the key from the environment, or from a folder or the nearest one above it; empty if there is none."""
    given = os.environ.get(KEY_VARIABLE, "")
    if given:
        if len(given) < MIN_KEY_LENGTH:
            raise InputError(f"{KEY_VARIABLE}: too short to be safe. Give at least {MIN_KEY_LENGTH} characters.")
        return given
    for place in (folder.resolve(), *folder.resolve().parents):
        if (place / KEY_FILE).is_file():
            found = (place / KEY_FILE).read_text(encoding="ascii", errors="replace").strip()
            if len(found) < MIN_KEY_LENGTH:
                raise RunError(f"{place / KEY_FILE}: this is not a key. Restore the file.")
            return found
    return ""


def make_key(folder: Path) -> str:
    """Return the key of a folder; create a file for it, readable by its owner only, if there is none."""
    if not find_key(folder):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f".{KEY_FILE}.{os.getpid()}"
        try:
            with os.fdopen(os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w") as file:
                file.write(secrets.token_hex(32) + "\n")
            sync_to_disk(temporary)
            os.link(temporary, folder / KEY_FILE)  # never over a key that another process has just made
        except FileExistsError:
            pass
        finally:
            temporary.unlink(missing_ok=True)
        sync_to_disk(folder)
    return find_key(folder)


def key_id(key: str) -> str:
    """Identify a key without revealing it."""
    return _hash("", key=key, use=KEY_ID)[:KEY_ID_LENGTH]


def find_erased(folder: Path, ids: Collection[str]) -> set[str]:
    """Return the customers who are on the erasure list of a folder or of one above it."""
    privacy = load_privacy(folder)
    return {customer_id for customer_id in ids if privacy.is_erased(customer_id)}


def add_to_erasure_list(folder: Path, ids: Collection[str]) -> None:
    """Add customers to the erasure list of a folder, as keyed hashes; the file is replaced atomically."""
    path, key = folder / ERASURE_FILE, make_key(folder)
    stored = _read_list(path)["marks"] if path.is_file() else []
    hashes = {_hash(customer_id, key=key, use=ERASURE) for customer_id in ids}
    write_json(path, {"key": key_id(key), "marks": sorted({*stored, *hashes})})


def private_view(view: str, *, privacy: PrivacyRules, con: ibis.BaseBackend) -> str:
    """Create a view of the same rows without erased customers, with pseudonyms where asked; return its name.

    `view`: name of a view with a column customer_id.
    """
    if not privacy.lists and not privacy.key:
        return view
    keys, private = f"{view}_keys_{privacy.fingerprint}", f"{view}_{privacy.fingerprint}"
    # in a table, not in the text of the view, which DuckDB quotes in its error messages
    con.con.execute(f'create or replace table "{keys}" (number integer, key varchar, marks varchar[])').fetchall()
    rows = [(number, key, sorted(hashes)) for number, (key, hashes) in enumerate(privacy.lists)]
    for row in [*rows, (len(rows), privacy.key, [])]:
        con.con.execute(f'insert into "{keys}" values (?, ?, ?)', list(row)).fetchall()
    erased = [
        f'{_hash_sql(keys, number=n, use=ERASURE)} in (select unnest(marks) from "{keys}" where number = {n})'
        for n in range(len(rows))
    ]
    replaced = [
        f"{_hash_sql(keys, number=len(rows), use=use, column=column)}[:{PSEUDONYM_LENGTH}] as {column}"
        for column, use in (("customer_id", PSEUDONYM), ("order_id", ORDER))  # an order id can contain the customer's
        if column in con.table(view).columns
    ]
    columns = f"* replace ({', '.join(replaced)})" if privacy.key else "*"
    where = f" where not ({' or '.join(erased)})" if erased else ""
    con.con.execute(f'create or replace view "{private}" as select {columns} from "{view}"{where}').fetchall()
    return private


def _require_key(folder: Path, *, expected_id: str, what: str) -> str:
    """Return the key of a folder, after checking that it is the expected one."""
    key = find_key(folder)
    if not key or key_id(key) != expected_id:
        found = "another key is there now" if key else "there is no key now"
        raise RunError(
            f"{what}: it needs the key it was made with, and {found}. Restore {KEY_FILE} ({folder} or above), or "
            f"set {KEY_VARIABLE} as it was."
        )
    return key


def _hash(customer_id: str, *, key: str, use: str) -> str:
    return hashlib.sha256(SEPARATOR.join((key, use, customer_id, key)).encode("utf-8", "surrogatepass")).hexdigest()


def _hash_sql(keys: str, *, number: int, use: str, column: str = "customer_id") -> str:
    """Return SQL that hashes a column as `_hash` does."""
    key = f'(select key from "{keys}" where number = {number})'
    return f"sha256({key} || chr(31) || '{use}' || chr(31) || {column} || chr(31) || {key})"
