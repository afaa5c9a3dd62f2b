"""GeoJSON: one FeatureCollection a picture, in pixels or in the world's coordinates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import tifffile

from pipeline.ledger.ledger import Ledger
from pipeline.masks.polygons import Ring, components_of, signed_area
from pipeline.storage.file_bytes import Contents, open_contents
from schemas.categories import Category
from schemas.records import ImageRecord, Task
from schemas.rows import AnnotationRow, ImageRow, size_of

from .pictures import PICTURE_COLUMNS, Pictures, flat_name
from .table import Artifact, Report, Traits
from .tree import OwnFile, Tree, labelled_images

_SCALE, _TIEPOINT, _MATRIX, _KEYS = 33550, 33922, 34264, 34735
"""GeoTIFF's tags: ModelPixelScale, ModelTiepoint, ModelTransformation, GeoKeyDirectory."""

_RASTER_TYPE, _GEOGRAPHIC, _PROJECTED = 1025, 2048, 3072
"""Its keys: GTRasterType, GeodeticCRS, ProjectedCRS."""

Affine = npt.NDArray[np.float64]
"""2×3: (x, y) of the world = matrix · (column, row, 1), pixel edges from 0."""

Projection = Callable[..., Any]
"""n x and n y → n longitudes and n latitudes, degrees."""


class GeoJson:
    """`<image>.geojson` for each image that was looked at; read by GIS programs and QuPath.

    A segment is a Feature of a Polygon or a MultiPolygon, valid by OGC's rules and exact: pixel
    edges. Outer rings run counter-clockwise in the numbers' own plane (RFC 7946). Coordinates are
    pixels from the top left, y downwards, unless the picture is a GeoTIFF: then they are the
    world's, with the old `crs` member that GDAL reads. Background is left out.

    Args:
        geojson_crs: "own", or "wgs84" for longitude and latitude, as RFC 7946 wants them.

    Raises:
        ValueError: pyproj is not installed and "wgs84" is asked for.
    """

    tasks: tuple[Task, ...] = ("instance", "panoptic", "semantic")
    folder = "geojson"
    owns = ""
    file = "categories.json"
    options: tuple[str, ...] = ("geojson_crs",)
    traits = Traits()

    def __init__(self, geojson_crs: str = "own") -> None:
        self._wgs84 = geojson_crs == "wgs84"
        if self._wgs84 and find_spec("pyproj") is None:
            raise ValueError("export.geojson_crs = 'wgs84' needs pyproj: install maskmill[geo]")

    def export(self, ledger: Ledger, out: str) -> list[Artifact]:
        """Writes a file an image, then categories.json, then removes stale files."""
        tree = Tree(ledger.storage, out)
        count = tree.write(self._files(ledger))
        ledger.storage.write(f"{out}/{self.file}", _key(ledger))
        tree.tidy()
        return [
            Artifact(self.file, "geojson", len(ledger.categories)),
            Artifact("./", "geojson", count),
        ]

    def check(self, ledger: Ledger, out: str, report: Report) -> None:
        """Compares every file with the ledger; GeoTIFFs are read again for their place."""
        Tree(ledger.storage, out).check(self._files(ledger), report)
        if ledger.storage.read(f"{out}/{self.file}") != _key(ledger):
            report("export-head", self.file)

    def _files(self, ledger: Ledger) -> Iterator[OwnFile]:
        table = ledger.categories.by_id()
        columns = ["annotation_id", "category_id", "area", "score", "rle", "bbox_xywh"]
        pictures: Pictures | None = None
        for row, items in labelled_images(ledger, PICTURE_COLUMNS, columns):
            record = None
            if row["image_format"] == "TIFF" and row["exif_orientation"] in (1, None):
                pictures = pictures or Pictures(ledger)
                record = pictures.find([row])[row["file_name"]]
            make = partial(_collection, table, row, items, pictures, record, wgs84=self._wgs84)
            yield OwnFile(flat_name(row, ".geojson"), make)


def _collection(
    table: dict[int, Category],
    row: ImageRow,
    items: Sequence[AnnotationRow],
    pictures: Pictures | None,
    record: ImageRecord | None,
    *,
    wgs84: bool,
) -> bytes:
    """The bytes of one picture's file."""
    place = None
    if pictures and record:
        place = geo_transform(pictures.read(row, record), size_of(row))
    kept = [item for item in items if not table[item["category_id"]].is_background]
    head: dict[str, Any] = {"type": "FeatureCollection"}
    lonlat = _lonlat(place[1]) if wgs84 and place and place[1] else None
    if place is not None and place[1] and lonlat is None:
        name = f"urn:ogc:def:crs:EPSG::{place[1]}"
        head["crs"] = {"type": "name", "properties": {"name": name}}
    head |= {key: row[key] for key in ("image_id", "file_name", "width", "height")}
    affine = place[0] if place else None
    head["features"] = [
        _feature(table[item["category_id"]], row, item, affine, lonlat) for item in kept
    ]
    return orjson.dumps(head) + b"\n"


