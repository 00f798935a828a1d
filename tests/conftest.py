from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from mosquitto import Mosquitto


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[Mosquitto]:
    """A real broker, up, without limits on its queues."""
    directory = tmp_path / "mosquitto"
    directory.mkdir()
    with Mosquitto(directory, ("max_queued_messages 0",)) as broker:
        yield broker
