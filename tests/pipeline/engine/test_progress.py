"""What a run says while it works."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from pipeline.engine.progress import BarProgress, LineProgress, shown_progress


def test_lines_say_phase_counts_rate_and_failures() -> None:
    stream = io.StringIO()
    progress = LineProgress(stream)
    progress.phase("listing images")
    progress.begin(total=10, done=2, failed=1)
    progress.advance(images=4, failed=1)
    progress.advance(images=4, failed=0)
    lines = [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()]
    assert lines[0] == "listing images"
    assert lines[1] == "2/10 images are done"
    assert lines[-1].startswith("10/10 images, ")
    assert "2 failed, 0:00 left" in lines[-1]


def test_lines_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    stream = io.StringIO()
    progress = LineProgress(stream)
    progress.begin(total=1000, done=0, failed=0)
    for _ in range(999):
        now[0] += 0.02
        progress.advance(images=1, failed=0)
    assert len(stream.getvalue().splitlines()) <= 6


def test_the_bar_follows_the_images() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with Progress(TextColumn("{task.fields[status]}"), console=console) as bar:
        progress = BarProgress(bar)
        progress.begin(total=4, done=0, failed=0)
        progress.advance(images=3, failed=1)
        task = bar.tasks[0]
        assert (task.completed, task.total) == (3, 4)
        assert "1 failed" in task.fields["status"]


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress(quiet=True) as progress:
        progress.phase("x")
        progress.begin(total=1, done=0, failed=0)
        progress.advance(images=1, failed=0)
    assert capsys.readouterr() == ("", "")
    assert progress.done == 1
