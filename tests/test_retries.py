"""docs/retries.md says what the code does."""

from __future__ import annotations

from pathlib import Path

from source_tree import ROOT

from pipeline.engine import pool
from pipeline.ledger.parts import RETRYABLE
from pipeline.storage import storage
from schemas.config.job import ExecutionConfig

PAGE = (ROOT / "docs" / "retries.md").read_text(encoding="utf-8")


def row(words: str) -> str:
    """The one line of the table with these words."""
    (line,) = [line for line in PAGE.splitlines() if line.startswith("| ") and words in line]
    return line


def text(delays: tuple[float, ...]) -> str:
    *first, last = map(str, delays)
    return f"{len(delays)} more times: after {', '.join(first)} and {last} s"


def test_waits_of_the_store() -> None:
    assert text(storage._FIRST_CONTACT_S) in row("before it has ever answered")
    later = row("a store that has answered")
    assert text(storage._LATER_S) in later
    assert f"once {storage._TOTAL_S:.0f} s are over" in later


def test_deaths_of_workers() -> None:
    assert f"({ExecutionConfig().max_crashes})" in row("a worker that dies, is ended")
    assert f"| {pool._SINGLE_DEATHS} times |" in row("kills its worker alone")
    assert f"| {pool._START_FAILURES} of them |" in row("dies while it starts")


def test_rows_that_are_done_again() -> None:
    said = row("rows of an earlier run")
    assert all(f"`{code}`" in said for code in RETRYABLE)


def test_the_files_are_there() -> None:
    named = {word for word in PAGE.split("`") if word.endswith(".py")}
    assert len(named) > 4
    assert [name for name in named if not Path(ROOT, name).is_file()] == []
