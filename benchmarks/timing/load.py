"""A client that costs little, to load a daemon and a broker with: MQTT 3.1.1 by hand, packets made beforehand."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence

SILENCE_S = 60.0  # after which something is broken
_PUBLISH, _SUBACK, _CONNACK = 3, 9, 2


class Load:
    """Publishes on one topic, and counts what comes on another (asked for at QoS 0, so that nothing is answered).

    Parameters
    ----------
    port
        Of the broker on this machine.
    name
        The client's.
    topic
        The answers'.
    """

    def __init__(self, port: int, name: str, topic: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=SILENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._got: list[int] = []  # kinds of packets
        self._ask(0x10, _text("MQTT") + bytes((4, 2, 0, 0)) + _text(name), _CONNACK)
        self._ask(0x82, b"\0\1" + _text(topic) + b"\0", _SUBACK)

    def close(self) -> None:
        """Say goodbye."""
        self._socket.sendall(bytes((0xE0, 0)))
        self._socket.close()

    def closed_loop(self, packets: Sequence[bytes], in_flight: int) -> float:
        """Send all, never more than so many without an answer; return the answers a second."""
        sent = answered = 0
        began = time.perf_counter()
        while answered < len(packets):
            room = min(in_flight - (sent - answered), len(packets) - sent)
            if room > 0:
                self._socket.sendall(b"".join(packets[sent : sent + room]))
                sent += room
            answered += self._take(SILENCE_S)
        return len(packets) / (time.perf_counter() - began)

    def paced(self, packets: Sequence[bytes], rate: float) -> list[float]:
        """Send one after the other at a rate; return the milliseconds to each answer. They come in order."""
        sent: list[float] = []
        taken: list[float] = []
        began = time.perf_counter()
        while len(taken) < len(packets):
            now = time.perf_counter()
            due = began + len(sent) / rate
            if len(sent) < len(packets) and now >= due:
                self._socket.sendall(packets[len(sent)])
                sent.append(now)
                continue
            wait = due - now if len(sent) < len(packets) else SILENCE_S
            if select.select([self._socket], [], [], max(wait, 0.0))[0]:
                count = self._take(SILENCE_S)
                now = time.perf_counter()
                taken += [1000.0 * (now - sent[len(taken) + i]) for i in range(count)]
            elif len(sent) == len(packets):
                raise TimeoutError(f"{len(taken)} of {len(packets)} answers came")
        return taken

    def _ask(self, kind: int, body: bytes, answer: int) -> None:
        self._socket.sendall(_packet(kind, body))
        while answer not in self._got:
            self._take(SILENCE_S)
        self._got.clear()

    def _take(self, limit_s: float) -> int:
        """Read what there is, waiting for the first of it; return how many messages came."""
        self._socket.settimeout(limit_s)
        data = self._socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the broker closed the connection")
        buffer = self._buffer
        buffer += data
        place, messages, end = 0, 0, len(buffer)
        while place + 2 <= end:
            length, shift, at = 0, 0, place + 1
            while at < end:
                byte = buffer[at]
                length |= (byte & 0x7F) << shift
                shift += 7
                at += 1
                if byte < 0x80:
                    break
            else:
                break
            if at + length > end:
                break
            kind = buffer[place] >> 4
            if kind == _PUBLISH:
                messages += 1
            else:
                self._got.append(kind)
            place = at + length
        del buffer[:place]
        return messages


def packets(topic: str, payloads: Sequence[bytes], qos: int) -> list[bytes]:
    """Return a publish of each payload. With an id of its own each: no more than 65,535 at a time are under way."""
    name = _text(topic)
    if not qos:
        return [_packet(0x30, name + payload) for payload in payloads]
    return [
        _packet(0x32, name + (1 + i % 65_535).to_bytes(2, "big") + payload) for i, payload in enumerate(payloads)
    ]


def _text(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


def _packet(kind: int, body: bytes) -> bytes:
    length, digits = len(body), bytearray()
    while True:
        length, digit = divmod(length, 128)
        digits.append(digit | (0x80 if length else 0))
        if not length:
            return bytes((kind,)) + bytes(digits) + body
