"""Small datasets with everything in them that an exporter trips over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.ledger.ledger import Ledger, publish, write_dataset
from pipeline.masks import codec
from schemas.categories import Categories, Category
from schemas.records import (
    MAX_IMAGE_ID,
    ErrorCode,
    Failure,
    ImageRecord,
    Segment,
    Segmentation,
    Task,
    answer,
)

NUCLEUS = Category(1, "nucleus", True, "#4169e1", "cell")
SKY = Category(92, "sky", False, "#87ceeb")
BACKGROUND = Category(3, "background", False, "#101010", is_background=True)
CATEGORIES = Categories((NUCLEUS, SKY, BACKGROUND))

HEIGHT, WIDTH = 24, 31

NAMES = {
    "plain.jpg": 7,
    "sub/plain.jpg": 8,
    "sub/plain.png": 9,
    "sub/plain.jpg.tif": 10,
    'ünï/"quoted" back\\slash.v2.jpeg': 11,
    "new\nline\tand tab.bmp": 12,
    "../up.jpg": 13,
    "no suffix": MAX_IMAGE_ID,
}
EMPTY = 12
BROKEN = 14

PICTURE_NAMES = {
    {"../up.jpg": "up.v1.jpg", "no suffix": "zz last.gif"}.get(name, name): number
    for name, number in NAMES.items()
}
"""The same where the pictures exist: names that a folder can hold."""

TURNED = 8
"""The image whose file is stored turned, where the pictures exist."""


def things_map() -> npt.NDArray[np.int32]:
    """Labels: 1 a ring (a hole), 2 two parts, 3 one pixel, 4 in the last corner, 5 a diagonal."""
    labels = np.zeros((HEIGHT, WIDTH), np.int32)
    labels[2:9, 3:10] = 1
    labels[4:7, 5:8] = 0
    labels[12:15, 2:5] = labels[18:20, 2:9] = 2
    labels[0, 0] = 3
    labels[-3:, -4:] = 4
    labels[np.arange(10, 20), np.arange(12, 22)] = 5
    return labels


def panoptic_map(number: int) -> npt.NDArray[np.int32]:
    """The things, sky (6) in the upper right where nothing else is, background (7) elsewhere."""
    labels = np.roll(things_map(), number % 5, axis=1) if number != EMPTY else things_map() * 0
    free = labels == 0
    right = np.arange(WIDTH) > WIDTH // 2
    if number != EMPTY:
        labels[free & right & (np.arange(HEIGHT) < 9)[:, None]] = 6
    labels[(labels == 0)] = 7
    return labels


def category_of(label: int) -> int:
    """Category of a label of `panoptic_map`."""
    return {6: SKY.id, 7: BACKGROUND.id}.get(label, NUCLEUS.id)


def segmentation(number: int, task: str) -> Segmentation:
    """What a model of this task would find in image `number`."""
    labels = panoptic_map(number)
    if task == "instance":
        labels[labels > 5] = 0
    if task == "semantic":
        labels = np.vectorize(category_of)(labels)
    found = []
    for region in codec.regions(labels):
        category = region.label if task == "semantic" else category_of(region.label)
        # No score for one: readers must bear that.
        score = None if region.label == 2 else 0.5 + region.label % 8 / 16
        found.append(Segment(category, region.counts, region.area, region.bbox_xywh, score))
    return Segmentation(HEIGHT, WIDTH, tuple(found))


def pixels_of(number: int, size_hw: tuple[int, int] = (HEIGHT, WIDTH)) -> npt.NDArray[np.uint8]:
    """The picture of image `number`, upright: HxWx3 RGB, smooth enough for JPEG."""
    y, x = np.mgrid[: size_hw[0], : size_hw[1]]
    return np.stack((x * 8, y * 10, np.full_like(x, number % 200)), axis=2).astype(np.uint8)


def write_pictures(
    folder: Path, names: Mapping[str, int], size_hw: tuple[int, int] = (HEIGHT, WIDTH)
) -> None:
    """A file for each name, in the format of its suffix; image TURNED is stored turned."""
    for name, number in names.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture, options = Image.fromarray(pixels_of(number, size_hw)), {}
        if number == TURNED:
            picture = picture.transpose(Image.Transpose.ROTATE_90)
            exif = Image.Exif()
            exif[0x0112] = 6  # readers turn it by 90° clockwise
            options = {"exif": exif}
        picture.save(path, **options)


def small_dataset(
    folder: Path,
    task: Task | tuple[Task, ...] = "panoptic",
    *,
    shard_size: int = 3,
    pictures: bool = False,
    categories: Categories = CATEGORIES,
) -> Ledger:
    """Eight images of tricky names, one of them empty, and one that failed.

    With `pictures` their files lie in a folder beside, and the names are PICTURE_NAMES. Other
    `categories` have the ids of CATEGORIES.
    """
    tasks: tuple[Task, ...] = (task,) if isinstance(task, str) else task

    def found(number: int) -> Segmentation:
        return answer(HEIGHT, WIDTH, {task: segmentation(number, task).segments for task in tasks})

    images: list[tuple[ImageRecord, Segmentation | Failure]] = [
        (ImageRecord(name, f"/in/{name}", image_id=number), found(number))
        for name, number in (PICTURE_NAMES if pictures else NAMES).items()
    ]
    broken = ImageRecord("broken.jpg", "/in/broken.jpg", image_id=BROKEN)
    images.insert(4, (broken, Failure(ErrorCode.TRUNCATED, "the file ends early")))
    ledger = write_dataset(
        str(folder), images, categories=categories, task=task, shard_size=shard_size
    )
    return with_pictures(ledger, PICTURE_NAMES) if pictures else ledger


def with_pictures(
    ledger: Ledger, names: Mapping[str, int], size_hw: tuple[int, int] = (HEIGHT, WIDTH)
) -> Ledger:
    """Writes the pictures beside the dataset, and where they are into its manifest."""
    source = Path(ledger.uri).with_name(Path(ledger.uri).name + "-input")
    write_pictures(source, names, size_hw)
    manifest = replace(ledger.manifest, config={"input": {"uri": str(source)}})
    Path(ledger.uri, "manifest.json").unlink()
    return Ledger(ledger.uri, publish(ledger.storage, ledger.uri, manifest), ledger.storage)
