"""Damage between runs: found, named, written anew; never published, never taken for data."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pictures import write_pictures

from pipeline.engine import run as module
from pipeline.engine.run import RunResult, label
from pipeline.errors import ExecutionError
from pipeline.history.prune import prune
from pipeline.ledger.lease import FILE, Lease
from pipeline.ledger.ledger import open_ledger
from pipeline.storage.storage import Storage
from schemas.config.job import JobConfig


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "in", 12)
    return tmp_path


def run(folder: Path, *, min_area: int = 1, **options: Any) -> RunResult:
    data = {
        "input": {"uri": str(folder / "in")},
        "output": str(folder / "out"),
        "model": {"name": "otsu", "min_area": min_area},
        "execution": {"shard_size": 3, "inline": True},
    }
    return label(JobConfig.parse(data), **{"export": False, "report": False, **options})


def tables(folder: Path) -> dict[str, bytes]:
    out = folder / "out"
    files = [out / "manifest.json", *out.glob("images/*"), *out.glob("annotations/*")]
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


@pytest.mark.parametrize("table", ["images", "annotations"])
@pytest.mark.parametrize("without_receipts", [False, True])
def test_half_a_part_is_written_anew(folder, table, without_receipts, caplog):
    run(folder)
    before = tables(folder)
    victim = sorted((folder / "out" / table).iterdir())[1]
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size // 2])
    if without_receipts:
        for receipt in (folder / "out/receipts").iterdir():
            receipt.unlink()
    result = run(folder)
    assert not result.new_version
    assert tables(folder) == before
    assert victim.stem in caplog.text


def test_a_flipped_byte_is_found_when_hashes_are_asked_for(folder, caplog):
    run(folder)
    before = tables(folder)
    victim = sorted((folder / "out/annotations").iterdir())[0]
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    assert run(folder).computed == 0
    assert tables(folder) != before
    assert run(folder, verify=True).computed > 0
    assert tables(folder) == before
    assert f"annotations/{victim.name} has other bytes" in caplog.text


def test_a_byte_that_changed_under_the_same_time_is_found_when_everything_is_read(folder):
    run(folder)
    victim = sorted((folder / "in").rglob("*.png"))[0]
    other = sorted((folder / "in").rglob("*.png"))[1]
    stat = victim.stat()
    data = other.read_bytes().ljust(stat.st_size, b"\0")[: stat.st_size]
    victim.write_bytes(data)
    os.utime(victim, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert run(folder).computed == 0
    result = run(folder, reread=True)
    assert result.computed + result.reused == 12
    assert result.new_version


def test_a_version_is_not_published_when_a_part_is_gone(folder, monkeypatch):
    run(folder)
    before = (folder / "out/manifest.json").read_bytes()
    publish = module.publish

    def after_a_clean_up(storage, dataset, manifest):
        (folder / "out/images" / f"{manifest.parts[2].name}.parquet").unlink()
        return publish(storage, dataset, manifest)

    monkeypatch.setattr(module, "publish", after_a_clean_up)
    with pytest.raises(ExecutionError, match=r"1 parts of .* are gone or cut short"):
        run(folder, min_area=30)
    assert (folder / "out/manifest.json").read_bytes() == before
    monkeypatch.undo()
    assert run(folder, min_area=30).new_version
    assert len(list(open_ledger(str(folder / "out")).rows())) == 12


def test_prune_waits_for_no_run_but_refuses(folder):
    run(folder)
    with Lease(Storage(), str(folder / "out")) as lease:
        lease.take()
        with pytest.raises(ExecutionError, match="another run writes"):
            prune(str(folder / "out"), Storage())
        with pytest.raises(ExecutionError, match="another run writes"):
            run(folder, min_area=30)
        assert prune(str(folder / "out"), Storage(), dry_run=True) == []
    assert run(folder, min_area=30).new_version
    assert not (folder / "out" / FILE).exists()


def test_prune_leaves_what_is_young_and_says_what_would_go(folder):
    run(folder)
    stray = folder / "out/images/00000000-dead.parquet"
    stray.write_text("x")
    out = str(folder / "out")
    assert prune(out, Storage(), older_than_s=3600) == []
    assert prune(out, Storage(), dry_run=True) == ["images/00000000-dead.parquet"]
    assert stray.exists()
    os.utime(stray, (1, 1))
    assert prune(out, Storage(), older_than_s=3600) == ["images/00000000-dead.parquet"]
    assert not stray.exists()


def test_temporary_files_of_dead_processes_go(folder):
    import subprocess
    import sys

    run(folder)
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from pipeline.storage.processes import temporary_name\n"
        "for name in sys.argv[1:]:\n"
        "    path = Path(name)\n"
        "    path.parent.mkdir(parents=True, exist_ok=True)\n"
        "    path.with_name(temporary_name(path.name)).write_text('x')\n"
    )
    out = folder / "out"
    names = ["manifest.json", "versions/1.json", "exports/exports.json", "exports/coco/i.json"]
    command = [sys.executable, "-c", code, *(str(out / name) for name in names)]
    root = Path(__file__).resolve().parents[3]
    subprocess.run(command, cwd=root, check=True)
    (out / ".mine.tmp").write_text("not ours")
    assert len(list(out.rglob(".*.tmp"))) == 5
    run(folder)
    assert [path.name for path in out.rglob(".*.tmp") if "coco" not in str(path)] == [".mine.tmp"]
    assert len(prune(str(out), Storage())) == 1
    assert [path.name for path in out.rglob(".*.tmp")] == [".mine.tmp"]


def test_a_manifest_that_names_a_file_elsewhere_is_none(folder):
    run(folder)
    path = folder / "out/manifest.json"
    data = json.loads(path.read_text())
    data["parts"][0]["name"] = "../../esc"
    path.write_text(json.dumps(data))
    with pytest.raises(ValueError, match="not a maskmill manifest"):
        run(folder)
