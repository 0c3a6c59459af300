"""Run the chain and deliver its digest; where it fails or is stopped, an alert in its place."""

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segkit.data.io import mask_secrets
from segkit.errors import SegkitError
from segkit.notebook import chain
from segkit.notebook.steps import resolve, source_path
from segkit.texts import ENGLISH, languages

if TYPE_CHECKING:
    from segkit.assist.digest import Digest


def run_with_digest(*, digest: str = "", **options: Any) -> Path | str:
    """Run the chain; a digest of it goes to a file or a webhook, if one is given.

    Parameters
    ----------
    digest
        As the target of `segkit.assist.delivery.deliver`; empty delivers nothing.
    **options
        Of `segkit.notebook.chain.run_chain`.

    Returns
    -------
    Path or str
        As of ``run_chain``. A delivery that fails is a line on stderr, and no failure of the run.

    Raises
    ------
    InputError
        The target cannot be used; nothing was run.
    """
    if not digest:
        return chain.run_chain(**options)
    # slow to import, and not needed where no digest goes anywhere
    from segkit.assist.delivery import check_target
    from segkit.assist.digest import make_digest
    from segkit.assist.questions import ask

    check_target(digest)
    try:
        page = chain.run_chain(**options)
    except (Exception, KeyboardInterrupt) as error:
        _deliver(_alert(error, options, target=digest), digest, what="The run had failed already")
        raise
    if isinstance(page, Path):  # not a dry run
        try:
            made = make_digest(ask(page.parent))
        except SegkitError as error:
            chain.print_progress(f"there is no digest of this run: {error}")
            return page
        _deliver(made, digest, what="The run is complete")
    return page


def _alert(error: BaseException, options: dict[str, Any], *, target: str) -> "Digest":
    from segkit.assist.digest import make_alert  # slow to import, and not needed where nothing fails

    source, as_of = Path(str(options.get("source", ""))).stem, str(options.get("as_of") or "")
    with suppress(SegkitError, TypeError):  # of a source that cannot be read, what was given is known
        windows = {name: options[name] for name in ("lookback_days", "horizon_days", "seed") if name in options}
        given = {"data_dir": options.get("data_dir", ""), "as_of": as_of, **windows}
        made = resolve(source=source_path(str(options.get("source"))), **given)
        source, as_of = made["source_name"], made["as_of"]
    is_stopped = isinstance(error, KeyboardInterrupt)
    known = isinstance(error, SegkitError)
    message = (
        "It was interrupted." if is_stopped else str(error) if known else f"{type(error).__name__}: an error in segkit."
    )
    language = options.get("language") if options.get("language") in languages() else ENGLISH
    message = mask_secrets(message, url=target)
    return make_alert(source=source, as_of=as_of, message=message, stopped=is_stopped, language=language)


def _deliver(digest: "Digest", target: str, *, what: str) -> None:
    from segkit.assist.delivery import deliver  # slow to import, and not needed without a digest

    try:
        chain.print_progress(f"digest: {deliver(digest, target)}")
    except SegkitError as error:
        chain.print_progress(f"{mask_secrets(str(error), url=target)}. {what}.")
