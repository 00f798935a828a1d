"""Where the broker is and how we present ourselves there: URL, name and password, TLS files.

It opens local files and nothing else; the connection itself is in `mqtt`.
"""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from streamrnn.errors import CredentialsError

Transport = Literal["tcp", "websockets", "unix"]

_SCHEMES: dict[str, tuple[int, Transport, bool]] = {  # port, transport, TLS
    "mqtt": (1883, "tcp", False),
    "mqtts": (8883, "tcp", True),
    "ws": (80, "websockets", False),
    "wss": (443, "websockets", True),
}


class Will(msgspec.Struct, frozen=True):
    """What the broker publishes for us when the connection breaks without a goodbye."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = True


class Settings(msgspec.Struct, frozen=True):
    """How to reach a broker.

    With `clean_session` false the broker keeps the subscriptions and queues QoS 1 messages while we are away.
    The password and the TLS files are read at each connect, so that they can be renewed.
    """

    url: str
    client_id: str
    username: str | None = None
    password_file: str | None = None
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    clean_session: bool = False
    keepalive: int = 30  # seconds
    will: Will | None = None


class Endpoint(msgspec.Struct, frozen=True):
    """A broker's URL taken apart; `name` is how logs call it."""

    name: str
    host: str  # the path of the socket when the transport is unix
    port: int
    transport: Transport
    tls: bool
    path: str  # of the WebSocket


def endpoint(url: str) -> Endpoint:
    """Take a broker's URL apart.

    Parameters
    ----------
    url
        ``mqtt://host[:1883]``, ``mqtts://host[:8883]``, ``ws://host[:80][/path]``,
        ``wss://host[:443][/path]`` or ``unix:///path``.

    Raises
    ------
    ValueError
        It is none of these; the message says why.

    Examples
    --------
    >>> endpoint("mqtts://broker.example").port
    8883
    >>> endpoint("unix:///run/mosquitto.sock").host
    '/run/mosquitto.sock'
    """
    parts = urlsplit(url)
    if parts.scheme == "unix":
        if parts.netloc or not parts.path.startswith("/"):
            raise ValueError(f"expected unix:///path/of/the/socket, got {url!r}")
        return Endpoint(f"unix://{parts.path}", parts.path, 1883, "unix", False, "")
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"expected mqtt, mqtts, ws, wss or unix before ://, got {parts.scheme or url!r}")
    if parts.username is not None or parts.password is not None:
        # The URL is not repeated: it holds a secret, and this message is logged.
        raise ValueError("user name and password belong in mqtt.username and mqtt.password_file, not in the url")
    default, transport, tls = _SCHEMES[parts.scheme]
    if not parts.hostname:
        raise ValueError(f"expected a host, got {url!r}")
    try:
        port = parts.port or default
    except ValueError:
        raise ValueError(f"expected a port from 1 to 65535, got {url!r}") from None
    path = parts.path or "/mqtt"
    if transport == "tcp" and parts.path not in ("", "/"):
        raise ValueError(f"expected no path after the host, got {url!r}")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Endpoint(f"{parts.scheme}://{host}:{port}", parts.hostname, port, transport, tls, path)


def password(settings: Settings) -> str | None:
    """Read the password, without the newline editors leave at the end.

    Raises
    ------
    CredentialsError
        The file cannot be read.
    """
    if settings.password_file is None:
        return None
    try:
        return Path(settings.password_file).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeError) as exc:
        raise CredentialsError(f"mqtt.password_file: {settings.password_file}: {reason(exc)}") from exc


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Make the TLS context: the system's authorities or `ca`, and our certificate when there is one.

    Raises
    ------
    CredentialsError
        One of the files cannot be read or is not what it should be.
    """
    try:
        context = ssl.create_default_context(cafile=settings.ca)
    except OSError as exc:
        raise CredentialsError(f"mqtt.tls.ca: {settings.ca}: {reason(exc)}") from exc
    if settings.cert is not None:
        try:
            # Without a password here OpenSSL would ask for one on the terminal of a daemon.
            context.load_cert_chain(settings.cert, settings.key, password="")
        except OSError as exc:
            files = " and ".join(filter(None, (settings.cert, settings.key)))
            raise CredentialsError(f"mqtt.tls.cert and mqtt.tls.key: {files}: {reason(exc)}") from exc
    return context


def reason(exc: BaseException) -> str:
    """Say in a few words why the system refused.

    Examples
    --------
    >>> reason(ConnectionRefusedError(111, "Connection refused"))
    'connection refused'
    """
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"TLS: {exc.verify_message}"
    if isinstance(exc, ssl.SSLError):
        return f"TLS: {(exc.reason or str(exc)).replace('_', ' ').lower()}"
    if isinstance(exc, socket.gaierror):
        return f"host name not found ({exc.strerror})"
    if isinstance(exc, TimeoutError):
        return "no answer in time"
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror.lower()
    return str(exc) or type(exc).__name__
