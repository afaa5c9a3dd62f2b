"""Feed: read-ahead of one shard's images, and of the next one's, in threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from schemas.records import ImageRecord

from .prepare import Prepared, ShardWork


class Feed:
    """Prepares images in threads, a bounded number ahead, and gives them out in order."""

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
        self._futures: deque[Future[Prepared]] = deque()
        self._follower: Feed | None = None

    def follow_with(self, follower: Feed | None) -> None:
        """Starts on the next shard with the room that this one no longer needs."""
        self._follower = follower

    def fill(self, room: int | None = None) -> None:
        """Submits images until `room` (default: the whole bound) are under way."""
        room = self._ahead if room is None else room
        while self._left and len(self._futures) < room:
            self._futures.append(self._pool.submit(self._prepare, self._left.popleft()))
        if not self._left and self._follower is not None and room > len(self._futures):
            self._follower.fill(room - len(self._futures))

    def __iter__(self) -> Iterator[Prepared]:
        self.fill()
        while self._futures:
            item = self._futures.popleft().result()
            self.fill()
            yield item

    def cancel(self) -> None:
        """Forgets what is not yet read."""
        self._left.clear()
        for future in self._futures:
            future.cancel()
        self._futures.clear()
