"""Deliver a digest to a file or a webhook, only when asked; a delivery that fails never fails the run."""

from pathlib import Path

from segkit.assist.digest import Digest, chat_payload
from segkit.data.io import refuse_in_run, write_bytes
from segkit.data.webhook import WebhookError, check_webhook, is_url, post_json
from segkit.errors import InputError, SegkitError

SUFFIXES = {".html": "html", ".htm": "html", ".json": "json", ".txt": "text", ".md": "text"}


class DeliveryError(SegkitError):
    """A digest could not be delivered."""


def check_target(target: str) -> None:
    """Refuse a target before any work: a webhook without https, a variable that is not set, an unknown kind of file.

    Raises
    ------
    InputError
        Says what to give instead.
    """
    if is_url(target):
        check_webhook(target, what="--digest")
        return
    suffix = Path(target).suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"--digest {target[:80]}: give a file that ends in {', '.join(SUFFIXES)}, or https://...")
    if not Path(target).absolute().parent.is_dir():
        raise InputError(f"--digest {target[:80]}: there is no folder {Path(target).parent}. Make it first.")
    refuse_in_run(Path(target).absolute().parent)


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
    if is_url(target):
        try:
            return post_json(target, chat_payload(digest))
        except WebhookError as error:
            raise DeliveryError(f"the digest could not be posted to {error}") from None
    path = Path(target)
    try:
        write_bytes(path, digest.render(SUFFIXES[path.suffix.lower()]).encode("utf-8"))
    except OSError as error:
        raise DeliveryError(f"the digest could not be written to {path} ({error.strerror})") from None
    return str(path)
