"""CVAT for images 1.1: masks in CVAT's run-length code and polygons, in XML or in a zip of it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from typing import IO, BinaryIO
from xml.etree import ElementTree

import numpy as np

from pipeline.masks import codec

from .corrections import CorrectedRegion, Correction, row_major

_MOST_BYTES = 4 << 30
_HEAD = 1 << 16


def read_cvat(file: BinaryIO, uri: str) -> Iterator[Correction]:
    """The images of a file, one at a time.

    A <mask> is a box and the lengths of its runs, row by row inside the box, zeros first
    (docs.cvat.ai, "CVAT for images"). Polygons of one group and label are one region.

    Raises:
        ValueError: It is no such XML, or it declares entities, which CVAT never does.
    """
    if file.read(4) == b"PK\x03\x04":
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            names = [name for name in archive.namelist() if name.endswith("annotations.xml")]
            if not names:
                raise ValueError(f"{uri} holds no annotations.xml: is it CVAT for images 1.1?")
            if archive.getinfo(names[0]).file_size > _MOST_BYTES:
                raise ValueError(f"{uri}: annotations.xml is larger than 4 GiB")
            with archive.open(names[0]) as member:
                _refuse_entities(member, uri)
            with archive.open(names[0]) as member:
                yield from _images(member, uri)
        return
    file.seek(0)
    _refuse_entities(file, uri)
    file.seek(0)
    yield from _images(file, uri)


def _refuse_entities(file: IO[bytes], uri: str) -> None:
    head = file.read(_HEAD)
    if b"<!DOCTYPE" in head or b"<!ENTITY" in head:
        raise ValueError(f"{uri} declares XML entities, which no file of CVAT does")


def _images(file: IO[bytes], uri: str) -> Iterator[Correction]:
    by = at = ""
    seen = False
    try:
        for _, element in ElementTree.iterparse(file):
            if element.tag == "meta":
                by = (element.findtext(".//assignee/username") or "").strip()
                by = by or (element.findtext(".//owner/username") or "").strip()
                at = (element.findtext(".//updated") or "").strip()
            elif element.tag == "image":
                seen = True
                yield _correction(element, by, at)
                element.clear()
    except ElementTree.ParseError as error:
        raise ValueError(f"{uri} is no XML: {error}") from None
    if not seen:
        raise ValueError(f"{uri} holds no <image>: is it CVAT for images 1.1?")


def _correction(element: ElementTree.Element, by: str, at: str) -> Correction:
    name = element.get("name", "")
    try:
        height, width = int(element.get("height", "")), int(element.get("width", ""))
        regions = tuple(_regions(element, height, width))
    except ValueError as error:
        return Correction(name, 0, 0, (), by, at, problem=str(error))
    return Correction(name, height, width, regions, by, at)


def _regions(image: ElementTree.Element, height: int, width: int) -> Iterator[CorrectedRegion]:
    polygons: dict[tuple[str, str], list[list[float]]] = {}
    for number, shape in enumerate(image):
        label = shape.get("label", "")
        if shape.tag == "mask":
            yield CorrectedRegion(label, _mask(shape, height, width))
        elif shape.tag == "polygon":
            points = [
                float(value)
                for point in shape.get("points", "").split(";")
                for value in point.split(",")
            ]
            group = shape.get("group_id") or "0"
            alone = group == "0"  # what CVAT writes of a shape that is in no group
            key = (f"shape {number}" if alone else group, label)
            polygons.setdefault(key, []).append(points)
        elif shape.tag not in ("attribute", "tag"):
            raise ValueError(f"a <{shape.tag}> of {label!r} is neither mask nor polygon")
    for (_, label), parts in polygons.items():
        yield CorrectedRegion(label, codec.from_coco(parts, height, width))


def _mask(shape: ElementTree.Element, height: int, width: int) -> bytes:
    left, top, w, h = (int(float(shape.get(k, ""))) for k in ("left", "top", "width", "height"))
    runs = np.array([int(run) for run in shape.get("rle", "").split(",")], np.int64)
    if w < 1 or h < 1 or (runs < 0).any() or int(runs.sum()) > w * h:
        raise ValueError(f"a mask of {shape.get('label')!r}: its runs do not fill {w} × {h}")
    flat = np.zeros(w * h, np.uint8)
    values = np.repeat((np.arange(len(runs)) & 1).astype(np.uint8), runs)
    flat[: len(values)] = values  # a last run of zeros may be left out
    return row_major(flat.reshape(h, w), height, width, left=left, top=top)