def _feature(
    category: Category,
    row: ImageRow,
    item: AnnotationRow,
    affine: Affine | None,
    lonlat: Projection | None,
) -> dict[str, Any]:
    parts = components_of(item["rle"]["counts"], *size_of(row), item["bbox_xywh"], connectivity=4)
    polygons = [
        [
            _ring(part.outer, affine, lonlat, 1),
            *(_ring(hole, affine, lonlat, -1) for hole in part.holes),
        ]
        for part in parts
    ]
    several = len(polygons) > 1
    score = {} if item["score"] is None else {"score": item["score"]}
    return {
        "type": "Feature",
        "id": item["annotation_id"],
        "geometry": {
            "type": "MultiPolygon" if several else "Polygon",
            "coordinates": polygons if several else polygons[0],
        },
        "properties": {
            # What QuPath's import goes by.
            "objectType": "annotation",
            "classification": {"name": category.name, "color": list(category.rgb)},
            "annotation_id": item["annotation_id"],
            "category_id": category.id,
            "category": category.name,
            "area": item["area"],
            **score,
        },
    }


def _ring(
    ring: Ring, affine: Affine | None, lonlat: Projection | None, direction: int
) -> list[list[float]]:
    """A closed ring, counter-clockwise for direction 1."""
    points: npt.NDArray[Any] = ring
    if affine is not None:
        points = ring @ affine[:, :2].T + affine[:, 2]
    if lonlat is not None:  # 9 decimals of a degree are a tenth of a millimetre
        points = np.stack(lonlat(points[:, 0], points[:, 1]), axis=1).round(9)
    if signed_area(points) * direction < 0:
        points = points[::-1]
    return np.concatenate((points, points[:1])).tolist()


@cache
def _lonlat(code: int) -> Projection | None:
    """From an EPSG code's coordinates to longitude and latitude; None where PROJ knows none."""
    from pyproj import CRS, Transformer
    from pyproj.exceptions import CRSError

    try:
        own = CRS.from_epsg(code)
    except CRSError:
        return None
    return Transformer.from_crs(own, CRS.from_epsg(4326), always_xy=True).transform


def geo_transform(
    data: Contents, labelled_hw: tuple[int, int] | None = None
) -> tuple[Affine, int] | None:
    """Where a GeoTIFF's pixels lie in the world, and the EPSG code of its coordinates, 0 = unsaid.

    By OGC's GeoTIFF 1.1 (19-008r4): the matrix, else one tie point and the pixel's size. With the
    raster type PixelIsPoint a tie point is a pixel's centre.

    Args:
        data: The whole file.
        labelled_hw: (height, width) of what was labelled, such as a level of a pyramid.

    Returns:
        None for a TIFF that is not placed in the world, or in a way that is not supported.
    """
    try:
        with tifffile.TiffFile(open_contents(data)) as file:
            page: Any = file.pages[0]
            tags, full_hw = page.tags, (page.imagelength, page.imagewidth)
            found = {
                code: tags[code].value
                for code in (_SCALE, _TIEPOINT, _MATRIX, _KEYS)
                if code in tags
            }
    except Exception:  # damaged metadata is no reason to lose the labels: they stay in pixels
        return None
    keys = _short_keys(found.get(_KEYS, ()))
    if _MATRIX in found and len(found[_MATRIX]) == 16:
        matrix = np.array(found[_MATRIX], np.float64).reshape(4, 4)
        affine = np.stack((matrix[0, [0, 1, 3]], matrix[1, [0, 1, 3]]))
    elif _SCALE in found and len(found.get(_TIEPOINT, ())) == 6:
        (dx, dy), (i, j, _, x, y, _) = found[_SCALE][:2], found[_TIEPOINT]
        affine = np.array([[dx, 0, x - i * dx], [0, -dy, y + j * dy]], np.float64)
    else:
        return None
    if keys.get(_RASTER_TYPE) == 2:
        affine[:, 2] -= affine[:, :2] @ (0.5, 0.5)
    if labelled_hw is not None:
        affine[:, :2] *= (full_hw[1] / labelled_hw[1], full_hw[0] / labelled_hw[0])
    if not np.isfinite(affine).all() or not np.linalg.det(affine[:, :2]):
        return None
    code = keys.get(_PROJECTED) or keys.get(_GEOGRAPHIC) or 0
    return affine, code if 1024 <= code < 32767 else 0


def _short_keys(values: Sequence[int]) -> dict[int, int]:
    """The keys whose value stands in the directory itself: four numbers each, after a head."""
    table = np.array(values, np.int64)[: len(values) // 4 * 4].reshape(-1, 4)
    return {int(key): int(value) for key, where, _, value in table[1:].tolist() if where == 0}


def _key(ledger: Ledger) -> bytes:
    rows = [item.to_coco() for item in ledger.categories]
    return (
        orjson.dumps({"format": "geojson", "categories": rows}, option=orjson.OPT_INDENT_2) + b"\n"
    )
