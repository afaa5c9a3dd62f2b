"""Damaged containers of pictures: an error, a row less, or the reason told; never a crash.

`support/fuzz.py` says how much is tried; the seeds that once broke something stand as examples.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzz import EDITS, FEW, JSON, edited, paths, replaced, survives
from hypothesis import example, given
from hypothesis import strategies as st
from pictures_encoded import encoded, scene

from pipeline.readers import open_reader
from schemas.config.job import InputConfig

pytestmark = pytest.mark.usefixtures("little_memory")
PICTURE = encoded(scene(8, 9), "PNG")


def read_all(uri: Path, kept: Path | None = None) -> None:
    reader = open_reader(InputConfig(uri=str(uri)), kept=str(kept) if kept else "")
    for record in reader.list():
        survives(lambda record=record: reader.read(record))
        survives(lambda record=record: reader.open(record)[:16])


@cache
def tars() -> list[bytes]:
    """POSIX and GNU tars with long names, links, a folder and numbers that octal cannot hold."""
    made = []
    for layout in (tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=layout) as tar:
            names = ["a.png", "b.png", "sub/c.png"]
            if layout != tarfile.USTAR_FORMAT:
                names += ["long/" * 40 + "d.png", "ünï.png"]
            for number, name in enumerate(names):
                member = tarfile.TarInfo(name)
                member.size = len(PICTURE)
                member.mtime = number if layout == tarfile.USTAR_FORMAT else number - 0.5
                tar.addfile(member, io.BytesIO(PICTURE))
            for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE):
                member = tarfile.TarInfo(f"link{kind.decode()}.png")
                member.type, member.linkname = kind, "a.png"
                tar.addfile(member)
        made.append(file.getvalue())
    return made


@cache
def tables() -> dict[str, list[bytes]]:
    """Parquet and Arrow files of pictures as bytes, as structs of Hugging Face, and as lists."""
    struct = [{"bytes": PICTURE, "path": f"{number}.png"} for number in range(5)]
    columns = [
        {"image": [PICTURE] * 5, "name": list("abcde")},
        {"image": struct},
        {"images": [[one] for one in struct]},
    ]
    parquet, arrow = [], []
    for one in columns:
        table = pa.table(one)
        for options in ({"row_group_size": 2}, {"compression": "zstd", "use_dictionary": False}):
            file = io.BytesIO()
            pq.write_table(table, file, **options)
            parquet.append(file.getvalue())
        file = io.BytesIO()
        with pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
        arrow.append(file.getvalue())
    return {".parquet": parquet, ".arrow": arrow}


def test_the_whole_files_are_read(tmp_path):
    for number, (suffix, data) in enumerate(
        [(".tar", one) for one in tars()]
        + [(suffix, one) for suffix, files in tables().items() for one in files]
    ):
        path = tmp_path / f"{number}{suffix}"
        path.write_bytes(data)
        reader = open_reader(InputConfig(uri=str(path)))
        found = [reader.read(record) for record in reader.list()]
        assert len(found) >= 3
        assert set(found) == {PICTURE}


@FEW
@given(st.sampled_from([".tar", ".parquet", ".csv", ".txt", ".jsonl"]), st.binary(max_size=1200))
@example(".csv", b"a" * 200_000)
@example(".csv", b"path\n" + b'"' + b"a" * 200_000)
def test_containers_of_any_bytes(tmp_path, suffix, data):
    path = tmp_path / f"in{suffix}"
    path.write_bytes(data)
    survives(lambda: read_all(path))


@FEW
@given(st.sampled_from(["", ".gz"]), st.data())
def test_a_tar_with_any_bytes(tmp_path, packing, data):
    made = edited(data.draw(st.sampled_from(tars())), data.draw(EDITS))
    path = tmp_path / f"in.tar{packing}"
    path.write_bytes(gzip.compress(made) if packing else made)
    survives(lambda: read_all(path))
    if packing:
        path.write_bytes(edited(gzip.compress(made), data.draw(EDITS)))
        survives(lambda: read_all(path))


@FEW
@given(st.sampled_from([".parquet", ".arrow"]), st.data())
def test_a_table_with_any_bytes(tmp_path, suffix, data):
    path = tmp_path / f"in{suffix}"
    path.write_bytes(edited(data.draw(st.sampled_from(tables()[suffix])), data.draw(EDITS)))
    survives(lambda: read_all(path))


def test_offsets_that_lead_outside_an_arrow_file(tmp_path):
    """They ended the process: Arrow takes a file at its word."""
    sound, wrong = struct.pack("<6i", *range(6)), struct.pack("<6i", 0, 1, 2, 3, 4, 1 << 30)
    data = tables()[".arrow"][2]
    assert sound in data
    path = tmp_path / "in.arrow"
    path.write_bytes(data.replace(sound, wrong))
    with pytest.raises(ValueError, match=r"in\.arrow"):
        read_all(path)


@FEW
@given(EDITS)
def test_the_index_of_tars_with_any_bytes(tmp_path, edits):
    (tmp_path / "in.tar").write_bytes(tars()[0])
    kept = tmp_path / "kept"
    read_all(tmp_path / "in.tar", kept)
    for path in kept.iterdir():
        path.write_bytes(edited(path.read_bytes(), edits))
    read_all(tmp_path / "in.tar", kept)


STATE = {"_data_files": [{"filename": "data.arrow"}], "_indices_data_files": None}


@FEW
@given(st.randoms(use_true_random=False), JSON)
def test_what_datasets_of_hugging_face_say_of_themselves(tmp_path, rng, value):
    folder = tmp_path / "saved"
    folder.mkdir(exist_ok=True)
    (folder / "data.arrow").write_bytes(tables()[".arrow"][1])
    made = json.dumps(replaced(STATE, rng.choice(paths(STATE)), value))
    (folder / "state.json").write_text(made)
    survives(lambda: read_all(folder))
    features = {"info": {"features": {"image": {"_type": "Image"}}}}
    said = json.dumps(replaced(features, rng.choice(paths(features)), value)).encode()
    table = pa.table({"image": [PICTURE], "other": [PICTURE]})
    path = tmp_path / "in.parquet"
    pq.write_table(table.replace_schema_metadata({"huggingface": said}), path)
    survives(lambda: read_all(path))


@FEW
@given(st.lists(st.text(max_size=30) | JSON.map(json.dumps), max_size=4), st.booleans())
def test_lists_of_pictures_of_any_text(tmp_path, lines, quoted):
    (tmp_path / "a.png").write_bytes(PICTURE)
    for suffix, head in ((".txt", "a.png"), (".csv", "path"), (".jsonl", '{"path": "a.png"}')):
        path = tmp_path / f"list{suffix}"
        path.write_text("\n".join([head, *lines]), "utf-8", errors="surrogateescape")
        survives(lambda path=path: read_all(path))
