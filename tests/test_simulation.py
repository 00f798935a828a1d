"""Whole lives of a service, each from a seed; see `simulation`. A seed that fails fails again: `live(seed)`."""

from __future__ import annotations

import pytest
from simulation import live

TOGETHER = 10


@pytest.mark.parametrize("first", range(0, 150, TOGETHER))
def test_a_life_with_every_trouble_ends_as_one_without(first: int) -> None:
    for seed in range(first, first + TOGETHER):
        try:
            live(seed)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


def test_the_troubles_do_happen() -> None:
    lives = [live(seed) for seed in range(150, 170)]
    assert sum(life.counts["deaths"] for life in lives) > 20
    assert sum(life.counts["paused"] for life in lives) > 20
    assert sum(life.counts["reset"] for life in lives) > 5
    assert sum(life.counts["recognised"] for life in lives) > 5
    for trouble in ("reloads", "rots", "parked rots", "stops", "stopped recoveries"):
        assert sum(life.counts[trouble] for life in lives), trouble
    assert sum(life.store.counts["checkpoints"] for life in lives if life.store) > 5
