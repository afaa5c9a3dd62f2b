"""Checks the rows of a part: images, annotations, and that they belong together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.categories import Categories
from schemas.manifest import DatasetManifest
from schemas.records import MAX_IMAGE_ID, SEGMENT_BITS, Status

from .findings import Findings

compute: Any = pc  # its functions are made at import time, out of a type checker's sight

Ints = npt.NDArray[np.int64]


class ImageIndex:
    """Ids and names of all images, to find the ones that occur twice. 16 bytes an image."""

    def __init__(self) -> None:
        self._ids: list[Ints] = []
        self._names: list[npt.NDArray[np.uint64]] = []

    def add(self, images: pa.Table) -> None:
        """Takes the rows of a part."""
        self._ids.append(images["image_id"].to_numpy())
        hashes = (_hash(name) for name in images["file_name"].to_pylist())
        self._names.append(np.fromiter(hashes, np.uint64, len(images)))

    def merge(self, other: ImageIndex) -> None:
        """Takes what another took of the parts that follow."""
        self._ids += other._ids
        self._names += other._names

    def check(self, findings: Findings) -> None:
        """Reports ids and names that more than one row has."""
        ids = _joined(self._ids, np.int64)
        findings.add("image-unique", "image", _repeated(ids))
        names = _joined(self._names, np.uint64)
        twice = np.isin(names, _repeated(names))
        findings.add("image-name-unique", "image", ids[twice].tolist())


def check_images(images: pa.Table, findings: Findings) -> None:
    """Checks each image row by itself."""
    ids = images["image_id"].to_numpy()
    findings.add("image-id", "image", ids[(ids < 1) | (ids > MAX_IMAGE_ID)].tolist())
    status = _texts(images["status"])
    looked = _is(status, (Status.OK, Status.EMPTY))
    lost = _is(status, (Status.FAILED, Status.SKIPPED))
    code = _texts(images["error_code"])
    has_code = _not_empty(code)
    wrong = ~(looked | lost) | (has_code != lost)
    findings.add("image-status", "image", ids[wrong].tolist())
    sized = (_filled(images["width"]) > 0) & (_filled(images["height"]) > 0)
    findings.add("image-size", "image", ids[looked & ~sized].tolist())


def check_annotations(
    images: pa.Table, annotations: pa.Table, manifest: DatasetManifest, findings: Findings
) -> None:
    """Checks annotation rows, and the images' columns that follow from them."""
    categories = manifest.category_table()
    image_ids = images["image_id"].to_numpy()
    ids, owner_id = (annotations[key].to_numpy() for key in ("annotation_id", "image_id"))
    segment = annotations["segment_id"].to_numpy().astype(np.int64)

    def flag(rule: str, wrong: npt.NDArray[np.bool_]) -> None:
        findings.add(rule, "annotation", ids[wrong].tolist())

    flag(
        "annotation-id",
        (ids != (owner_id << SEGMENT_BITS | segment))
        | (segment < 1)
        | (segment >> SEGMENT_BITS > 0),
    )
    findings.add("annotation-unique", "annotation", _repeated(ids))

    owner = image_rows(image_ids, owner_id)
    looked = _is(_texts(images["status"]), (Status.OK, Status.EMPTY))
    orphan = (owner < 0) | ~np.append(looked, False)[owner]
    flag("annotation-image", orphan)

    task = _places(annotations["task"], manifest.tasks)
    first = np.append(True, owner[1:] != owner[:-1])[: len(owner)]
    start = np.maximum.accumulate(np.where(first, np.arange(len(owner)), 0))
    later_task = (owner[1:] == owner[:-1]) & (task[1:] < task[:-1])
    backwards = np.append(False, (owner[1:] < owner[:-1]) | later_task)[: len(owner)]
    flag("annotation-order", backwards | (segment != np.arange(len(owner)) - start + 1))

    category_id = annotations["category_id"].to_numpy()
    flag("annotation-category", _wrong_category(annotations, category_id, categories))
    locked = _flags(annotations)
    flag("annotation-crowd", (annotations["iscrowd"].to_numpy() != 0) & ~locked)
    if "locked" in images.column_names:
        _check_locks(images, locked, owner, ids, findings)
    score = annotations["score"].to_numpy()
    missing = annotations["score"].is_null().to_numpy()
    flag("annotation-score", ~(missing | ((score >= 0) & (score <= 1))))
    other_run = _texts(annotations["run"]) != manifest.config_fingerprint
    flag("annotation-origin", (task < 0) | other_run.astype(np.bool_))

    known = owner >= 0
    number = np.bincount(owner[known], minlength=len(images))
    wrong = number != images["num_segments"].to_numpy()
    findings.add("image-segments", "image", image_ids[wrong].tolist())
    background = [item.id for item in categories if item.is_background]
    something = known & ~np.isin(category_id, background)
    found = np.bincount(owner[something], minlength=len(images)) > 0
    status = _texts(images["status"])
    wrong = (found & _is(status, (Status.EMPTY,))) | (~found & _is(status, (Status.OK,)))
    findings.add("image-empty", "image", image_ids[wrong].tolist())
    flag("category-once", _second(owner, category_id, task, manifest.tasks, categories))


