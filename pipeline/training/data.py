"""Labelled: one source of labels beside the pictures that they belong to."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.evaluation.pairs import pair_images
from pipeline.evaluation.sources.dataset import LedgerSource
from pipeline.evaluation.sources.open import open_source
from pipeline.evaluation.sources.source import ImageEntry, Source
from pipeline.images.pages import as_planes
from pipeline.ledger.ledger import Ledger, open_ledger
from pipeline.readers import Reader, open_reader
from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri, join
from schemas.config.job import ImagesConfig, InputConfig
from schemas.names import below
from schemas.records import ImageRecord, Status, Task
from schemas.rows import ImageRow

Rest = Literal["auto", "ignore", "background"]


@dataclass(frozen=True, slots=True)
class LabelLocation:
    """Where labels and their pictures are.

    Attributes:
        labels: A dataset of ours, a COCO instances or panoptic file, or a folder of maps whose
            pixels are categories.
        pictures: Folder, tar or Parquet file; "" = what our dataset says.
        task: Of a dataset of several tasks; None = the one that suits a semantic network.
        void: Pixel values of maps that mean unlabelled, see `map_key`.
        pixel_offset: Category id − pixel value of maps.
        locked_only: Of a dataset of ours, only pictures whose labels a person corrected.
    """

    labels: str
    pictures: str = ""
    task: Task | None = None
    void: tuple[int, ...] | None = None
    pixel_offset: int = 0
    locked_only: bool = False


@dataclass(frozen=True, slots=True)
class Pair:
    """One picture and the key of its labels.

    Attributes:
        key: What `Source.read` wants.
        record: Of the picture; of a copy that lies in the dataset, its place there.
        group: Pictures of one group never part: the content of a copy's parent, or the name.
        split: "train", "val", "test", or "" where nothing says.
        is_copy: Made by `[augment]`.
    """

    key: int | str
    record: ImageRecord
    group: str
    split: str = ""
    is_copy: bool = False


class LabelSource:
    """Opens a place and pairs its pictures with their labels.

    Args:
        place: Where.
        storage: File access.

    Raises:
        ValueError: There are no labels of pixels, no pictures, or no picture has labels.
        StorageError: A file cannot be read.
    """

    def __init__(self, place: LabelLocation, storage: Storage) -> None:
        self.place, self._storage = place, storage
        uri = absolute_uri(place.labels)
        ours = storage.exists(join(uri, "manifest.json"))
        maps = storage.is_dir(uri) and not ours and not storage.exists(uri + ".json")
        source: Source = open_source(
            place.labels,
            "semantic" if maps else "auto",
            task=place.task,
            void=place.void,
            pixel_offset=place.pixel_offset,
            locked_only=place.locked_only,
            storage=storage,
        )
        if source.kind in ("coco-results", "labels"):
            raise ValueError(
                f"{place.labels} holds {source.kind}, which name no category of pixels"
            )
        if isinstance(source, LedgerSource) and place.task is None:
            source = source.suited_to("semantic")
        self.source = source
        self._images = ImagesConfig()
        if isinstance(source, LedgerSource):
            self._ledger = open_ledger(place.labels, storage).view(source.task)
            found = self._ledger.manifest.config.get("images", {})
            self._images = ImagesConfig.model_validate(found)
            self.reader = self._open_pictures(_input_of(self._ledger, place))
            self.pairs = list(self._of_ledger())
        else:
            if not place.pictures:
                raise ValueError(f"{place.labels} does not say where its pictures are: name them")
            self.reader = self._open_pictures(InputConfig(uri=place.pictures))
            self.pairs = list(self._of_names())
        if not self.pairs:
            raise ValueError(f"{place.labels}: no picture of it is where it should be")

    def rest(self, rest: Rest) -> Literal["ignore", "background"]:
        """What pixels without a segment are: objects leave background, regions leave nothing."""
        if rest != "auto":
            return rest
        return "background" if self.source.task == "instance" else "ignore"

    def read(self, pair: Pair) -> bytes:
        """The encoded picture.

        Raises:
            StorageError: The bytes cannot be had.
        """
        if pair.is_copy:
            return self._storage.read(pair.record.uri)
        return self.reader.read(pair.record)

    def images_of(self, pair: Pair) -> ImagesConfig:
        """How a picture was decoded when it was labelled: the same plane and channels."""
        return ImagesConfig() if pair.is_copy else self._images

    def _open_pictures(self, config: InputConfig) -> Reader:
        return as_planes(open_reader(config, self._storage), self._images)

    def _of_names(self) -> Iterator[Pair]:
        records = {record.file_name: record for record in self.reader.list()}
        labels = self.source.entries()
        nameless = [entry for entry in labels if entry.name is None]
        if nameless:
            raise ValueError(f"{self.place.labels} names no files of pictures")
        pictures = [ImageEntry(name, name) for name in records]
        for labelled, picture in pair_images(labels, pictures).pairs:
            if picture is not None:
                name = str(picture.key)
                yield Pair(labelled.key, records[name], name)

    def _of_ledger(self) -> Iterator[Pair]:
        """Rows that were looked at, in the dataset's order, with the pictures that are there."""
        rows: list[ImageRow] = [row for table in self._ledger.images() for row in table.to_pylist()]
        parents = {row["image_id"]: row for row in rows}
        records = {record.file_name: record for record in self.reader.list()}
        for row in rows:
            if row["status"] not in (Status.OK, Status.EMPTY):
                continue
            name, parent_id = row["file_name"], row.get("parent_image_id")
            parent = row if parent_id is None else parents.get(parent_id, row)
            if self.place.locked_only and not parent.get("locked"):
                continue
            record = records.get(name)
            if parent_id is not None:
                uri = below(self._ledger.uri, name)
                record = ImageRecord(name, uri)
            if record is not None:
                yield Pair(
                    row["image_id"],
                    replace(record, image_id=row["image_id"]),
                    parent.get("sha256") or parent["file_name"],
                    row.get("split") or "",
                    parent_id is not None,
                )


