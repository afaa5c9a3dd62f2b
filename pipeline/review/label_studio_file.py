"""Label Studio's JSON export: brush masks in its run-length code, and polygons."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.sources.json_file import JsonFile
from pipeline.masks import codec

from .corrections import CorrectedRegion, Correction, row_major

_MOST_PIXELS = 1 << 30


def read_label_studio(file: JsonFile) -> Iterator[Correction]:
    """The tasks that a person annotated; of several annotations the last one that was not skipped.

    Regions that our export made of one annotation (`meta.annotation_id`) are one region again.

    Raises:
        ValueError: It is no list of tasks.
    """
    for batch in file.batches(file.spans()):
        for _, task in batch:
            if not isinstance(task, Mapping) or not isinstance(task.get("data"), Mapping):
                raise ValueError(
                    f"{file.uri}: an entry has no data: export from Label Studio as JSON, not as "
                    "JSON_MIN"
                )
            given = task.get("annotations")
            done = [
                item
                for item in (given if isinstance(given, list) else ())
                if isinstance(item, Mapping) and not item.get("was_cancelled")
            ]
            if done:
                yield _correction(task, max(done, key=lambda item: str(item.get("updated_at"))))


def _correction(task: Mapping[str, Any], annotation: Mapping[str, Any]) -> Correction:
    data = task["data"]
    name = str(data.get("file_name") or unquote(str(data.get("image", ""))).rpartition("=")[2])
    by = annotation.get("completed_by")
    by = by.get("email") or by.get("id") if isinstance(by, Mapping) else by
    about = {
        "by": "" if by is None else str(by),
        "at": str(annotation.get("updated_at") or annotation.get("created_at") or ""),
        "sha256": str(data.get("sha256") or ""),
    }
    try:
        height, width, regions = _regions(annotation.get("result") or ())
    except (ValueError, KeyError, TypeError, IndexError) as error:
        what = f"a result lacks {error}" if isinstance(error, KeyError) else str(error)
        return Correction(name, 0, 0, (), **about, problem=what)
    return Correction(name, height, width, regions, **about)


def _regions(results: Sequence[Any]) -> tuple[int, int, tuple[CorrectedRegion, ...]]:
    height = width = 0
    found: dict[tuple[str, str], npt.NDArray[np.uint8]] = {}
    for number, result in enumerate(results):
        if not isinstance(result, Mapping):
            raise ValueError(f"a result is {result!r}, no object")
        kind = result.get("type")
        if kind not in ("brushlabels", "polygonlabels"):
            if kind in ("choices", "textarea", "rating", "relation"):
                continue
            raise ValueError(f"a result of type {kind!r} is neither brush nor polygon")
        if result.get("image_rotation"):
            raise ValueError("the picture was turned in Label Studio")
        height, width = int(result["original_height"]), int(result["original_width"])
        if not 0 < height * width <= _MOST_PIXELS:
            raise ValueError(f"a size of {width} × {height} is none of a picture")
        value = result["value"]
        labels = value[kind]
        if not isinstance(labels, list) or len(labels) != 1:
            raise ValueError(f"a region has the labels {labels!r}: one is due")
        label = labels[0]
        if kind == "brushlabels":
            mask = read_brush(value["rle"], height, width)
        else:
            ring = np.array(value["points"], np.float64) * (width / 100, height / 100)
            mask = codec.decode(
                codec.from_coco([ring.reshape(-1).tolist()], height, width), height, width
            )
        own = (result.get("meta") or {}).get("annotation_id")
        key = (f"result {number}" if own is None else str(own), str(label))
        found[key] = mask | found[key] if key in found else mask
    regions = (
        CorrectedRegion(label, row_major(mask, height, width)) for (_, label), mask in found.items()
    )
    return height, width, tuple(regions)


def read_brush(code: Sequence[int], height: int, width: int) -> npt.NDArray[np.uint8]:
    """The mask of a brush: thi.ng's rle-pack of RGBA bytes, row by row; alpha is the mask.

    The stream of bits holds the number of bytes (32), the word size − 1 (5), four sizes of a
    length − 1 (4 each), then runs: 1 for a run or 0 for single values, the number of a size (2), a
    length − 1, and one value or as many (github.com/thi-ng/umbrella, packages/rle-pack).

    Args:
        code: Bytes as integers.
        height: Of the picture, pixels.
        width: Of the same.

    Returns:
        HxW uint8, 1 inside.

    Raises:
        ValueError: The stream is malformed or of another picture.
    """
    if not isinstance(code, list) or not all(type(n) is int and 0 <= n < 256 for n in code):
        raise ValueError("a brush's code is no list of bytes")
    bits = np.unpackbits(np.array(code, np.uint8))
    text = bits.astype(np.uint8) + ord("0")
    stream = text.tobytes()
    at = 0

    def number(size: int) -> int:
        nonlocal at
        piece = stream[at : at + size]
        if len(piece) < size:
            raise ValueError("a brush's code ends too early")
        at += size
        return int(piece, 2)

    total, word = number(32), number(5) + 1
    if total != 4 * height * width:
        raise ValueError(f"a brush of {total // 4} pixels in a picture of {width} × {height}")
    sizes = [number(4) + 1 for _ in range(4)]
    values: list[int] = []
    lengths: list[int] = []
    done = 0
    while done < total:
        repeated = number(1)
        length = number(sizes[number(2)]) + 1
        if done + length > total:
            raise ValueError("a brush's code is longer than its picture")
        done += length
        if repeated:
            lengths.append(length)
            values.append(number(word))
        else:
            lengths += [1] * length
            values += [number(word) for _ in range(length)]
    flat = np.repeat(np.array(values, np.int64) > 0, lengths)
    return flat.reshape(height, width, 4)[:, :, 3].astype(np.uint8)
