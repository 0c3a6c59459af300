"""No request leaves the machine unless it is asked for: not from a run, not from a page."""

import ast
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from segkit.data.runs import load_run
from segkit.notebook.steps import find_steps

HOME = Path(__file__).parents[2]
CODE = sorted((HOME / "segkit").rglob("*.py"))
PAGES = ["index.html", *(f"{step.name}.html" for step in find_steps() if step.name != "00_overview")]
REACHES = {  # modules that can open a connection, and who asks for it
    "segkit/data/webhook.py": {"http"},  # --digest https://..., and the webhooks of triggers.yaml
    "segkit/data/engine.py": {"socket"},  # --engine spark://host:port
    "segkit/personas/copy.py": {"openai"},  # the notebook parameter that names an endpoint
}
NETWORK = {
    "socket",
    "http",
    "urllib3",
    "requests",
    "httpx",
    "aiohttp",
    "ftplib",
    "smtplib",
    "openai",
    "websocket",
    "boto3",
}
# a network of its own, in which only the machine itself answers: the kernel of the notebooks needs that
ALONE = """
import fcntl, socket, struct, sys
link = struct.pack("16sh", b"lo", 1)
fcntl.ioctl(socket.socket(), 0x8914, link)  # SIOCSIFFLAGS: up
try:
    socket.create_connection(("192.0.2.1", 80), timeout=2)
except OSError:
    pass
else:
    sys.exit("there is a network")
from segkit.cli import main
main()
"""


@pytest.mark.parametrize("path", CODE, ids=lambda path: str(path.relative_to(HOME)))
def test_only_what_is_asked_for_can_open_a_connection(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        imported |= {alias.name.split(".")[0] for alias in node.names} if isinstance(node, ast.Import) else set()
        imported |= {(node.module or "").split(".")[0]} if isinstance(node, ast.ImportFrom) else set()
    assert imported & NETWORK <= REACHES.get(str(path.relative_to(HOME)), set())


class Page(HTMLParser):
    """What a page links to, and its images."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.addresses += [named[name] or "" for name in ("href", "src", "srcset", "action", "data") if name in named]
        self.images += [named] if tag == "img" else []


@pytest.mark.parametrize("name", PAGES)
def test_page_stands_alone_and_describes_its_images(whole_run: Path, name: str) -> None:
    whole = (whole_run / name).read_text(encoding="utf-8")
    text = re.sub(
        r"(<script[^>]*>).*?</script>", r"\1</script>", whole, flags=re.DOTALL
    )  # a browser test watches these
    page = Page(text)
    outside = [a for a in page.addresses if not a.startswith(("#", "data:"))]
    assert all((whole_run / address.split("#")[0]).is_file() for address in outside), outside
    assert set(outside) >= set(PAGES) - {name}
    urls = re.findall(r"(?:https?:)?//[\w.-]+\.\w+", re.sub(r'"data:[^"]*"', "", text))
    assert not [url for url in urls if "www.w3.org" not in url]
    assert all((image.get("alt") or "").strip() for image in page.images)
    assert '<html lang="en"' in text and "<title>" in text and not re.search(r"<script[^>]*\ssrc", text)


@pytest.mark.slow
def test_a_run_needs_no_network(made_up_company: Path, tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-n", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine does not let a process have a network of its own")
    given = ["run", "--source", str(made_up_company), "--out", str(tmp_path / "run"), "--steps", "01-02"]
    environment = {**os.environ, "PYTHONPATH": str(HOME)}
    result = subprocess.run(
        [unshare, "-n", sys.executable, "-c", ALONE, *given],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert load_run(tmp_path / "run").record()["outcome"] == "done"
