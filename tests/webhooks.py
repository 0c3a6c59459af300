"""A webhook on this machine, for tests of what is delivered."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest


@pytest.fixture
def webhook() -> Iterator[Any]:
    """A local server that answers with the given statuses, one after the other, and keeps what it got."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            is_lines = self.headers["Content-Type"] == "application/x-ndjson"
            read = [json.loads(line) for line in body.splitlines()] if is_lines else json.loads(body)
            server.got.append((self.path, read))
            server.headers.append(dict(self.headers))
            self.send_response(server.statuses.pop(0))
            self.send_header("Location", "http://127.0.0.1:9/elsewhere")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.got, server.headers, server.statuses = [], [], []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()
