"""aiomqtt and paho as one daemon's link to its broker: acknowledge by hand, pause reading, never miss a loss.

The only file that imports them. It connects once when told to; trying again is the business of `mqtt`.
"""

from __future__ import annotations

import asyncio
import logging
import math
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import aiomqtt
from aiomqtt.exceptions import MqttConnectError
from paho.mqtt.client import MQTTMessage
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.reasoncodes import ReasonCode

from streamrnn.edges.endpoint import Endpoint, Settings, password, reason, tls_context
from streamrnn.events import Message

log = logging.getLogger(__name__)

PACKETS_PER_WAKEUP = 200
ANSWER_S = 10.0  # for the broker to answer CONNECT
GOODBYE_S = 2.0

_CREDENTIALS = "check mqtt.username and mqtt.password_file"
_REFUSALS = {
    0x84: "it does not speak MQTT 3.1.1",
    0x85: "client id not valid; check mqtt.client_id",
    0x86: f"bad user name or password; {_CREDENTIALS}",
    0x87: f"not authorised; {_CREDENTIALS}",
    0x88: "server unavailable",
}


class Unreachable(Exception):  # noqa: N818
    """No connection came about; the message says why in a few words."""


class Refused(Unreachable):
    """The broker answered, and said no."""


class Link(aiomqtt.Client):
    """aiomqtt with what a daemon needs: acknowledging by hand, reading that can pause, no loss unseen.

    One object serves all the connections of a run: paho keeps in it the publishes not yet acknowledged.
    """

    def __init__(
        self,
        settings: Settings,
        where: Endpoint,
        counts: Counter[str],
        *,
        answered: Callable[[bool], None] = lambda session_present: None,  # noqa: ARG005
        arrived: Callable[[Message], None] = lambda message: None,  # noqa: ARG005
        published: Callable[[int], None] = lambda mid: None,  # noqa: ARG005
    ) -> None:
        will = settings.will
        super().__init__(
            where.host,
            where.port,
            identifier=settings.client_id,
            clean_session=settings.clean_session,
            keepalive=settings.keepalive,
            will=None if will is None else aiomqtt.Will(will.topic, will.payload, will.qos, will.retain),
            transport=where.transport,
            websocket_path=where.path if where.transport == "websockets" else None,
            max_inflight_messages=0,  # With a limit paho walks over all that is outstanding at every PUBACK.
        )
        self.paho = self._client
        self.paho.manual_ack_set(True)
        self.paho.disable_logger()  # What is worth a line is logged here, in our words.
        self.lost: asyncio.Future[str] = self._loop.create_future()
        self._sock: Any = None  # once the loop has it
        self._reading = False
        self._settings = settings
        self._where = where
        self._counts = counts
        self._answered, self._arrived, self._published = answered, arrived, published
        self._abandoned = False
        self._again: asyncio.Handle | None = None
        self._loop_thread = threading.get_ident()

    async def open(self) -> None:
        """Connect and wait for the broker's answer.

        Not by aiomqtt's `__aenter__`: that takes the answer to the first connection for that of every later
        one, and forgets a loss that comes right after the answer.

        Raises
        ------
        BrokerError
            One of our own files cannot be read.
        Unreachable
            Anything else.
        """
        self._connected = self._loop.create_future()
        self.lost = self._loop.create_future()
        self._abandoned = False
        try:
            await asyncio.to_thread(self._client_connect)
            async with asyncio.timeout(ANSWER_S):  # wait_for of Python 3.11 can swallow our cancellation
                await self._connected
        except MqttConnectError as exc:
            self.abandon()
            code = exc.rc.value if isinstance(exc.rc, ReasonCode) else exc.rc
            raise Refused(_REFUSALS.get(code or 0, str(exc))) from exc
        except (OSError, UnicodeError, aiomqtt.MqttError) as exc:
            self.abandon()
            raise Unreachable(reason(exc)) from exc
        except BaseException:
            self.abandon()
            raise

    async def close(self) -> None:
        """Say goodbye, so that the broker does not publish our will, and close the socket."""
        if self.paho.disconnect() == MQTTErrorCode.MQTT_ERR_SUCCESS:
            await asyncio.wait({self.lost}, timeout=GOODBYE_S)
        self.abandon()

    def abandon(self) -> None:
        """Close the socket without a word, also one that a thread is still opening."""
        self._abandoned = True
        self.paho._sock_close()

    async def subscribed(self, topics: Sequence[tuple[str, int]]) -> list[int]:
        """Subscribe; returns the QoS granted to each, 0x80 where it was refused."""
        # No time limit: the answer may wait behind messages we do not read now, and pings find a dead broker.
        try:
            codes = await self.subscribe(list(topics), timeout=math.inf)
        except aiomqtt.MqttError as exc:
            raise Unreachable("connection closed") from exc
        return [code.value if isinstance(code, ReasonCode) else code for code in codes]

    async def unsubscribed(self, topics: Sequence[str]) -> None:
        """Unsubscribe, and wait for the broker's answer."""
        try:
            await self.unsubscribe(list(topics), timeout=math.inf)
        except aiomqtt.MqttError as exc:
            raise Unreachable("connection closed") from exc

    def acknowledge(self, message: Message) -> None:
        """Tell the broker that a message is ours now; nothing at QoS 0."""
        if message.qos:
            self.paho.ack(message.mid, message.qos)

    def send(self, topic: str, payload: bytes, qos: int, retain: bool) -> int | None:
        """Queue one publish; returns its packet id, None when it was QoS 0 and there is no connection.

        Raises
        ------
        ValueError
            The topic or the payload cannot be sent by MQTT.
        """
        info = self.paho.publish(topic, payload, qos, retain)
        while info.rc == MQTTErrorCode.MQTT_ERR_QUEUE_SIZE:  # That packet id still waits for its acknowledgement.
            info = self.paho.publish(topic, payload, qos, retain)
        return None if qos == 0 and info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS else info.mid

    def read_on(self) -> None:
        """Read from the socket (again)."""
        if not self._reading and self._sock is not None:
            self._reading = True
            self._loop.add_reader(self._sock.fileno(), self._read)
            self._read_soon_if_decrypted()

    def read_no_more(self) -> None:
        """Leave what comes in the kernel's buffer, until TCP tells the broker to wait."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._sock.fileno())

    def _client_connect(self) -> None:  # in a thread: it reads files and blocks
        if self._settings.username is not None:
            self.paho.username_pw_set(self._settings.username, password(self._settings))
        if self._where.tls:
            self.paho._ssl_context = None  # paho accepts one context only, but certificates are renewed.
            self.paho.tls_set_context(tls_context(self._settings))
        super()._client_connect()

    def _read(self) -> None:
        # Not paho's loop_read: it reads as many packets as we have publishes outstanding, whoever is full.
        try:
            for _ in range(PACKETS_PER_WAKEUP):
                if not self._reading:
                    return
                rc = self.paho._packet_read()
                if rc == MQTTErrorCode.MQTT_ERR_AGAIN:
                    if not self._decrypted():
                        return
                elif rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
                    self.paho._loop_rc_handle(rc)
                    return
        except Exception as exc:  # whatever paho trips over in a broken packet
            log.debug("unreadable packet", exc_info=True)
            self._drop(f"unreadable packet ({type(exc).__name__})")
        self._read_soon_if_decrypted()

    def _decrypted(self) -> int:
        """Bytes TLS has decrypted already: the selector does not know of them."""
        pending = getattr(self._sock, "pending", None)
        return int(pending()) if pending is not None else 0

    def _read_soon_if_decrypted(self) -> None:
        if self._reading and self._again is None and self._decrypted():
            self._again = self._loop.call_soon(self._read_again)

    def _read_again(self) -> None:
        self._again = None
        self._read()

    def _write(self) -> None:
        try:
            self.paho.loop_write()
        except Exception as exc:
            self._drop(reason(exc))

    def _drop(self, why: str) -> None:
        self.paho._sock_close()
        self._lose(why)

    def _lose(self, why: str) -> None:
        if not self.lost.done():
            self.lost.set_result(why)
        if not self._connected.done():
            self._connected.set_exception(aiomqtt.MqttError(f"{why} before it answered"))

    async def _misc_loop(self) -> None:
        while True:
            if not self._reading:
                self.paho._ping_t = 0.0  # The answer to our ping is there, behind the messages we do not read now.
            if self.paho.loop_misc() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return
            await asyncio.sleep(min(1.0, self._settings.keepalive / 4 or 1.0))

    def _on_connect(
        self, _client: Any, _userdata: Any, flags: Any, reason_code: ReasonCode, _properties: Any = None
    ) -> None:
        if self._connected.done():
            return
        if reason_code.is_failure:
            self._connected.set_exception(MqttConnectError(reason_code))
        else:
            self._answered(bool(flags.session_present))
            self._connected.set_result(None)

    def _on_disconnect(
        self, _client: Any, _userdata: Any, _flags: Any, reason_code: ReasonCode, _properties: Any = None
    ) -> None:
        silent = reason_code.getName() == "Keep alive timeout"
        self._lose("no answer to our ping" if silent else "connection closed")

    def _on_message(self, _client: Any, _userdata: Any, message: MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            self._counts["undecodable"] += 1
            self.paho.ack(message.mid, message.qos)  # or it would come at every connect
            return
        self._arrived(
            Message(
                topic=topic,
                payload=bytes(message.payload),
                qos=message.qos,
                retain=message.retain,
                dup=message.dup,
                mid=message.mid,
                arrival=time.time(),
                clock_ns=time.monotonic_ns(),
            )
        )

    def _on_publish(self, _client: Any, _userdata: Any, mid: int, *_rest: Any) -> None:
        self._published(mid)

    # paho calls the next two from the thread that connects, or from the loop.
    def _on_socket_open(self, _client: Any, _userdata: Any, sock: Any) -> None:
        self._loop.call_soon_threadsafe(self._opened, sock)

    def _on_socket_register_write(self, _client: Any, _userdata: Any, sock: Any) -> None:
        if threading.get_ident() == self._loop_thread:
            self._write_on(sock)
        else:
            self._loop.call_soon_threadsafe(self._write_on, sock)

    def _opened(self, sock: Any) -> None:
        if self._abandoned:
            self.paho._sock_close()
            return
        raw = getattr(sock, "_socket", sock)  # paho wraps the socket of a WebSocket
        if raw.family != socket.AF_UNIX:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._misc_task = self._loop.create_task(self._misc_loop(), name="mqtt keepalive")
        self.read_on()

    def _write_on(self, sock: Any) -> None:
        if self._sock is sock:
            self._loop.add_writer(sock.fileno(), self._write)

    def _on_socket_close(self, _client: Any, _userdata: Any, _sock: Any) -> None:
        self.read_no_more()
        self._sock = None
        if self._misc_task is not None:
            self._misc_task.cancel()
