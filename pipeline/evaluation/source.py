"""Where segments come from: the protocol behind which every kind of ground truth stands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.records import Task

from .categories import Table
from .segments import Segments

KINDS = ("dataset", "coco-instances", "coco-results", "coco-panoptic", "labels", "semantic")
"""dataset: one of ours. labels: a folder of label maps, 0 = background, 1…n = objects. semantic:
a folder of pictures whose pixels are category ids."""


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """An image that a source knows.

    Attributes:
        key: What `Source.read` wants; COCO's image id where there is one.
        name: Path relative to the source's root, with its extension; None where only ids are known.
        failed: The model could not do it.
    """

    key: int | str
    name: str | None
    failed: bool = False


class Source(Protocol):
    """Segments of many images, read one image at a time."""

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        ...

    @property
    def task(self) -> Task:
        """What the segments are: objects, everything, or one region a category."""
        ...

    @property
    def categories(self) -> Table | None:
        """What segments can be; None where nothing but the pixels tells."""
        ...

    def entries(self) -> Sequence[ImageEntry]:
        """All images, in the order in which reading is cheapest."""
        ...

    def read(self, key: int | str) -> Segments:
        """The segments of one image.

        Raises:
            ValueError: The file contradicts itself.
            StorageError: A file cannot be read.
        """
        ...
