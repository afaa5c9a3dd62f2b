"""Shards by bytes and split; what is checked of them; pictures handed through as they are."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from pictures import write_pictures
from PIL import Image
from small_datasets import PICTURE_NAMES, pixels_of, small_dataset

from pipeline.engine.run import label
from pipeline.exporters import check_exports, export, export_all
from pipeline.exporters.shards import painted_ids
from pipeline.masks import codec
from schemas.config.export import ExportConfig
from schemas.config.job import JobConfig

SMALL = ExportConfig(shard_bytes=4_000)


def split_dataset(folder: Path):
    """The small dataset with splits, as [split] writes them."""
    ledger = small_dataset(folder, pictures=True)
    for place, part in enumerate(ledger.manifest.parts):
        path = f"{ledger.uri}/images/{part.name}.parquet"
        table = pq.ParquetFile(path).read()
        index = table.schema.get_field_index("split")
        split = ["train", "val", "train"][place % 3]
        values = [split if s != "failed" else None for s in table["status"].to_pylist()]
        field = table.schema.field(index)
        pq.write_table(table.set_column(index, field, pa.array(values, pa.string())), path)
    return ledger


@pytest.mark.parametrize("name", ["webdataset", "hf"])
def test_shards_are_of_about_so_many_bytes_and_of_one_split(name, tmp_path):
    ledger = split_dataset(tmp_path / "d")
    export(ledger, name, str(tmp_path / "out"), config=SMALL)
    suffix = {"webdataset": "tar", "hf": "parquet"}[name]
    shards = sorted(p.name for p in (tmp_path / "out").rglob(f"*.{suffix}"))
    assert {s.partition("-")[0] for s in shards} == {"train", "val"}
    assert len(shards) > 3
    said: list[tuple[str, str]] = []
    export_all(ledger, formats=(name,), config=SMALL)
    assert check_exports(ledger, lambda *problem: said.append(problem)) == (name,)
    assert not said
    many = len(list(Path(ledger.uri, "exports").rglob(f"*.{suffix}")))
    export_all(ledger, formats=(name,))
    assert len(list(Path(ledger.uri, "exports").rglob(f"*.{suffix}"))) == 2 < many


def test_datasets_opens_the_folder_by_split_and_the_tars_too(tmp_path):
    ledger = split_dataset(tmp_path / "d")
    for name in ("hf", "webdataset"):
        export(ledger, name, str(tmp_path / name), config=SMALL)
    found = load_dataset(str(tmp_path / "hf"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in found.items()} == {"train": 6, "val": 2}
    row = found["train"][0]
    assert row["image"].size == (row["width"], row["height"])
    files = {s: str(tmp_path / "webdataset" / f"{s}-*.tar") for s in ("train", "val")}
    tars = load_dataset("webdataset", data_files=files, cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in tars.items()} == {"train": 6, "val": 2}


def test_turned_pictures_are_upright_in_both(tmp_path):
    ledger = small_dataset(tmp_path / "d", pictures=True)
    export(ledger, "webdataset", str(tmp_path / "w"))
    with tarfile.open(tmp_path / "w" / "train-000000.tar") as tar:
        assert {(m.mtime, m.uid, m.uname) for m in tar} == {(0, 0, "")}
        for number in PICTURE_NAMES.values():
            (name,) = [m for m in tar.getnames() if m.endswith(f"{number:010d}.png")]
            picture = Image.open(io.BytesIO(tar.extractfile(name).read())).convert("RGB")  # pyright: ignore
            assert np.abs(np.array(picture).astype(int) - pixels_of(number)).mean() < 6


DAMAGES = {
    "webdataset": ("train-000000.tar", "export-file-differs"),
    "hf": ("data/train-00000.parquet", "export-annotations"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_labels_that_are_not_the_ledgers_are_noticed(name, tmp_path):
    ledger = small_dataset(tmp_path / "d", pictures=True)
    export_all(ledger, formats=(name,))
    path, rule = DAMAGES[name]
    file = Path(ledger.uri, "exports", name, path)
    if name == "hf":
        table = pq.read_table(file)
        rows = table.to_pylist()
        rows[2]["segments"][0]["area"] += 1
        pq.write_table(pa.Table.from_pylist(rows, table.schema), file)
    else:
        data = file.read_bytes()
        assert b'"area":' in data
        place = data.index(b'"area":') + 7
        file.write_bytes(data[:place] + b"9" + data[place + 1 :])
    said: list[str] = []
    check_exports(ledger, lambda rule, _: said.append(rule))
    assert said == [rule]


def test_where_segments_overlap_the_higher_score_lies_on_top():
    items = []
    for number, score in ((1, 0.9), (2, 0.4), (3, None)):
        mask = np.zeros((4, 8), np.uint8)
        mask[:, number : number + 4] = 1
        counts = codec.encode(mask).decode()
        items.append({"segment_id": number, "score": score, "rle": {"counts": counts},
                      "bbox_xywh": codec.bbox_xywh(counts, 4, 8)})  # fmt: skip
    assert painted_ids(items, 4, 8)[0].tolist() == [0, 1, 1, 1, 1, 2, 3, 0]


def test_jpegs_alone_stay_jpegs_byte_for_byte(tmp_path):
    (tmp_path / "in").mkdir()
    for path in write_pictures(tmp_path / "png", 3):
        Image.open(path).save(tmp_path / "in" / f"{path.stem}.jpg", quality=90)
    data = {
        "input": {"uri": str(tmp_path / "in")},
        "output": str(tmp_path / "out"),
        "model": {"name": "otsu"},
        "execution": {"inline": True},
        "export": {"formats": ["webdataset"]},
    }
    result = label(JobConfig.parse(data), report=False)
    folder = Path(result.dataset, "exports", "webdataset")
    index = json.loads((folder / "index.json").read_bytes())
    with tarfile.open(folder / index["shards"][0]["name"]) as tar:
        jpegs = {m: tar.extractfile(m).read() for m in tar.getnames() if m.endswith(".jpg")}  # pyright: ignore
    originals = sorted(p.read_bytes() for p in (tmp_path / "in").iterdir())
    assert sorted(jpegs.values()) == originals
