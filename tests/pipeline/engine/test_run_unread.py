"""A night after a night: pictures that the listing knows are neither read nor hashed."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pyarrow.parquet as pq
import pytest
from otsu_jobs import otsu_job
from pictures import disc_picture, write_pictures

from pipeline.engine.estimate import estimate
from pipeline.engine.run import RunResult, label
from pipeline.history.prune import prune
from pipeline.readers.folder import FolderReader
from pipeline.readers.webdataset import WebDatasetReader
from pipeline.storage.storage import Storage
from schemas.records import ImageRecord

COUNT = 24


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_pictures(tmp_path / "in", COUNT)
    return tmp_path


def run(folder: Path, output: str = "out", **changes: Any) -> RunResult:
    return label(otsu_job(folder, output, **changes), export=False, report=False)


def published(folder: Path, output: str = "out") -> dict[str, bytes]:
    """Every file that the current manifest names, and the parts that it lists."""
    root = folder / output
    parts = json.loads((root / "manifest.json").read_bytes())["parts"]
    files = [
        f"{table}/{part['name']}.parquet" for part in parts for table in ("images", "annotations")
    ]
    return {**{name: (root / name).read_bytes() for name in files}, "": repr(parts).encode()}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pictures that were read, as they are read."""
    names: list[str] = []
    for kind in (FolderReader, WebDatasetReader):

        def noted(self: Any, record: ImageRecord, real: Callable[..., bytes] = kind.read) -> bytes:
            names.append(record.file_name)
            return real(self, record)

        monkeypatch.setattr(kind, "read", noted)
    return names


def change(folder: Path, number: int) -> str:
    """Other bytes in the picture of this number; its name."""
    path = sorted((folder / "in").rglob("*.png"))[number]
    cv2.imwrite(str(path), disc_picture(900 + number))
    return path.relative_to(folder / "in").as_posix()


def test_only_what_changed_is_read(folder: Path, read: list[str]) -> None:
    run(folder)
    changed = {change(folder, number) for number in (1, 9, 20)}
    read.clear()
    result = run(folder)
    assert {*read} == changed
    assert (result.computed, len(read)) == (3, 3)
    run(folder, "fresh")
    assert published(folder) == published(folder, "fresh")


def test_a_touched_picture_is_read_once_and_not_again(folder: Path, read: list[str]) -> None:
    run(folder)
    path = sorted((folder / "in").rglob("*.png"))[5]
    os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
    before = published(folder)
    for expected in (1, 0):
        read.clear()
        result = run(folder)
        assert (len(read), result.computed, result.new_version) == (expected, 0, False)
    assert published(folder) == before
    other = change(folder, 4)  # in the shard of the touched one, or beside it
    read.clear()
    run(folder)
    assert read == [other]


def test_pictures_that_go_cost_no_reading(folder: Path, read: list[str]) -> None:
    run(folder)
    for path in sorted((folder / "in").rglob("*.png"))[::9]:
        path.unlink()
    read.clear()
    assert run(folder).computed == 0
    assert not read


@pytest.mark.parametrize("how", ["reread", "verify"])
def test_whoever_does_not_trust_times_reads(folder: Path, read: list[str], how: str) -> None:
    run(folder, execution={"shard_size": 1000})
    path = sorted((folder / "in").rglob("*.png"))[5]
    before = path.stat()
    data = cv2.imencode(".png", disc_picture(77))[1].tobytes()
    path.write_bytes(data[: before.st_size].ljust(before.st_size, b"\0"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    change(folder, 4)
    assert run(folder, execution={"shard_size": 1000}).computed == 1
    change(folder, 6)
    read.clear()
    config = otsu_job(folder, execution={"shard_size": 1000})
    found = label(
        config, export=False, report=False, reread=how == "reread", verify=how == "verify"
    )
    assert len(read) == COUNT
    assert found.computed == 2


def test_a_lost_index_costs_reading_and_no_label(folder: Path, read: list[str]) -> None:
    run(folder)
    (index,) = (folder / "out" / "index").iterdir()
    index.unlink()
    change(folder, 1)
    read.clear()
    result = run(folder)
    assert result.computed == 1
    assert len(read) == result.reused + 1
    change(folder, 2)
    read.clear()
    assert run(folder).computed == 1
    assert len(read) == 1  # it was written anew


def test_copies_are_made_of_pictures_that_are_read(folder: Path, read: list[str]) -> None:
    augment = {"copies": 1, "steps": [{"step": "flip"}]}
    run(folder, augment=augment)
    changed = change(folder, 1)
    read.clear()
    assert run(folder, augment=augment).computed == 1
    assert changed in read
    run(folder, "fresh", augment=augment)
    assert published(folder) == published(folder, "fresh")


def test_an_estimate_counts_what_is_not_read(folder: Path) -> None:
    run(folder)
    change(folder, 1)
    found = estimate(otsu_job(folder))
    assert found.counts["unchanged"] == COUNT - 1
    assert found.counts["to_read"] + found.counts["changed"] == 1


def test_members_of_a_tar_that_stands_are_not_read(tmp_path: Path, read: list[str]) -> None:
    write_pictures(tmp_path / "loose", 12)
    (tmp_path / "in").mkdir()

    def pack(number: int, *, extra: int = 0) -> None:
        with tarfile.open(tmp_path / "in" / f"{number}.tar", "w") as tar:
            for path in sorted((tmp_path / "loose").rglob("*.png"))[number * 4 :][: 4 + extra]:
                tar.add(path, path.name)

    for number in range(3):
        pack(number)
    run(tmp_path)
    pack(1, extra=1)
    read.clear()
    run(tmp_path)
    assert {name.partition("/")[0] for name in read} == {"1.tar"}


def test_indexes_of_configs_that_no_version_has_are_pruned(folder: Path) -> None:
    run(folder)
    run(folder, model={"threshold": 0.9})
    assert len(list((folder / "out" / "index").iterdir())) == 2
    (folder / "out" / "versions" / "000001.json").unlink()
    prune(str(folder / "out"), Storage())
    (left,) = (folder / "out" / "index").iterdir()
    assert pq.ParquetFile(left).metadata.num_rows == COUNT
