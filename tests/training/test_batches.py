"""Batches read ahead."""

from __future__ import annotations

import threading

import pytest

from reprkit.training.batches import read_ahead


def test_batches_come_in_order_and_each_is_read_once():
    seen = []

    def read(i):
        return lambda: seen.append(i) or i

    assert list(read_ahead(map(read, range(7)))) == list(range(7))
    assert seen == list(range(7))
    assert list(read_ahead([])) == []


def test_the_next_batch_is_read_while_one_is_used():
    begun = [threading.Event() for _ in range(3)]

    def read(i):
        return lambda: begun[i].set() or i

    for i in read_ahead(map(read, range(3))):
        if i < 2:
            assert begun[i + 1].wait(10)


def test_an_error_of_a_read_arrives_in_its_turn():
    def fail():
        raise OSError("gone")

    batches = read_ahead([lambda: 0, fail, lambda: 2])
    assert next(batches) == 0
    with pytest.raises(OSError, match="gone"):
        next(batches)


def test_leaving_early_reads_no_more():
    seen = []
    batches = read_ahead((lambda i=i: seen.append(i) or i) for i in range(100))
    assert next(batches) == 0
    batches.close()
    assert len(seen) <= 2
