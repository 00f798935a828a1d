"""The small HTTP server: what it answers, and that no client can hold it up."""

from __future__ import annotations

import asyncio
import http.client
import logging
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from streamrnn.edges import http as serving_http
from streamrnn.edges.http import CONNECTIONS_MAX, Answer, serving
from streamrnn.errors import StreamrnnError
from streamrnn.serving.health import Health

Address = tuple[str, int]
LIMIT_S = 60.0


def hello(accept: str) -> Answer:
    return Answer(200, "text/plain", f"hello {accept}".encode())


def broken(_accept: str) -> Answer:
    raise ValueError("a mistake of ours")


@pytest.fixture
def address() -> Iterator[Address]:
    with serving("127.0.0.1:0", {"/hello": hello, "/broken": broken}) as where:
        yield where


def ask(where: Address, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(*where, timeout=LIMIT_S)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_a_page_is_answered_with_its_kind_and_length(address: Address) -> None:
    status, headers, body = ask(address, "/hello?x=1", Accept="anything")
    assert (200, b"hello anything") == (status, body)
    assert ("text/plain", "14") == (headers["Content-Type"], headers["Content-Length"])
    assert headers["Server"].strip() == "streamrnn"  # not which Python it is


def test_head_is_answered_without_the_body(address: Address) -> None:
    status, headers, body = ask(address, "/hello", "HEAD", Accept="x")
    assert (200, "7", b"") == (status, headers["Content-Length"], body)


def test_another_path_is_not_found_and_says_what_there_is(address: Address) -> None:
    status, _, body = ask(address, "/metrisc")
    assert (404, b"not found; there is /hello, /broken\n") == (status, body)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_other_methods_are_refused(address: Address, method: str) -> None:
    assert ask(address, "/hello", method)[0] == 501


def test_a_page_that_fails_is_logged_and_the_next_request_is_answered(
    address: Address, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR), pytest.raises(http.client.RemoteDisconnected):
        ask(address, "/broken")
    assert "a mistake of ours" in caplog.text
    assert ask(address, "/hello")[0] == 200


def test_clients_that_say_nothing_do_not_keep_others_out(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_http._Request, "timeout", 10 * LIMIT_S)
    silent = [socket.create_connection(address) for _ in range(3 * CONNECTIONS_MAX)]
    try:
        assert ask(address, "/hello")[0] == 200
        silent[0].settimeout(LIMIT_S)
        assert silent[0].recv(1) == b""  # the oldest was hung up on
    finally:
        for each in silent:
            each.close()


def test_a_client_that_says_nothing_is_hung_up_on(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving_http._Request, "timeout", 0.1)
    with socket.create_connection(address, timeout=LIMIT_S) as silent:
        assert silent.recv(1) == b""


def test_an_address_in_use_is_one_clear_line(address: Address) -> None:
    listen = f"127.0.0.1:{address[1]}"
    with (
        pytest.raises(StreamrnnError, match=f"^http.listen: cannot listen on {listen}: address already in use$"),
        serving(listen, {}),
    ):
        pass


def test_nothing_listens_any_more_after_the_block() -> None:
    with serving("127.0.0.1:0", {"/hello": hello}) as where:
        pass
    with pytest.raises(ConnectionRefusedError):
        ask(where, "/hello")


def test_it_listens_on_ipv6_too() -> None:
    with serving("[::1]:0", {"/hello": hello}) as where:
        assert ask(where, "/hello")[0] == 200


# Whether the loop is alive: asked beside it


class Loop:
    """An event loop on a thread, to be blocked at will."""

    def __enter__(self) -> Loop:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        return self

    def block(self, until: threading.Event) -> None:
        self.loop.call_soon_threadsafe(until.wait, LIMIT_S)
        time.sleep(0.05)

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


def test_a_loop_that_answers_is_alive_and_one_that_is_blocked_or_closed_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = threading.Event()
    with Loop() as on:
        health = Health(None, on.loop)  # type: ignore[arg-type]
        monkeypatch.setattr("streamrnn.serving.health.PATIENCE_S", LIMIT_S)
        assert health.live("") == Answer(200, "application/json", b'{"status":"alive"}\n')
        monkeypatch.setattr("streamrnn.serving.health.PATIENCE_S", 0.2)
        on.block(free)
        stuck = health.live("")
        free.set()
    assert (503, True) == (stuck.status, b"has not answered for 0.2 s" in stuck.body)
    assert health.live("").status == 503