def _check_locks(
    images: pa.Table,
    locked: npt.NDArray[np.bool_],
    owner: Ints,
    ids: npt.NDArray[Any],
    findings: Findings,
) -> None:
    """Locked images are so with all of their annotations, and say whose they are."""
    whole = _flags(images)
    said = np.ones(len(images), np.bool_)
    for name in ("locked_by", "locked_at", "locked_from"):
        said &= images[name].is_valid().to_numpy()
    findings.add("lock-rows", "image", images["image_id"].to_numpy()[whole & ~said].tolist())
    original = images["parent_image_id"].is_null().to_numpy()
    known = (owner >= 0) & np.append(original, False)[owner]
    findings.add(
        "lock-rows", "annotation", ids[known & (np.append(whole, False)[owner] != locked)].tolist()
    )


def _flags(table: pa.Table) -> npt.NDArray[np.bool_]:
    """The column locked; nothing is before schema version 4."""
    if "locked" not in table.column_names:
        return np.zeros(len(table), np.bool_)
    return table["locked"].fill_null(False).to_numpy().astype(np.bool_)


def image_rows(image_ids: Ints, wanted: Ints) -> Ints:
    """Row of each wanted image id in `image_ids`, −1 where there is none."""
    if not len(image_ids):
        return np.full(len(wanted), -1, np.int64)
    order = np.argsort(image_ids, kind="stable")
    place = np.minimum(np.searchsorted(image_ids[order], wanted), len(order) - 1)
    rows = order[place]
    return np.where(image_ids[rows] == wanted, rows, -1)


def _wrong_category(
    annotations: pa.Table, category_id: npt.NDArray[Any], categories: Categories
) -> npt.NDArray[np.bool_]:
    wrong = np.ones(len(annotations), np.bool_)
    names = _texts(annotations["category"])
    isthing = annotations["isthing"].to_numpy()
    for item in categories:
        same = (names == item.name) & (isthing == item.isthing)
        wrong[(category_id == item.id) & same] = False
    return wrong


def _second(
    owner: Ints,
    category_id: npt.NDArray[Any],
    task: Ints,
    tasks: Sequence[str],
    categories: Categories,
) -> npt.NDArray[np.bool_]:
    """Segments whose category their image already has, where it may have it once in a task."""
    single = {
        "semantic": [item.id for item in categories],
        "panoptic": [item.id for item in categories if not item.isthing],
    }
    second = np.zeros(len(owner), np.bool_)
    for place, name in enumerate(tasks):
        mine = (owner >= 0) & (task == place) & np.isin(category_id, single.get(name, []))
        rows = np.flatnonzero(mine)
        key = owner[rows] << 32 | category_id[rows].astype(np.int64)
        _, first = np.unique(key, return_index=True)
        second[rows] = True
        second[rows[first]] = False
    return second


def _places(column: pa.ChunkedArray, wanted: Sequence[str]) -> Ints:
    """Place of each value among `wanted`, −1 where it is none of them."""
    found = compute.index_in(column, pa.array(wanted, pa.string()))
    return compute.fill_null(found, -1).to_numpy().astype(np.int64)


def _texts(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    return np.array(column.to_pylist(), object)


def _is(values: npt.NDArray[Any], wanted: Iterable[str]) -> npt.NDArray[np.bool_]:
    hits = np.zeros(len(values), np.bool_)
    for item in wanted:
        hits |= (values == str(item)).astype(np.bool_)
    return hits


def _not_empty(values: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    return np.fromiter((bool(item) for item in values), np.bool_, len(values))


def _filled(column: pa.ChunkedArray) -> Ints:
    return column.fill_null(0).to_numpy().astype(np.int64)


def _joined(pieces: list[Any], dtype: Any) -> npt.NDArray[Any]:
    return np.concatenate(pieces) if pieces else np.zeros(0, dtype)


def _repeated(values: npt.NDArray[Any]) -> list[int]:
    unique, counts = np.unique(values, return_counts=True)
    return unique[counts > 1].tolist()


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little")
