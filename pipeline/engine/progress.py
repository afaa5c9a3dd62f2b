"""What a run tells while it works: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

_LINE_EVERY_S = 5.0


class RunProgress:
    """Silent progress, and the base of the visible ones.

    A run calls `phase` at each step, `begin` once the number of images is known, `advance` for
    each finished shard.
    """

    def __init__(self) -> None:
        self.total = self.done = self.failed = 0
        self._since: float | None = None  # first finished shard: loading a model is no labelling
        self._before = 0

    def phase(self, text: str) -> None:
        """A step that has no count of its own starts."""

    def begin(self, *, total: int, done: int, failed: int) -> None:
        """Labelling starts: images in all, already done, failed among those."""
        self.total, self.done, self.failed = total, done, failed
        self._since = None

    def advance(self, *, images: int, failed: int) -> None:
        """A shard is done."""
        self.done += images
        self.failed += failed
        if self._since is None:
            self._since, self._before = time.monotonic(), self.done

    def rate(self) -> float:
        """Images a second since the first shard of this run was done; 0 before the second."""
        seconds = time.monotonic() - self._since if self._since is not None else 0.0
        return (self.done - self._before) / max(seconds, 1e-6)

    def status(self) -> str:
        """Images a second, failed, time left."""
        rate = self.rate()
        if not rate:
            return f"{self.failed} failed"
        left = _clock((self.total - self.done) / rate)
        return f"{rate:.1f} images/s, {self.failed} failed, {left} left"


class LineProgress(RunProgress):
    """Plain lines, at most one in five seconds while labelling."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__()
        self._stream = stream
        self._last = -_LINE_EVERY_S

    def phase(self, text: str) -> None:
        self._say(text)

    def begin(self, *, total: int, done: int, failed: int) -> None:
        super().begin(total=total, done=done, failed=failed)
        self._say(f"{done}/{total} images are done")

    def advance(self, *, images: int, failed: int) -> None:
        super().advance(images=images, failed=failed)
        now = time.monotonic()
        if now - self._last >= _LINE_EVERY_S or self.done == self.total:
            self._last = now
            self._say(f"{self.done}/{self.total} images, {self.status()}")

    def _say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", file=self._stream, flush=True)


class BarProgress(RunProgress):
    """A rich bar."""

    def __init__(self, bar: Progress) -> None:
        super().__init__()
        self._bar = bar
        self._task: TaskID = bar.add_task("", total=None, status="")

    def phase(self, text: str) -> None:
        self._bar.update(self._task, description=text, status="")

    def begin(self, *, total: int, done: int, failed: int) -> None:
        super().begin(total=total, done=done, failed=failed)
        self._bar.update(self._task, total=total, completed=done)

    def advance(self, *, images: int, failed: int) -> None:
        super().advance(images=images, failed=failed)
        self._bar.update(
            self._task, completed=self.done, status=self.status(), description="labelling"
        )


@contextmanager
def shown_progress(*, quiet: bool = False) -> Iterator[RunProgress]:
    """The progress that fits standard error: a bar on a terminal, lines in a log, or none."""
    if quiet:
        yield RunProgress()
    elif sys.stderr.isatty():
        console = Console(stderr=True)
        columns = (
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            yield BarProgress(bar)
    else:
        yield LineProgress(sys.stderr)


def _clock(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
