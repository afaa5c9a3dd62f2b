"""The [export] section: which formats a dataset is projected to, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from .section import Section


class ExportConfig(Section):
    """What is written beside the Parquet. Never changes a label."""

    formats: Annotated[tuple[str, ...], Field(description="empty = all that the task yields")] = ()
    tolerance: Annotated[
        float,
        Field(
            ge=0,
            le=100,
            description="pixels that a simplified polygon may lie off its mask's edge; 0 = exact",
        ),
    ] = 0.0
    shapes: Annotated[
        Literal["mask", "polygon"],
        Field(description="what label-studio and cvat draw: their run-length masks, or polygons"),
    ] = "mask"
    url_prefix: Annotated[
        str,
        Field(description="label-studio: stands before each file name; '' = from the input"),
    ] = ""
    geojson_crs: Annotated[
        Literal["own", "wgs84"],
        Field(
            description="geojson of GeoTIFFs: their own coordinates, or longitude and latitude "
            "(needs maskmill[geo])"
        ),
    ] = "own"
    source_uri: Annotated[
        bool, Field(description="COCO image entries name the file that holds the image's bytes")
    ] = False
    shard_bytes: Annotated[
        int, Field(ge=1, description="webdataset and hf: bytes of a shard, about")
    ] = 256 << 20
    overlay_size: Annotated[
        int, Field(ge=0, description="longer side of overlays, pixels; 0 = the picture's own")
    ] = 1280
    overlay_opacity: Annotated[
        float, Field(ge=0, le=1, description="of the masks in overlays; outlines are opaque")
    ] = 0.45
    overlay_format: Annotated[Literal["jpg", "png", "webp"], Field()] = "jpg"
    overlay_legend: Annotated[
        bool, Field(description="overlays name the categories and their counts below")
    ] = True
