"""Hugging Face: Parquet with pictures and masks that `load_dataset(folder)` opens, and a card."""

from __future__ import annotations

import json
from typing import Any, BinaryIO

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.ledger.current import markdown_cell
from pipeline.ledger.ledger import Ledger
from pipeline.storage.uris import join
from schemas.records import Task

from .json_check import compare_entries
from .json_write import END
from .pictures import Pictures, flat_name, picture_suffix
from .shards import Sample, Shards, samples_of
from .table import Artifact, Report, Traits
from .tree import Tree, picture_size
from .webdataset import png_of_ids

_ROW_GROUP = 32 << 20
"""Bytes of pictures and masks in memory before a row group is written."""

_IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_SEGMENT = pa.struct(
    [
        ("segment_id", pa.int32()),
        ("annotation_id", pa.int64()),
        ("category", pa.int64()),
        ("category_id", pa.int32()),
        ("isthing", pa.bool_()),
        ("iscrowd", pa.int8()),
        ("area", pa.int64()),
        ("bbox_xywh", pa.list_(pa.int32(), 4)),
        ("score", pa.float32()),
        ("rle", pa.struct([("size", pa.list_(pa.int32(), 2)), ("counts", pa.string())])),
    ]
)
_ROW = {
    "image": _IMAGE,
    "segments_png": _IMAGE,
    "image_id": pa.int64(),
    "file_name": pa.string(),
    "width": pa.int32(),
    "height": pa.int32(),
    "segments": pa.list_(_SEGMENT),
}


class HuggingFace:
    """`data/<split>-<number>.parquet` and README.md, written last, which says what to load.

    A row an image: `image`, upright; `segments_png`, an image whose colour is a segment's id, R +
    256·G + 65536·B; and `segments`, with `category` as a ClassLabel and masks as COCO's RLE.
    """

    tasks: tuple[Task, ...] = ("instance", "panoptic", "semantic")
    folder = "hf"
    owns = "data"
    file = "README.md"
    options: tuple[str, ...] = ("shard_bytes",)
    traits = Traits(pictures=True)

    def __init__(self, shard_bytes: int = 256 << 20) -> None:
        self._limit = shard_bytes

    def export(self, ledger: Ledger, out: str) -> list[Artifact]:
        """Writes the shards, then README.md, then removes stale shards."""
        schema = _schema(ledger)
        numbers = _numbers(ledger)
        tree = Tree(ledger.storage, join(out, "data"))

        def begin(file: BinaryIO) -> _ParquetShard:
            return _ParquetShard(file, schema, numbers)

        pattern = "data/{split}-{number:05d}.parquet"
        with Shards(ledger.storage, out, pattern, self._limit, begin) as shards:
            for sample in samples_of(ledger, Pictures(ledger), png_of_ids):
                shards.add(sample.row["split"] or "train", sample)
        for path, _ in shards.written:
            tree.know(path.removeprefix("data/"))
        text = _card(ledger, shards.written) + _figures(ledger)
        ledger.storage.write(join(out, self.file), text.encode())
        tree.tidy()
        count = sum(samples for _, samples in shards.written)
        return [
            Artifact(self.file, "hf", len(shards.written)),
            Artifact("data/", "hf", count),
        ]

    def check(self, ledger: Ledger, out: str, report: Report) -> None:
        """Compares every row but the pictures with the ledger, and the pictures' sizes."""
        storage, numbers = ledger.storage, _numbers(ledger)
        folder = join(out, "data")
        names = sorted(e.path for e in storage.list(folder)) if storage.is_dir(folder) else []
        series: dict[str, list[str]] = {}
        tree, counts = Tree(storage, folder), []
        for name in names:
            if name.endswith(".parquet"):
                series.setdefault(name.rpartition("-")[0], []).append(name)
                with storage.open(join(folder, name)) as file:
                    counts.append((f"data/{name}", pq.ParquetFile(file).metadata.num_rows))
            tree.know(name)
        # Figures are those of the day of the export: the dataset may be evaluated again.
        card = storage.read(join(out, self.file)).partition(_HEADING.encode())[0]
        if card != _card(ledger, counts).encode():
            report("export-head", self.file)
        streams = {split: _rows(ledger, folder, own) for split, own in series.items()}
        for sample in samples_of(ledger, None, png_of_ids):
            found = next(streams.get(sample.row["split"] or "train", iter(())), None)
            number = sample.row["image_id"]
            if found is None:
                report("export-annotations", f"image {number} is missing")
                return
            due, picture = _row(sample, numbers), found["image"]["bytes"]
            due["image"] = found["image"]
            size = (sample.row["height"], sample.row["width"])
            if found["image_id"] != number or picture_size(picture) != size:
                report("export-images", f"image {number} differs")
                return
            entries = ([orjson.dumps({"id": number, **_plain(row)})] for row in (found, due))
            here, there = entries
            expected = pa.array([there[0].decode() + END])
            compare_entries("export-annotations", "image", here, [expected], report)
        for stream in streams.values():
            if (more := next(stream, None)) is not None:
                report("export-images", f"image {more['image_id']} is not in the dataset")


