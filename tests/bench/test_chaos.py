"""The short form of bench.chaos, and that it sees what it is there to see."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench.chaos import Field, differences, published, row_faults, run_trials

SHORT = ("kill the driver", "kill an actor", "half a part", "read-only output")


def own_mounts() -> bool:
    """Whether this machine lets a process have mounts of its own, for a read-only output."""
    try:
        done = subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True)
    except OSError:
        return False
    return done.returncode == 0


@pytest.mark.slow
def test_killed_and_disturbed_runs_publish_the_bytes_of_a_calm_one(tmp_path: Path) -> None:
    kinds = SHORT if own_mounts() else SHORT[:-1]
    done = run_trials(tmp_path, trials=len(kinds), kinds=kinds, seed=11, images=16)
    assert [trial.kind for trial in done] == list(kinds)
    assert {trial.kind: trial.wrong for trial in done} == {kind: [] for kind in kinds}
    assert all(trial.codes[-1] == 0 for trial in done)


def test_what_is_lost_doubled_or_changed_is_seen(tmp_path: Path) -> None:
    field = Field(tmp_path, images=4)
    out = tmp_path / "calm"
    assert differences(field.truth, published(out)) == []
    assert row_faults(out, 4) == []
    assert row_faults(out, 5) == ["lost: the row of 0004.png"]
    part = next((out / "images").iterdir())
    (out / "images/twice.parquet").write_bytes(part.read_bytes())
    assert any("2 rows of 0" in line for line in row_faults(out, 4))
    (out / "report/left.html").write_text("left")
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    found = published(out)
    del found["manifest.json"]
    assert differences(field.truth, found) == [
        "doubled or left: report/left.html",
        "lost: manifest.json",
        f"other bytes: images/{part.name}",
    ]
