"""What is noted is counted once, in its class, whoever reads meanwhile."""

from __future__ import annotations

import threading

import pytest

from streamrnn.durations import BOUNDS_S, FOLD, Durations


def test_a_duration_belongs_to_the_first_class_whose_bound_it_does_not_exceed() -> None:
    durations = Durations()
    for ns in (1, 25_000, 25_001, 2_500_000, 31_000_000_000):
        durations.note(ns)
    counts, total = durations.read()
    found = {bound: int(count) for bound, count in zip([*BOUNDS_S, None], counts, strict=True) if count}
    assert {25e-6: 2, 50e-6: 1, 2.5e-3: 1, None: 1} == found
    assert total == pytest.approx(31.002550002)


def test_reading_changes_nothing_and_folding_neither() -> None:
    durations = Durations()
    for i in range(FOLD + 5):
        durations.note(i * 1000)
    before = durations.read()
    durations.fold_if_many()
    after = durations.read()
    assert before[0].tolist() == after[0].tolist()
    assert before[1] == pytest.approx(after[1])
    assert FOLD + 5 == after[0].sum()


def test_what_was_noted_one_by_one_does_not_pile_up() -> None:
    durations = Durations()
    for _ in range(5 * FOLD):
        durations.note(1000)
        durations.fold_if_many()
        assert len(durations._noted) < FOLD


def test_a_count_never_goes_back_while_others_note_and_fold() -> None:
    durations = Durations()
    done = threading.Event()
    seen = []

    def scrape() -> None:
        while not done.is_set():
            seen.append(int(durations.read()[0].sum()))

    reader = threading.Thread(target=scrape)
    reader.start()
    for _ in range(50 * FOLD):
        durations.note(1000)
        durations.fold_if_many()
    done.set()
    reader.join()
    assert sorted(seen) == seen
    assert 50 * FOLD == durations.read()[0].sum()
