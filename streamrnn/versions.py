"""Versions of what is installed: for bug reports, and for whoever watches a service."""

from __future__ import annotations

import importlib.metadata
import platform

from streamrnn import __version__


def versions() -> dict[str, str]:
    """Return the versions of streamrnn and of what it runs on."""
    return {
        "streamrnn": __version__,
        "python": platform.python_version(),
        "numba": importlib.metadata.version("numba"),
        "numpy": importlib.metadata.version("numpy"),
    }
