"""A small HTTP server on threads of its own, for short answers to tools on the same network. GET and HEAD only.

It knows no page: whoever starts it says what is answered. Nothing here waits for, or holds up, the event loop.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from streamrnn.edges.disk import words
from streamrnn.errors import StreamrnnError

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 8  # at a time; one more, and the oldest is hung up on
SILENCE_S = 5.0  # until one that says nothing is hung up on


class Answer(NamedTuple):
    """What is sent back."""

    status: int
    kind: str  # the Content-Type
    body: bytes


Page = Callable[[str], Answer]
"""Given the Accept header of a request, gives its answer. Called on any thread."""


@contextmanager
def serving(listen: str, pages: Mapping[str, Page]) -> Iterator[tuple[str, int]]:
    """Serve pages, by their paths, until the end of the block; gives the address.

    Raises
    ------
    StreamrnnError
        The address cannot be listened on.
    """
    host, _, port = listen.rpartition(":")
    try:
        server = _Server((host.strip("[]"), int(port)), pages)
    except OSError as error:
        raise StreamrnnError(f"http.listen: cannot listen on {listen}: {words(error)}") from error
    threading.Thread(target=server.serve_forever, name="http", daemon=True).start()
    try:
        yield server.server_address[0], server.server_address[1]  # type: ignore[misc]
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], pages: Mapping[str, Page]) -> None:
        self.pages = pages
        self._open: dict[socket.socket, None] = {}  # in the order in which they came
        self._lock = threading.Lock()
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Request)

    def server_bind(self) -> None:
        """Bind, without asking a name server for our own name, as the library would."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer on a thread; there are never many, whatever their clients do."""
        with self._lock:
            if len(self._open) >= CONNECTIONS_MAX:
                oldest = next(iter(self._open))
                del self._open[oldest]
                with suppress(OSError):
                    oldest.shutdown(socket.SHUT_RDWR)
            self._open[request] = None
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close a connection that is done with."""
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        """Note what went wrong with one request, unless its client just went away."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            log.error("http: a request failed", exc_info=error)


class _Request(BaseHTTPRequestHandler):
    server: _Server
    timeout = SILENCE_S
    server_version = "streamrnn"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with a page."""
        page = self.server.pages.get(self.path.partition("?")[0])
        if page is None:
            there = ", ".join(self.server.pages)
            answer = Answer(404, "text/plain; charset=utf-8", f"not found; there is {there}\n".encode())
        else:
            answer = page(self.headers.get("Accept", ""))
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.kind)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_HEAD = do_GET  # noqa: N815 the library looks for these names

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: whoever scrapes comes every few seconds."""
