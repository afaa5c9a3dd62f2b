"""run.json: of the last run, with the speed of the last one that computed something."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.engine.summary import FILE, PhaseClock, read_summary
from pipeline.storage.storage import Storage


@pytest.mark.parametrize("text", [None, "", "[]", "{", "[" * 9999])
def test_a_damaged_one_is_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / FILE).write_text(text)
    assert read_summary(Storage(), str(tmp_path)) == {}


def test_phases_add_up_also_when_they_fail() -> None:
    clock = PhaseClock()
    for _ in range(2):
        with pytest.raises(ValueError, match="x"), clock.phase("label"):
            raise ValueError("x")
    assert list(clock.seconds) == ["label"]
    assert clock.seconds["label"] >= 0
