"""Read-ahead: in order, bounded, into the next shard, and it can be called off."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recording_model import shard_work

from pipeline.engine.prepare import LARGE_FILE, Feed, Prepared
from schemas.records import ErrorCode, Failure, ImageRecord

NOTHING = Failure(ErrorCode.EMPTY_FILE, "")


def names(feed: Feed) -> list[str]:
    return [item.record.file_name for item in feed]


class Desk:
    """Prepares images and counts: under way or waiting to be taken, most at once, all started."""

    def __init__(self, work_s: Callable[[str], float] = lambda name: 0.0) -> None:
        self._lock = threading.Lock()
        self._work_s = work_s
        self.started: list[str] = []
        self.taken = 0
        self.most = 0

    def prepare(self, record: ImageRecord) -> Prepared:
        with self._lock:
            self.started.append(record.file_name)
            self.most = max(self.most, len(self.started) - self.taken)
        time.sleep(self._work_s(record.file_name))
        return Prepared(record, NOTHING)

    def take(self, feed: Feed) -> list[str]:
        found = []
        for item in feed:
            # The feed fills up before it gives out: what it gave out has left its bound.
            with self._lock:
                self.taken += 1
            found.append(item.record.file_name)
        return found

    def settle(self, count: int) -> list[str]:
        """What was started once `count` were, and nothing more is."""
        deadline = time.monotonic() + 10
        while len(self.started) < count and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)
        return list(self.started)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as made:
        yield made


@given(st.integers(0, 12), st.integers(1, 15), st.sets(st.integers(0, 11)))
def test_everything_but_the_poison_once_and_in_order(
    count: int, ahead: int, poison: set[int]
) -> None:
    every = [str(i) for i in range(count)]
    work = shard_work(every, poison=[str(i) for i in poison])
    with ThreadPoolExecutor(4) as pool:
        found = names(Feed(pool, Desk().prepare, work, ahead=ahead))
    assert found == [name for name in every if int(name) not in poison]


def test_order_does_not_depend_on_which_thread_is_faster(pool: ThreadPoolExecutor) -> None:
    every = [str(i) for i in range(16)]
    desk = Desk(lambda name: 0.02 if int(name) % 4 == 0 else 0.0)
    assert names(Feed(pool, desk.prepare, shard_work(every), ahead=8)) == every


@pytest.mark.parametrize("ahead", [1, 2, 5, 30])
def test_never_more_under_way_than_the_bound(pool: ThreadPoolExecutor, ahead: int) -> None:
    """Over three shards that follow each other; the one in hand comes on top of the bound."""
    desk = Desk()
    works = [shard_work([f"{shard}/{i}" for i in range(12)]) for shard in range(3)]
    feeds = [Feed(pool, desk.prepare, work, ahead=ahead) for work in works]
    feeds[0].follower = feeds[1]
    found = desk.take(feeds[0])
    feeds[1].follower = feeds[2]
    found += desk.take(feeds[1]) + desk.take(feeds[2])
    assert found == [record.file_name for work in works for record in work.records]
    assert desk.most <= ahead + 1
    assert sorted(desk.started) == sorted(found)


def test_nothing_is_read_before_somebody_asks(pool: ThreadPoolExecutor) -> None:
    desk = Desk()
    first = Feed(pool, desk.prepare, shard_work(["a"]), ahead=4)
    first.follower = Feed(pool, desk.prepare, shard_work(["b"]), ahead=4)
    assert desk.settle(0) == []


def test_the_follower_gets_only_the_room_that_is_left(pool: ThreadPoolExecutor) -> None:
    desk = Desk()
    first = Feed(pool, desk.prepare, shard_work([f"a{i}" for i in range(4)]), ahead=3)
    second = Feed(pool, desk.prepare, shard_work([f"b{i}" for i in range(9)]), ahead=3)
    first.follower = second
    giving = iter(first)
    next(giving)
    assert sorted(desk.settle(4)) == ["a0", "a1", "a2", "a3"]
    next(giving)
    assert sorted(desk.settle(5))[4:] == ["b0"]
    list(giving)
    assert sorted(desk.settle(7))[4:] == ["b0", "b1", "b2"]
    assert names(second) == [f"b{i}" for i in range(9)]
    assert len(desk.started) == 13  # what was read ahead is not read again


def test_a_shard_of_poison_passes_its_room_on(pool: ThreadPoolExecutor) -> None:
    desk = Desk()
    first = Feed(pool, desk.prepare, shard_work(["a"], poison=["a"]), ahead=2)
    first.follower = Feed(pool, desk.prepare, shard_work(["b0", "b1", "b2"]), ahead=2)
    assert names(first) == []
    assert sorted(desk.settle(2)) == ["b0", "b1"]


def test_cancelled_read_ahead_stops_and_gives_nothing() -> None:
    gate = threading.Event()
    started: list[str] = []

    def prepare(record: ImageRecord) -> Prepared:
        started.append(record.file_name)
        gate.wait(10)
        return Prepared(record, NOTHING)

    with ThreadPoolExecutor(1) as pool:
        feed = Feed(pool, prepare, shard_work(["a", "b", "c", "d"]), ahead=3)
        feed.fill()
        feed.cancel()
        gate.set()
        assert names(feed) == []
    assert set(started) <= {"a"}  # one may have been under way


def test_an_exception_reaches_the_one_who_takes(pool: ThreadPoolExecutor) -> None:
    def prepare(record: ImageRecord) -> Prepared:
        if record.file_name == "b":
            raise MemoryError("b")
        return Prepared(record, NOTHING)

    giving = iter(Feed(pool, prepare, shard_work(["a", "b", "c"]), ahead=3))
    assert next(giving).record.file_name == "a"
    with pytest.raises(MemoryError, match="b"):
        next(giving)


def test_a_large_file_is_held_alone(pool: ThreadPoolExecutor) -> None:
    """Nothing else is under way or waiting while it is decoded and worked on."""
    work = shard_work([f"{n}" for n in range(9)])
    large = {"3", "4", "8"}
    records = tuple(
        replace(one, size=LARGE_FILE if one.file_name in large else LARGE_FILE - 1)
        for one in work.records
    )
    desk = Desk(lambda name: 0.02 if name in large else 0.0)
    feed = Feed(pool, desk.prepare, replace(work, records=records), ahead=16)
    feed.follower = Feed(pool, desk.prepare, shard_work(["next"]), ahead=16)
    seen = {}
    for item in feed:
        time.sleep(0.01)
        seen[item.record.file_name] = list(desk.started)
    assert seen["0"] == ["0", "1", "2"]
    assert seen["3"] == ["0", "1", "2", "3"]
    assert seen["4"] == ["0", "1", "2", "3", "4"]
    assert seen["5"] == [f"{n}" for n in range(8)]
    assert seen["8"] == [f"{n}" for n in range(9)]
    assert desk.settle(10)[-1] == "next"