def _input_of(ledger: Ledger, place: LabelLocation) -> InputConfig:
    settings = ledger.manifest.config.get("input")
    if place.pictures:
        return InputConfig(uri=place.pictures)
    if not settings:
        raise ValueError(f"{place.labels} does not say where its pictures are: name them")
    return InputConfig.model_validate(settings)


# Which examples are learned from and which are kept to validate on.


def split_pairs(
    pairs: Sequence[Pair], *, val: float, seed: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Positions of pictures to learn from, and of pictures to validate on.

    Where the dataset assigned splits, these hold; what is "test" is used for neither. Else a hash
    of each picture's group decides, so that a picture's side does not depend on the others and
    copies stay with their parent. Copies are never validated on.

    Args:
        pairs: Of all pictures.
        val: Share of the groups to validate on.
        seed: Of the hash.

    Raises:
        ValueError: One side is empty.
    """
    if any(pair.split for pair in pairs):
        sides = [pair.split for pair in pairs]
    else:
        place = {pair.group: _place(pair.group, seed) for pair in pairs}
        lowest = min(place, key=lambda group: place[group]) if place else ""
        chosen = {group for group, at in place.items() if at < val}
        if len(chosen) == len(place):
            chosen.discard(max(place, key=lambda group: place[group], default=""))
        # In a small dataset no picture may fall below the share.
        chosen |= {lowest} if len(place) > 1 else set()
        sides = ["val" if pair.group in chosen else "train" for pair in pairs]
    numbered = list(enumerate(zip(sides, pairs, strict=True)))
    train = tuple(i for i, (side, _) in numbered if side == "train")
    held = tuple(i for i, (side, pair) in numbered if side == "val" and not pair.is_copy)
    if not train or not held:
        raise ValueError(
            f"{len(train)} pictures to learn from and {len(held)} to validate on: both are needed"
        )
    return train, held


def _place(group: str, seed: int) -> float:
    """A number in 0…1 that follows from the group alone."""
    digest = hashlib.sha256(f"{seed}:{group}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
