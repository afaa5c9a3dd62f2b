"""Tars and tables that were written anew: what has the same bytes is read, never labelled again."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from otsu_jobs import otsu_job
from pictures import disc_picture

from pipeline.engine.run import RunResult, label
from pipeline.ledger.ledger import open_ledger
from pipeline.readers.parquet import ParquetReader
from pipeline.readers.webdataset import WebDatasetReader
from schemas.records import ImageRecord

COUNT = 12
Pictures = Sequence[tuple[str, bytes]]


def encoded(seed: int, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, disc_picture(seed, size=64 - seed % 7))[1].tobytes()


def pictures(suffix: str = ".png") -> list[tuple[str, bytes]]:
    return [(f"{n:03d}{suffix}", encoded(n, suffix)) for n in range(COUNT)]


def write_tar(path: Path, given: Pictures, *, mtime: float = 0) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in given:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), mtime
            tar.addfile(info, io.BytesIO(data))


def write_table(path: Path, given: Pictures) -> None:
    column = pa.array([{"bytes": data, "path": name} for name, data in given])
    pq.write_table(pa.table({"image": column}), path, row_group_size=5)


WRITERS: dict[str, Callable[[Path, Pictures], None]] = {"tar": write_tar, "parquet": write_table}


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the pictures that were read, as they are read."""
    names: list[str] = []
    for kind in (ParquetReader, WebDatasetReader):

        def noted(self: Any, record: ImageRecord, real: Callable[..., bytes] = kind.read) -> bytes:
            names.append(record.file_name)
            return real(self, record)

        monkeypatch.setattr(kind, "read", noted)
    return names


def run(folder: Path, output: str = "out") -> RunResult:
    return label(otsu_job(folder, output), export=False, report=False)


def labels(folder: Path, output: str = "out") -> list[tuple[Any, ...]]:
    """Hash and masks of every picture, by name."""
    ledger = open_ledger(str(folder / output))
    found = []
    for part in ledger.manifest.parts:
        masks: dict[int, list[Any]] = {}
        for row in ledger.annotations_of(part, ["image_id", "rle"]).to_pylist():
            masks.setdefault(row["image_id"], []).append(row["rle"])
        for row in ledger.images_of(part, ["image_id", "file_name", "sha256"]).to_pylist():
            found.append((row["file_name"], row["sha256"], masks.get(row["image_id"])))
    return sorted(found)


@pytest.mark.parametrize("kind", WRITERS)
def test_what_has_the_same_bytes_is_not_labelled_again(
    tmp_path: Path, read: list[str], kind: str
) -> None:
    (tmp_path / "in").mkdir()
    given, path = pictures(), tmp_path / "in" / f"one.{kind}"
    WRITERS[kind](tmp_path / "in" / f"other.{kind}", [("other.png", encoded(70))])
    WRITERS[kind](path, given)
    assert run(tmp_path).computed == COUNT + 1
    read.clear()
    assert (run(tmp_path).computed, read) == (0, [])

    given[4] = (given[4][0], encoded(80))
    WRITERS[kind](path, given)
    assert run(tmp_path).computed == 1
    assert {name.partition("/")[0] for name in read} == {f"one.{kind}"}  # bytes may have moved

    WRITERS[kind](path, [("first.png", encoded(81)), *given])  # a row of a table has another name
    assert run(tmp_path).computed == 1
    run(tmp_path, "fresh")
    assert labels(tmp_path) == labels(tmp_path, "fresh")


@pytest.mark.parametrize("mtime", [0, 1_700_000_000, 1_700_000_000.25])
def test_no_time_in_a_tar_is_believed(tmp_path: Path, mtime: float) -> None:
    """Whoever copies a tar member by member, with other bytes in one, keeps their times."""
    (tmp_path / "in").mkdir()
    given, path = pictures(".bmp"), tmp_path / "in" / "one.tar"
    write_tar(path, given, mtime=mtime)
    run(tmp_path)
    before = path.stat()
    other = given[3][1][:-900] + b"\xff" * 900
    given[3] = (given[3][0], other)
    write_tar(path, given, mtime=mtime)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert path.stat().st_size == before.st_size
    assert run(tmp_path).computed == 1
    run(tmp_path, "fresh")
    assert labels(tmp_path) == labels(tmp_path, "fresh")
