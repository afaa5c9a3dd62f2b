"""docs/failures.md: at least sixty kinds of trouble, each with a test that is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent
ROWS = re.findall(
    r"^\| (.+) \| (.+) \| `(\S+)::(\w+)` \|$",
    (ROOT.parent / "docs/failures.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)


def test_there_are_many() -> None:
    assert len(ROWS) >= 60
    assert len({trouble for trouble, *_ in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("file", "name"), sorted({(file, name) for *_, file, name in ROWS}))
def test_the_test_is_there(file: str, name: str) -> None:
    places = [path for path in (ROOT / file, ROOT / "pipeline" / file) if path.is_file()]
    assert places, f"no {file}"
    assert re.search(rf"^def {name}\(", places[0].read_text(encoding="utf-8"), re.MULTILINE)
