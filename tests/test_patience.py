"""How long a broker is waited for, and how much is said of it."""

from __future__ import annotations

import pytest

from streamrnn.edges.endpoint import endpoint
from streamrnn.edges.patience import REFUSED_S, SHORT_EVERY, SHORT_MAX, STABLE_S, Patience


@pytest.fixture
def patience() -> Patience:
    return Patience(endpoint("mqtt://localhost"), "edge")


def test_a_broker_that_is_away_is_tried_again_within_a_second_however_long_it_was(patience: Patience) -> None:
    assert all(0.0 < patience.delay_s() < 1.0 for _ in range(1000))


def test_one_that_says_no_is_left_in_peace(patience: Patience) -> None:
    patience.refused("not authorised")
    assert REFUSED_S / 2 <= [patience.delay_s() for _ in range(20)][-1] <= REFUSED_S


def test_connections_that_do_not_last_fill_no_log(patience: Patience, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2 * SHORT_EVERY):
        patience.lost("put off", 1.0)
    said = [record.message for record in caplog.records]
    assert SHORT_MAX + 2 == sum(message.startswith("lost the connection") for message in said)
    assert 3 == sum("is another client using client_id 'edge'?" in message for message in said)
    caplog.clear()
    patience.lost("a restart", STABLE_S)
    assert ["lost the connection to mqtt://localhost:1883: a restart"] == [
        record.message for record in caplog.records
    ]
