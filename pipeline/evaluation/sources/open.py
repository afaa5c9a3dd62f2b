"""Opening a side of a comparison, whatever it is: the kind is found from the files."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from pipeline.ledger.ledger import open_ledger
from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri, beside, join
from schemas.records import Task
from schemas.suggest import nearest

from .coco import CocoSource
from .dataset import LedgerSource
from .json_file import JsonFile
from .maps import MapKey, MapSource, map_key
from .panoptic import PanopticSource
from .source import KINDS, IouType, Source


def open_source(
    uri: str,
    kind: str = "auto",
    *,
    other: Source | None = None,
    void: Collection[int] | None = None,
    pixel_offset: int = 0,
    task: Task | None = None,
    iou_type: IouType = "segm",
    skip_invalid: bool = False,
    locked_only: bool = False,
    storage: Storage | None = None,
) -> Source:
    """Opens a dataset of ours, a COCO JSON file or a folder of maps.

    A folder of maps with a `map_key.KEY_FILE` holds semantic maps. Without, it holds label maps if
    the other side is objects; if the other side is semantic, it holds label maps only where some
    pixel is none of its category ids; else 16-bit files are label maps and 8-bit files semantic
    ones.

    Args:
        uri: File or folder.
        kind: One of `KINDS`, or "auto".
        other: The other side, where it is open already.
        void: Pixel values of semantic maps that mean unlabelled, see `map_key.map_key`.
        pixel_offset: Category id − pixel value in semantic maps, likewise.
        task: Of a dataset that holds several; None = the one that compares best with the other
            side.
        iou_type: "bbox" reads boxes instead of masks.
        skip_invalid: Leave out entries of JSON files that cannot be used, and count them.
        locked_only: Of a dataset of ours, only images that a person corrected.
        storage: File access.

    Raises:
        ValueError: There is nothing at `uri`, or nothing that can be compared.
        StorageError: It cannot be read.
    """
    storage = storage or Storage()
    if kind not in ("auto", *KINDS):
        raise ValueError(f"unknown kind {kind!r}{nearest(kind, KINDS)}; known: {', '.join(KINDS)}")
    uri = absolute_uri(uri)
    if not storage.exists(uri):
        raise ValueError(f"no such file or folder: {uri}{beside(uri)}")
    if kind == "dataset" or (kind == "auto" and storage.exists(join(uri, "manifest.json"))):
        source = LedgerSource(open_ledger(uri, storage), task, locked_only=locked_only)
        return source if task or other is None else source.suited_to(other.task)
    if locked_only:
        raise ValueError(f"{uri} is no dataset of ours: it has no locked images")
    if task:
        raise ValueError(f"{uri} is no dataset of ours: there is no task to choose")
    if not storage.is_dir(uri):
        return _of_json(uri, kind, storage, iou_type, skip_invalid)
    if kind in ("auto", "coco-panoptic") and storage.exists(uri + ".json"):
        return _of_json(uri + ".json", "coco-panoptic", storage, iou_type, skip_invalid)
    if kind not in ("auto", "labels", "semantic"):
        raise ValueError(f"{uri} is a folder, {kind} wants a file")
    key = map_key(uri, void=void, pixel_offset=pixel_offset, storage=storage)
    if kind == "auto" and key.categories is not None:
        kind = "semantic"
    if kind == "auto":
        kind = _kind_of_maps(MapSource(uri, "labels", storage=storage), other, key)
    return MapSource(uri, kind, key=key, storage=storage)


def _of_json(
    uri: str, kind: str, storage: Storage, iou_type: IouType, skip_invalid: bool
) -> Source:
    if kind in ("labels", "semantic"):
        raise ValueError(f"{uri} is a file, {kind} wants a folder")
    file = JsonFile(uri, storage)
    found = _kind_of_json(file)
    if kind not in ("auto", found):
        raise ValueError(f"{uri} is {found}, not {kind}")
    if found == "coco-panoptic":
        folder = uri.removesuffix(".json")
        if not storage.is_dir(folder):
            raise ValueError(f"{uri} is panoptic and needs its PNG files in {folder}")
        return PanopticSource(file, folder=folder, storage=storage, skip_invalid=skip_invalid)
    return CocoSource(file, iou_type=iou_type, skip_invalid=skip_invalid)


_ALONE = {"object": "an empty object", "value": "a value alone"}


def _kind_of_json(file: JsonFile) -> str:
    if file.root == "list":
        return "coco-results"
    if not file.has("annotations"):
        have = sorted((*file.members, *file.small))
        if "annotations" in have:
            raise ValueError(f"{file.uri}: its annotations are neither a list nor an object")
        what = f"an object with {', '.join(have[:9])}" if have else _ALONE[file.root]
        raise ValueError(
            f"{file.uri} is no COCO file: neither a list of results nor an object with "
            f"annotations, but {what}"
        )
    spans = file.spans("annotations")
    first = file.read(spans.starts[:1], spans.ends[:1])
    if any(isinstance(item, Mapping) and "segments_info" in item for item in first):
        return "coco-panoptic"
    if not file.has("images"):
        raise ValueError(f"{file.uri} is no COCO file: it has annotations but no list of images")
    return "coco-instances"


def _kind_of_maps(maps: MapSource, other: Source | None, key: MapKey) -> str:
    if other is not None and other.task == "instance":
        return "labels"
    deep, values = maps.sample()
    if other is None or other.task == "panoptic" or other.categories is None:
        return "labels" if deep else "semantic"
    ids = key.of(values, "").values()
    return "semantic" if set(ids) <= set(other.categories) else "labels"
