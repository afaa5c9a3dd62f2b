"""WebDataset: tars of upright pictures, masks and JSON, one key a sample."""

from __future__ import annotations

import io
import tarfile
from typing import Any, BinaryIO

import cv2
import numpy as np
import numpy.typing as npt
import orjson

from pipeline.ledger.ledger import Ledger
from pipeline.storage.uris import join
from schemas.records import Task
from schemas.rows import size_of

from .coco_panoptic import bgr_of_ids
from .coco_parts import looked_at
from .pictures import Pictures, flat_name
from .shards import Sample, Shards, samples_of
from .table import Artifact, Report, Traits
from .tree import Tree, picture_size


class WebDataset:
    """`<split>-<number>.tar` and `index.json`, written last, that names the shards.

    A sample has the fields `jpg` (or `png`, where not every image is a JPEG: fields must be the
    same throughout), `segments.png`, whose colour is a segment's id, R + 256·G + 65536·B, and
    `json` with the image's row and its segments, masks as COCO's RLE. Where segments overlap, the
    PNG shows the higher score and the RLE is whole. Keys hold no dot. Tars hold no clock.
    """

    tasks: tuple[Task, ...] = ("instance", "panoptic", "semantic")
    folder = "webdataset"
    owns = ""
    file = "index.json"
    options: tuple[str, ...] = ("shard_bytes",)
    traits = Traits(pictures=True)

    def __init__(self, shard_bytes: int = 256 << 20) -> None:
        self._limit = shard_bytes

    def export(self, ledger: Ledger, out: str) -> list[Artifact]:
        """Writes the shards, then index.json, then removes stale shards."""
        suffix = _suffix(ledger)
        tree = Tree(ledger.storage, out)
        begin = lambda file: _TarShard(file, suffix)  # noqa: E731
        pattern = "{split}-{number:06d}.tar"
        with Shards(ledger.storage, out, pattern, self._limit, begin) as shards:
            for sample in samples_of(ledger, Pictures(ledger), png_of_ids, suffix=suffix):
                shards.add(sample.row["split"] or "train", sample)
        for path, _ in shards.written:
            tree.know(path)
        ledger.storage.write(join(out, self.file), _index(ledger, shards.written))
        tree.tidy()
        count = sum(samples for _, samples in shards.written)
        return [
            Artifact(self.file, "webdataset", len(shards.written)),
            Artifact("./", "webdataset", count),
        ]

    def check(self, ledger: Ledger, out: str, report: Report) -> None:
        """Compares every member but the pictures with the ledger, and the pictures' sizes."""
        index = orjson.loads(ledger.storage.read(join(out, self.file)))
        listed = [(item["name"], item["samples"]) for item in index["shards"]]
        if orjson.loads(_index(ledger, listed)) != index:
            report("export-head", self.file)
        tree = Tree(ledger.storage, out)
        readers: dict[str, Any] = {}
        for name, _ in listed:
            tree.know(name)
            readers.setdefault(name.rpartition("-")[0], []).append(name)
        streams = {key: _members(ledger, out, names) for key, names in readers.items()}
        suffix = _suffix(ledger)
        for sample in samples_of(ledger, None, png_of_ids, suffix=suffix):
            stream = streams.get(sample.row["split"] or "train", iter(()))
            for name, data in _fields(sample, suffix):
                found = next(stream, None)
                if found is None:
                    report("export-file-missing", name)
                    return
                size = size_of(sample.row)
                same = found[1] == data if data else picture_size(found[1]) == size
                if found[0] != name or not same:
                    report("export-file-differs", name)
                    return
        for stream in streams.values():
            if (more := next(stream, None)) is not None:
                report("export-file-stray", more[0])
        tree.strays(report)


class _TarShard:
    """One tar being written."""

    def __init__(self, file: BinaryIO, suffix: str) -> None:
        self._tar = tarfile.TarFile(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)
        self._suffix = suffix

    def add(self, sample: Sample) -> int:
        """Writes the sample's members side by side; returns their bytes."""
        size = 0
        for name, data in _fields(sample, self._suffix):
            info = tarfile.TarInfo(name)  # owner 0, time 0: the same bytes each time
            info.size = len(data)
            self._tar.addfile(info, io.BytesIO(data))
            size += len(data) + 1024
        return size

    def close(self) -> None:
        """Ends the tar."""
        self._tar.close()


def png_of_ids(ids: npt.NDArray[np.int32]) -> bytes:
    """HxW segment ids as an RGB PNG: R + 256·G + 65536·B."""
    done, data = cv2.imencode(".png", bgr_of_ids(ids))
    if not done:
        raise ValueError(f"a mask of shape {ids.shape} could not be encoded")
    return data.tobytes()


def _fields(sample: Sample, suffix: str) -> list[tuple[str, bytes]]:
    """Names and bytes of a sample's members."""
    row, key = sample.row, flat_name(sample.row, "")
    keys = ("image_id", "file_name", "width", "height", "split")
    about = {name: row[name] for name in keys}
    text = orjson.dumps({**about, "segments": sample.segments})
    return [
        (key + suffix, sample.picture),
        (f"{key}.segments.png", sample.mask),
        (f"{key}.json", text),
    ]


def _suffix(ledger: Ledger) -> str:
    """ ".jpg" where every picture is a JPEG, else ".png" for all."""
    kinds: set[str | None] = set()
    for table in ledger.images(["status", "image_format"]):
        kinds.update(looked_at(table)["image_format"].unique().to_pylist())
    return ".jpg" if kinds == {"JPEG"} else ".png"


def _index(ledger: Ledger, shards: list[tuple[str, int]]) -> bytes:
    data = {
        "format": "webdataset",
        "model": ledger.manifest.model,
        "task": ledger.manifest.task,
        "categories": [item.to_coco() for item in ledger.categories],
        "shards": [{"name": name, "samples": samples} for name, samples in shards],
    }
    return orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


def _members(ledger: Ledger, out: str, names: list[str]) -> Any:
    """Name and bytes of each member of these tars, one after the other."""
    for name in names:
        with ledger.storage.open(join(out, name)) as file:
            try:
                with tarfile.open(fileobj=file, mode="r:") as tar:
                    for member in tar:
                        opened = tar.extractfile(member)
                        yield member.name, opened.read() if opened else b""
            except tarfile.TarError as error:
                raise ValueError(f"{name}: {error}") from error
