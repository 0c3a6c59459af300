"""Deliver a digest to a file or a webhook, only when asked; a delivery that fails never fails the run."""

import json
import ssl
import time
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from segkit import __version__
from segkit.assist.digest import Digest, chat_payload
from segkit.data.io import VARIABLE, expand_variables, refuse_in_run, write_bytes
from segkit.errors import InputError, SegkitError

TRIES = 3
WAIT_SECONDS = (1, 3)  # before the second and the third try
TIMEOUT_SECONDS = 10
SUFFIXES = {".html": "html", ".htm": "html", ".json": "json", ".txt": "text", ".md": "text"}
AT_HOME = ("localhost", "127.0.0.1", "::1")  # hosts that may be called without encryption
AGAIN = (408, 425, 429, *range(500, 600))  # answers after which another try may help


class DeliveryError(SegkitError):
    """A digest could not be delivered."""


def check_target(target: str) -> None:
    """Refuse a target before any work: a webhook without https, a variable that is not set, an unknown kind of file.

    Raises
    ------
    InputError
        Says what to give instead.
    """
    if "://" not in target:
        suffix = Path(target).suffix.lower()
        if suffix not in SUFFIXES:
            raise InputError(f"--digest {target[:80]}: give a file that ends in {', '.join(SUFFIXES)}, or https://...")
        if not Path(target).absolute().parent.is_dir():
            raise InputError(f"--digest {target[:80]}: there is no folder {Path(target).parent}. Make it first.")
        refuse_in_run(Path(target).absolute().parent)
        return
    url = expand_variables(target)
    unset = [first or second for first, second in VARIABLE.findall(url)]
    if unset:
        raise InputError(
            f"--digest: the environment variable {unset[0]} is not set. Set it to the secret of the webhook."
        )
    address = _parse(url)
    if not address.hostname or address.scheme not in ("http", "https"):
        raise InputError("--digest: this is no address of a webhook. Give https://..., or a file.")
    if address.scheme == "http" and address.hostname not in AT_HOME:
        raise InputError(f"--digest: {address.hostname} is called without encryption. Give https://...")


def deliver(digest: Digest, target: str) -> str:
    """Write a digest to a file, or post it to a webhook; says where it went.

    Parameters
    ----------
    target
        A file that ends in .html, .json, .txt or .md, or the address of a webhook, with secrets as ``$NAME``. It gets
        JSON with ``text`` for chat and ``digest`` for machines. Redirects are not followed.

    Raises
    ------
    DeliveryError
        The webhook did not take it in three tries, or the file cannot be written.
    """
    if "://" not in target:
        path = Path(target)
        try:
            write_bytes(path, digest.render(SUFFIXES[path.suffix.lower()]).encode("utf-8"))
        except OSError as error:
            raise DeliveryError(f"the digest could not be written to {path} ({error.strerror})") from None
        return str(path)
    address = _parse(expand_variables(target))
    body, problem = json.dumps(chat_payload(digest), ensure_ascii=False).encode("utf-8"), ""
    for attempt in range(TRIES):
        try:
            status = _post(address, body)
        except (OSError, HTTPException, ssl.SSLError) as error:
            status, problem = 503, type(error).__name__
        else:
            problem = f"it answered {status}"
        if 200 <= status < 300:
            return str(address.hostname)
        if status not in AGAIN:
            break
        if attempt < len(WAIT_SECONDS):
            time.sleep(WAIT_SECONDS[attempt])
    redirected = ", which leads to another address" if 300 <= status < 400 else ""
    raise DeliveryError(f"the digest could not be posted to {address.hostname} ({problem}{redirected})")


def _parse(url: str) -> SplitResult:
    try:
        address = urlsplit(url)
        _ = address.port
    except ValueError:
        raise InputError("--digest: this is no address of a webhook. Give https://..., or a file.") from None
    return address


def _post(address: SplitResult, body: bytes) -> int:
    """Post JSON once and return the status; the answer is not read, nor is a redirect followed."""
    kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
    connection = kind(address.hostname, address.port, timeout=TIMEOUT_SECONDS)
    try:
        path = (address.path or "/") + (f"?{address.query}" if address.query else "")
        headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": f"segkit/{__version__}"}
        connection.request("POST", path, body=body, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()