class _ParquetShard:
    """One Parquet file being written."""

    def __init__(self, file: BinaryIO, schema: pa.Schema, numbers: dict[int, int]) -> None:
        self._writer = pq.ParquetWriter(file, schema, compression="zstd")
        self._schema = schema
        self._numbers = numbers
        self._rows: list[dict[str, Any]] = []
        self._size = 0

    def add(self, sample: Sample) -> int:
        """Takes in a row; returns its bytes, about."""
        self._rows.append(_row(sample, self._numbers))
        size = len(sample.picture) + len(sample.mask)
        size += sum(len(item["rle"]["counts"]) + 64 for item in sample.segments)
        self._size += size
        if self._size >= _ROW_GROUP:
            self._flush()
        return size

    def close(self) -> None:
        """Writes what is left and the file's foot."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, self._schema))
        self._rows, self._size = [], 0


def _row(sample: Sample, numbers: dict[int, int]) -> dict[str, Any]:
    row = sample.row
    keys = ("segment_id", "annotation_id", "category_id", "isthing", "iscrowd", "area",
            "bbox_xywh", "score", "rle")  # fmt: skip
    return {
        "image": {"bytes": sample.picture, "path": flat_name(row, picture_suffix(row))},
        "segments_png": {"bytes": sample.mask, "path": flat_name(row, ".segments.png")},
        **{key: row[key] for key in ("image_id", "file_name", "width", "height")},
        "segments": [
            {"category": numbers[item["category_id"]], **{key: item[key] for key in keys}}
            for item in sample.segments
        ],
    }


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON has it: without the picture, the mask by its bytes' length and hash."""
    mask = row["segments_png"]
    text = {"path": mask["path"], "bytes": mask["bytes"].hex()}
    segments = [dict(sorted(item.items())) for item in row["segments"]]
    keys = ("file_name", "width", "height")
    return {**{key: row[key] for key in keys}, "mask": text, "segments": segments}


def _rows(ledger: Ledger, folder: str, names: list[str]) -> Any:
    for name in names:
        with ledger.storage.open(join(folder, name)) as file:
            for batch in pq.ParquetFile(file).iter_batches(batch_size=16):
                yield from batch.to_pylist()


def _numbers(ledger: Ledger) -> dict[int, int]:
    """Category id → its number as a ClassLabel, in the table's order."""
    return {item.id: place for place, item in enumerate(ledger.categories)}


