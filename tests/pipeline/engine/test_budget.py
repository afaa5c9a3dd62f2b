"""The failure budget protects readers: over it nothing is published, and the run stops early."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pictures import write_pictures

from pipeline.engine.run import RunResult, label
from pipeline.errors import OverBudgetError
from schemas.config.job import JobConfig


def run(folder: Path, **changes: Any) -> RunResult:
    data = {
        "input": {"uri": str(folder / "in")},
        "output": str(folder / "out"),
        "model": {"name": "otsu"},
        "execution": {"shard_size": 2, "inline": True},
        **changes,
    }
    return label(JobConfig.parse(data), export=False, report=False)


def pictures(folder: Path, good: int, bad: int) -> Path:
    write_pictures(folder / "in", good)
    for number in range(bad):
        (folder / f"in/{number:03d}.jpg").write_bytes(b"")
    return folder


@pytest.mark.parametrize(("good", "bad", "published"), [(9, 1, True), (2, 8, False), (5, 5, True)])
def test_by_default_one_of_ten_is_published_and_eight_are_not(good, bad, published, tmp_path):
    pictures(tmp_path, good, bad)
    if published:
        assert run(tmp_path).failed == bad
        return
    with pytest.raises(OverBudgetError, match=r"images failed, 5 allowed .*nothing is published"):
        run(tmp_path)
    assert not (tmp_path / "out/manifest.json").exists()


def test_it_stops_as_soon_as_the_budget_cannot_be_met(tmp_path):
    pictures(tmp_path, 20, 8)
    with pytest.raises(
        OverBudgetError, match=r"; \d+ images were not looked at any more"
    ) as caught:
        run(tmp_path, max_failures="2")
    assert len(caught.value.first) in (3, 4)
    assert all(": empty_file: " in line for line in caught.value.first)
    assert len(list((tmp_path / "out/images").iterdir())) < 10


def test_what_is_done_is_kept_and_a_larger_budget_publishes_it(tmp_path):
    pictures(tmp_path, 4, 3)
    with pytest.raises(OverBudgetError):
        run(tmp_path, max_failures="0")
    kept = len(list((tmp_path / "out/receipts").iterdir()))
    assert kept
    result = run(tmp_path, max_failures="any")
    assert result.new_version
    assert result.computed < 7


def test_an_input_that_lost_too_much_changes_nothing(tmp_path):
    pictures(tmp_path, 10, 0)
    run(tmp_path)
    before = (tmp_path / "out/manifest.json").read_bytes()
    for path in sorted((tmp_path / "in").rglob("*.png"))[:3]:
        path.unlink()
    with pytest.raises(OverBudgetError, match=r"lost 3 of 10 images since version 1, 2 allowed"):
        run(tmp_path, max_shrink="20%")
    assert (tmp_path / "out/manifest.json").read_bytes() == before
    assert run(tmp_path, max_shrink="30%").manifest.counts["images"] == 7
