"""Feed: read-ahead of one shard's images, and of the next one's, in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from schemas.records import ImageRecord

from .prepare import Prepared, ShardWork

LARGE_FILE = 1 << 24
"""Bytes. Such a picture may decode to gigabytes."""


class Feed:
    """Prepares images in threads, a bounded number ahead, and gives them out in order.

    A large file waits until nothing else is held, and nothing is read ahead beside it.
    """

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        prepare: Callable[[ImageRecord], Prepared],
        work: ShardWork,
        *,
        ahead: int,
    ) -> None:
        self.work = work
        self._pool = pool
        self._prepare = prepare
        self._ahead = ahead
        self._left = deque(r for r in work.records if r.file_name not in work.poison)
        self._futures: deque[tuple[ImageRecord, Future[Prepared]]] = deque()
        self._follower: Feed | None = None

    def follow_with(self, follower: Feed | None) -> None:
        """Starts on the next shard with the room that this one no longer needs."""
        self._follower = follower

    def fill(self, room: int | None = None) -> None:
        """Submits images until `room` (default: the whole bound) are under way."""
        room = self._ahead if room is None else room
        while self._left and len(self._futures) < room:
            held = self._futures[-1][0] if self._futures else None
            if held is not None and (_is_large(held) or _is_large(self._left[0])):
                return
            record = self._left.popleft()
            self._futures.append((record, self._pool.submit(self._prepare, record)))
        alone = bool(self._futures) and _is_large(self._futures[-1][0])
        if not self._left and self._follower is not None and not alone:
            self._follower.fill(room - len(self._futures))

    def __iter__(self) -> Iterator[Prepared]:
        self.fill()
        while self._futures:
            record, future = self._futures.popleft()
            item = future.result()
            del future
            if not _is_large(record):
                self.fill()
            yield item
            del item  # a large picture is gone before the next is decoded
            self.fill()

    def cancel(self) -> None:
        """Forgets what is not yet read."""
        self._left.clear()
        for _, future in self._futures:
            future.cancel()
        self._futures.clear()


def _is_large(record: ImageRecord) -> bool:
    return record.size >= LARGE_FILE
