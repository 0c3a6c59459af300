"""Post to the webhook of another program, with few tries and without following it anywhere else."""

import json
import time
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import SplitResult, quote, urlsplit

from segkit import __version__
from segkit.data.io import VARIABLE, expand_variables
from segkit.errors import InputError, SegkitError

TRIES = 3
WAIT_SECONDS = (1, 3)  # before the second and the third try
TIMEOUT_SECONDS = 10
AT_HOME = ("localhost", "127.0.0.1", "::1")  # hosts that may be called without encryption
IN_PATHS = "!#$%&'()*+,/:;=?@[]~"  # marks of an address that are sent as they are; other letters are encoded
AGAIN = (408, 425, 429, *range(500, 600))  # answers after which another try may help


class WebhookError(SegkitError):
    """A webhook did not take what was posted; the message does not contain its address, only its host."""


def is_url(target: str) -> bool:
    """Return whether a target is the address of a webhook, and not a file."""
    return "://" in target


def check_webhook(target: str, *, what: str) -> None:
    """Refuse an address before any work: without https, or with a variable that is not set.

    Parameters
    ----------
    target
        The address, with secrets as ``$NAME``.
    what
        The option or key that holds it, for messages.

    Raises
    ------
    InputError
        Says what to give instead.
    """
    url = expand_variables(target)
    unset = [first or second for first, second in VARIABLE.findall(url)]
    if unset:
        raise InputError(
            f"{what}: the environment variable {unset[0]} is not set. Set it to the secret of the webhook."
        )
    address = _parse(url, what=what)
    if not address.hostname or address.scheme not in ("http", "https"):
        raise InputError(f"{what}: this is no address of a webhook. Give https://..., or a file.")
    if address.scheme == "http" and address.hostname not in AT_HOME:
        raise InputError(f"{what}: {address.hostname} is called without encryption. Give https://...")


def post_json(target: str, payload: Mapping[str, Any]) -> str:
    """Post an object as JSON to a webhook and return its host; as `post`."""
    body = json.dumps(payload, ensure_ascii=False).encode("utf-8", "backslashreplace")
    return post(target, body, content_type="application/json; charset=utf-8")


def post(target: str, body: bytes, *, content_type: str, headers: Mapping[str, str] | None = None) -> str:
    """Post a text to a webhook and return its host; redirects are not followed.

    Parameters
    ----------
    target
        An address that `check_webhook` accepts.
    body
        What is posted.
    content_type, headers
        What it is, and further headers.

    Raises
    ------
    WebhookError
        The webhook did not take it in three tries.
    """
    address, problem, status = _parse(expand_variables(target), what="webhook"), "", 0
    sent = {"Content-Type": content_type, "User-Agent": f"segkit/{__version__}", **(headers or {})}
    for attempt in range(TRIES):
        try:
            status = _post(address, body, headers=sent)
        except (OSError, HTTPException, ValueError) as error:
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
    raise WebhookError(f"{address.hostname} ({problem}{redirected})")


def _parse(url: str, *, what: str) -> SplitResult:
    try:
        address = urlsplit(url)
        _ = address.port, (address.hostname or "").encode("idna")
    except ValueError:
        raise InputError(f"{what}: this is no address of a webhook. Give https://..., or a file.") from None
    return address


def _post(address: SplitResult, body: bytes, *, headers: Mapping[str, str]) -> int:
    """Post once and return the status; the answer is not read, nor is a redirect followed."""
    kind = HTTPSConnection if address.scheme == "https" else HTTPConnection
    connection = kind(address.hostname, address.port, timeout=TIMEOUT_SECONDS)
    try:
        path = (address.path or "/") + (f"?{address.query}" if address.query else "")
        connection.request("POST", quote(path, safe=IN_PATHS), body=body, headers=dict(headers))
        return connection.getresponse().status
    finally:
        connection.close()
