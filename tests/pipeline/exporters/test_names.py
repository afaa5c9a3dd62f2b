"""What the log says of names that narrow readers break on, and what is done about them."""

from __future__ import annotations

import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from small_datasets import small_dataset

from pipeline.exporters import export_all
from pipeline.exporters.names import NarrowNames, narrow_names
from pipeline.exporters.pictures import flat_name
from pipeline.ledger.ledger import write_dataset
from schemas.categories import Categories, Category
from schemas.records import ImageRecord, Segmentation

THING = Categories((Category(1, "cell", True, "#1f9e89"),))


def dataset(folder, names):
    images = [(ImageRecord(n, "", image_id=k), Segmentation(4, 6)) for k, n in enumerate(names, 1)]
    return write_dataset(str(folder), images, categories=THING, task="instance", shard_size=2)


def turned(ledger, image_id):
    """As labelling writes it for a file that is stored turned."""
    for part in ledger.manifest.parts:
        path = f"{ledger.uri}/images/{part.name}.parquet"
        table = pq.ParquetFile(path).read()
        values = np.where(table["image_id"].to_numpy() == image_id, 6, 1).astype(np.int8)
        place = table.schema.get_field_index("exif_orientation")
        table = table.set_column(place, table.schema.field(place), pa.array(values))
        pq.write_table(table, path)


def test_every_kind_is_counted_over_all_parts(tmp_path):
    names = ["d/a.jpg", "d/a.png", "e/a.jpg", "owl.grey.png", "v1.0/plain.png", "t.tar/b.jpg",
             "p.parquet/3", "d\\b.jpg", "a:b.jpg"]  # fmt: skip
    ledger = dataset(tmp_path / "d", names)
    turned(ledger, 4)
    assert narrow_names(ledger) == NarrowNames(same_stem=2, dots=1, windows=2, turned=1, inside=2)


def test_the_log_names_counts_and_the_format_that_carries_all(tmp_path, caplog):
    ledger = dataset(tmp_path / "d", ["a.jpg", "a.png", "s.tar/c.jpg"])
    with caplog.at_level(logging.WARNING):
        export_all(ledger)
    (said,) = [r.getMessage() for r in caplog.records if r.name.endswith("exporters.names")]
    assert "2 share their name but for the suffix, 1 lie inside tars or Parquet files" in said
    assert "coco-flat carries them all" in said


def test_plain_names_and_formats_with_pictures_of_their_own_are_not_spoken_of(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        export_all(dataset(tmp_path / "d", ["a.jpg", "b.png"]))
        export_all(small_dataset(tmp_path / "p", "instance", pictures=True), formats=("yolo-seg",))
    assert not [r for r in caplog.records if r.name.endswith("exporters.names")]


def test_flat_names_are_plain_and_never_two_the_same():
    names = ["pair.jpg", "pair.png", "d/pair.jpg", "owl.grey.png", "ünï c.jpeg", "t.tar/x/1.1.jpg",
             ".hidden", "no suffix", "-", "a" * 300 + ".jpg"]  # fmt: skip
    flat = [flat_name({"file_name": n, "image_id": k}, ".png") for k, n in enumerate(names, 1)]
    assert len({name.lower() for name in flat}) == len(names)
    for name in flat:
        stem = name.removesuffix(".png")
        assert stem.isascii()
        assert not {*stem} & {*"./\\ \n"}
        assert len(name) < 100
    assert flat[0] == "pair-0000000001.png"
    assert flat[3] == "owl_grey-0000000004.png"
