"""streamrnn: recurrent networks that learn from MQTT streams, one event at a time."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from streamrnn.build import build_pipelines as build_pipelines
    from streamrnn.config import load as load
    from streamrnn.events import Event as Event
    from streamrnn.events import Message as Message
    from streamrnn.learn.network import Network as Network

__version__ = "0.1.0"
__all__ = ["Event", "Message", "Network", "build_pipelines", "load"]

_HOMES = {
    "Event": "events",
    "Message": "events",
    "Network": "learn.network",
    "build_pipelines": "build",
    "load": "config",
}


def __getattr__(name: str) -> object:
    """Import what is asked for when it is: Numba takes a second, and `streamrnn version` does not need it."""
    if name in _HOMES:
        return getattr(import_module(f"streamrnn.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'streamrnn' has no attribute {name!r}")