def _schema(ledger: Ledger) -> pa.Schema:
    """With the features as `datasets` writes them: without them it sees plain structs."""

    def value(kind: str) -> dict[str, str]:
        return {"dtype": kind, "_type": "Value"}

    def several(feature: Any, length: int = -1) -> dict[str, Any]:
        fixed = {"length": length} if length >= 0 else {}
        return {"feature": feature, **fixed, "_type": "List"}

    names = [item.name for item in ledger.categories]
    segment = {
        "segment_id": value("int32"),
        "annotation_id": value("int64"),
        "category": {"names": names, "_type": "ClassLabel"},
        "category_id": value("int32"),
        "isthing": value("bool"),
        "iscrowd": value("int8"),
        "area": value("int64"),
        "bbox_xywh": several(value("int32"), 4),
        "score": value("float32"),
        "rle": {"size": several(value("int32"), 2), "counts": value("string")},
    }
    features = {
        "image": {"_type": "Image"},
        "segments_png": {"_type": "Image"},
        "image_id": value("int64"),
        "file_name": value("string"),
        "width": value("int32"),
        "height": value("int32"),
        "segments": several(segment),
    }
    about = json.dumps({"info": {"features": features}}, ensure_ascii=False)
    return pa.schema(list(_ROW.items()), metadata={"huggingface": about})


_HEADING = "\n## Figures\n"
_TOLD = {
    "average precision of masks, IoU 0.5 to 0.95": ("ap", "max_dets_100", "AP"),
    "average precision of masks, IoU 0.5": ("ap", "max_dets_100", "AP50"),
    "panoptic quality": ("pq", "all", "pq"),
    "mean IoU": ("miou", "mean_iou"),
    "matching accuracy, IoU 0.5": ("matching", "accuracy_50"),
}
"""What a card calls a figure → where `jobs.evaluate --save` puts it, under `overall`."""


def _figures(ledger: Ledger) -> str:
    """A table of how the labels compared with ground truth; "" where nobody has saved that."""
    uri = join(ledger.uri, "report", "evaluation.json")
    if not ledger.storage.exists(uri):
        return ""
    try:
        result = json.loads(ledger.storage.read(uri))
        rows = [
            f"| {name} | {value:.3f} |\n"
            for name, path in _TOLD.items()
            if isinstance(value := _at(result["overall"], path), float | int)
        ]
        images = int(result["counts"]["images"])
    except (ValueError, KeyError, TypeError):  # not a file of ours
        return ""
    if not rows:
        return ""
    head = f"Against ground truth of {images:,} images (`jobs.evaluate`):\n\n| | |\n|---|---:|\n"
    return f"{_HEADING}\n{head}{''.join(rows)}"


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _card(ledger: Ledger, shards: list[tuple[str, int]]) -> str:
    """The text of README.md: a head that names the shards of each split, then facts."""
    manifest = ledger.manifest
    model = manifest.model
    splits: dict[str, int] = {}
    for path, samples in shards:
        split = path.removeprefix("data/").rpartition("-")[0]
        splits[split] = splits.get(split, 0) + samples
    head = "task_categories:\n- image-segmentation\n"
    if splits:
        head += "configs:\n- config_name: default\n  data_files:\n"
        head += "".join(
            f"  - split: {split}\n    path: data/{split}-*.parquet\n" for split in sorted(splits)
        )
    rows = "".join(
        f"| {place} | {item.id} | {markdown_cell(item.name)} | "
        f"{manifest.category_counts.get(str(item.id), 0):,} |\n"
        for place, item in enumerate(ledger.categories)
    )
    counts = "".join(f"| images in {split} | {n:,} |\n" for split, n in sorted(splits.items()))
    return (
        f"---\n{head}---\n\n# Segmentation labels\n\n"
        f"{manifest.task.capitalize()} segmentation by a model, exported by maskmill. The labels "
        "are the model's: look at some before relying on them. The pictures keep their own "
        "licence.\n\n"
        f"| | |\n|---|---|\n| model | {markdown_cell(str(model.get('name', '')))} |\n"
        f"| revision | {markdown_cell(str(model.get('revision', '')))} |\n"
        f"| licence of the weights | {markdown_cell(str(model.get('licence') or 'not known'))} |\n"
        f"{counts}| segments | {manifest.objects:,} |\n\n"
        "`segments_png` is an image whose colour is a segment's id, R + 256·G + 65536·B; 0 is no "
        "segment. `segments[].rle` is COCO's run-length string: `pycocotools.mask.decode` reads "
        "it.\n\n## Categories\n\n| number | id | name | segments |\n|---:|---:|---|---:|\n"
        f"{rows}"
    )
