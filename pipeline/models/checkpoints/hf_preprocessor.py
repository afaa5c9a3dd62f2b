"""Reads a checkpoint's preprocessor_config.json as a FitRule. No torch here.

What each image processor does was read off transformers 5.23 (`image_processing_*.py`); the tests
hold the result against the processors themselves.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path
from typing import Any

from pipeline.models.grids.geometry import Filter, FitRule, Padding, Size
from schemas.suggest import nearest

_TYPES = ("image_processor_type", "feature_extractor_type", "video_processor_type")
FILES = (
    "preprocessor_config.json",
    "processor_config.json",
    "video_preprocessor_config.json",
)
_WARPED = 384
"""From this shortest edge on, ConvNext's processor stretches and crops nothing."""
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_FILTERS: tuple[Filter, ...] = ("nearest-exact", "lanczos", "bilinear", "bicubic")
"""In the order of Pillow's numbers; its other two, box and Hamming, work on no tensor."""


@dataclass(frozen=True, slots=True)
class _Kind:
    """What an image processor does where its file says nothing.

    Attributes:
        size: As in the file.
        crop: Size of the centre crop, None = none, whatever the file says.
        pad: The input's size where the file names none.
        squared: The picture is padded to a square, black below or beside it, and then resized.
        square: A size that is one number means a square.
        crop_share: Below 384 pixels the shortest edge is made larger by `crop_pct`, whose part the
            crop then takes; from there on the picture is stretched to a square.
        floats: Pictures are rescaled first and resized as floats, without antialias.
    """

    size: Mapping[str, int]
    resample: Filter = "bilinear"
    mean_std: tuple[tuple[float, ...], tuple[float, ...]] | None = _IMAGENET
    square: bool = True
    crop: Mapping[str, int] | None = None
    crops: bool = False
    bgr: bool = False
    size_divisor: int = 1
    pad: Mapping[str, int] | None = None
    squared: bool = False
    crop_share: bool = False
    floats: bool = False


_UNIVERSAL = _Kind({"shortest_edge": 800, "longest_edge": 1333}, square=False)
_EMBEDDER = _Kind({"shortest_edge": 224}, "bicubic", _CLIP, square=False)
_KINDS: dict[str, _Kind] = {
    "beit": _Kind(
        {"height": 224, "width": 224}, "bicubic", _HALF, crop={"height": 224, "width": 224}
    ),
    "bit": _EMBEDDER,
    "clip": _EMBEDDER,
    "convnext": _Kind({"shortest_edge": 384}, "bicubic", square=False, crop_share=True),
    "deit": _Kind(
        {"height": 256, "width": 256},
        "bicubic",
        _HALF,
        crop={"height": 224, "width": 224},
        crops=True,
    ),
    "detr": _UNIVERSAL,
    "dinov3vit": _Kind({"height": 224, "width": 224}),
    "dpt": _Kind({"height": 384, "width": 384}, "bicubic", _HALF),
    "eomt": _Kind({"shortest_edge": 640, "longest_edge": 640}, square=False),
    "groundingdino": _UNIVERSAL,
    "mask2former": replace(_UNIVERSAL, size_divisor=32),
    "maskformer": replace(_UNIVERSAL, size_divisor=32),
    "mobilenetv2": _Kind(
        {"shortest_edge": 256},
        mean_std=_HALF,
        square=False,
        crop={"height": 224, "width": 224},
        crops=True,
    ),
    "mobilevit": _Kind(
        {"shortest_edge": 224},
        "bicubic",
        None,
        square=False,
        crop={"height": 256, "width": 256},
        crops=True,
        bgr=True,
    ),
    "oneformer": _UNIVERSAL,
    "owlv2": _Kind({"height": 960, "width": 960}, mean_std=_CLIP, squared=True),
    "owlvit": _Kind(
        {"height": 768, "width": 768}, "bicubic", _CLIP, crop={"height": 768, "width": 768}
    ),
    "rfdetr": replace(_UNIVERSAL, floats=True),
    "sam": _Kind({"longest_edge": 1024}, square=False, pad={"height": 1024, "width": 1024}),
    "sam2": _Kind({"height": 1024, "width": 1024}),
    "sam3": _Kind({"height": 1008, "width": 1008}, mean_std=_HALF),
    "sapiens2": _Kind({"height": 1024, "width": 768}),
    "segformer": _Kind({"height": 512, "width": 512}),
    "seggpt": _Kind({"height": 448, "width": 448}, "bicubic"),
    "siglip": _Kind({"height": 224, "width": 224}, "bicubic", _HALF),
    "siglip2": _Kind({"height": 256, "width": 256}, mean_std=_HALF),
    "tipsv2dpt": _Kind({"height": 448, "width": 448}, mean_std=None),
    "videomt": _Kind({"height": 640, "width": 640}),
    "vit": _Kind({"height": 224, "width": 224}, mean_std=_HALF),
}


KIND_OF: dict[str, str] = {
    "beit": "beit",
    "clip": "clip",
    "clipseg": "vit",
    "data2vec-vision": "beit",
    "detr": "detr",
    "dinov2": "bit",
    "dinov2_with_registers": "bit",
    "dinov3_vit": "dinov3vit",
    "dpt": "dpt",
    "edgetam": "sam2",
    "edgetam_video": "sam2",
    "eomt": "eomt",
    "eomt_dinov3": "eomt",
    "grounding-dino": "groundingdino",
    "mask2former": "mask2former",
    "maskformer": "maskformer",
    "mm-grounding-dino": "groundingdino",
    "mobilenet_v2": "mobilenetv2",
    "mobilevit": "mobilevit",
    "mobilevitv2": "mobilevit",
    "omdet-turbo": "detr",
    "oneformer": "oneformer",
    "owlv2": "owlv2",
    "owlvit": "owlvit",
    "rf_detr": "rfdetr",
    "sam": "sam",
    "sam2": "sam2",
    "sam2_video": "sam2",
    "sam3": "sam3",
    "sam3_lite_text": "sam3",
    "sam3_tracker": "sam3",
    "sam3_video": "sam3",
    "sam_hq": "sam",
    "sapiens2": "sapiens2",
    "segformer": "segformer",
    "seggpt": "seggpt",
    "siglip": "siglip",
    "siglip2": "siglip2",
    "tipsv2_dpt": "tipsv2dpt",
    "upernet": "segformer",
    "videomt": "videomt",
}
"""`model_type` → image processor of a file that names none, as transformers' own table has it."""


def preprocessor(folder: str | Path) -> dict[str, Any]:
    """The image processor's settings in a checkpoint folder.

    A file that does not say whose they are is of the processor that transformers takes for the
    `model_type` of config.json.

    Raises:
        ValueError: There is no file of them, or it is not JSON.
    """
    for name in FILES:
        path = Path(folder) / name
        if not path.is_file():
            continue
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            settings = dict(data.get("image_processor", data.get("video_processor", data)))
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"{path} is no image processor's configuration: {error}") from error
        if not any(settings.get(key) for key in _TYPES):
            settings[_TYPES[0]] = KIND_OF.get(_model_type(Path(folder)), "")
        return settings
    raise ValueError(f"{folder} holds no {FILES[0]}: how pictures go in is not known")


def read_fit_rule(settings: Mapping[str, Any], *, split: bool = False) -> FitRule:
    """The rule that a `preprocessor` describes.

    A centre crop is left out: the pixels outside it would get no label. Where the processor
    stretches a picture before it crops, the picture is stretched to the size of the crop; where
    it keeps the shape, the picture keeps its scale and the input is larger than the crop.

    Args:
        settings: Of `preprocessor`.
        split: EoMT looks at square windows along the longer side; the input holds them all.

    Raises:
        ValueError: A processor or a size of an unknown kind.
    """
    kind = _kind(settings)
    rule = FitRule(
        size=_size(settings, kind),
        resample=_filter(settings.get("resample"), kind.resample),
        antialias=not kind.floats,
        exact=kind.floats,
        blurred=kind.squared and _is(settings, "do_pad", True),
        rescale=settings.get("rescale_factor", 1 / 255) if _is(settings, "do_rescale", True) else 1,
        bgr=kind.bgr and _is(settings, "do_flip_channel_order", True),
        padding=_padding(settings, kind, split=split),
    )
    if kind.mean_std is None or not _is(settings, "do_normalize", True):
        return replace(rule, mean=None)
    mean, std = (
        (given,) * 3 if isinstance(given := settings.get(key), int | float) else given or default
        for key, default in zip(("image_mean", "image_std"), kind.mean_std, strict=True)
    )
    return replace(rule, mean=tuple(mean), std=tuple(std))


def _model_type(folder: Path) -> str:
    try:
        data = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    return str(data.get("model_type", "")) if isinstance(data, dict) else ""


def _is(settings: Mapping[str, Any], key: str, default: bool) -> bool:
    value = settings.get(key)
    return default if value is None else bool(value)


def _name(settings: Mapping[str, Any]) -> str:
    name = str(next((settings[key] for key in _TYPES if settings.get(key)), ""))
    for ending in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor", "VideoProcessor"):
        name = name.removesuffix(ending)
    return name.lower()


def _kind(settings: Mapping[str, Any]) -> _Kind:
    name = _name(settings)
    if name not in _KINDS:
        if not name:
            raise ValueError(
                "the image processor's file names no image_processor_type, and config.json no "
                f"model_type that has one; add one of {', '.join(_KINDS)}"
            )
        raise ValueError(
            f"image processor {name!r} is not known{nearest(name, _KINDS)}; "
            f"known: {', '.join(_KINDS)}"
        )
    return _KINDS[name]


def _filter(value: Any, default: Filter) -> Filter:
    if value is None:
        return default
    if value not in range(len(_FILTERS)):
        raise ValueError(f"resample is {value!r}; known: 0 to {len(_FILTERS) - 1}")
    return _FILTERS[value]


def _size(settings: Mapping[str, Any], kind: _Kind) -> Size:
    if not _is(settings, "do_resize", True):
        return Size()
    size = _sides(settings.get("size") or kind.size, settings, square=kind.square)
    crop = settings.get("crop_size") or kind.crop
    if {"height", "width"} <= set(size):
        if kind.crop and crop and _is(settings, "do_center_crop", kind.crops):
            size = _sides(crop, settings, square=True)
        height, width = size["height"], size["width"]
        multiple = settings.get("ensure_multiple_of") or 1
        if settings.get("keep_aspect_ratio"):
            return Size("nearest", height, width, multiple)
        if kind.squared and _is(settings, "do_pad", True):
            return Size("within", height, width)
        height, width = (round(side / multiple) * multiple for side in (height, width))
        return Size("stretch", height, width, _divisor(settings, kind))
    if kind.crop_share and "shortest_edge" in size:
        edge = size["shortest_edge"]
        if edge >= _WARPED:
            return Size("stretch", edge, edge)
        return Size("shortest", int(edge / (settings.get("crop_pct") or 224 / 256)))
    if "shortest_edge" in size:
        longest = size.get("longest_edge", 0)
        return Size("shortest", size["shortest_edge"], longest, _divisor(settings, kind))
    if "longest_edge" in size:
        return Size("within", size["longest_edge"], size["longest_edge"])
    raise ValueError(f"size has the keys {sorted(size)}; known: height and width, or shortest_edge")


def _sides(value: Any, settings: Mapping[str, Any], *, square: bool) -> dict[str, int]:
    """Sizes were plain numbers, pairs, and a number with `max_size` before they were tables."""
    if isinstance(value, Mapping):
        return {str(key): int(side) for key, side in value.items() if side}
    if isinstance(value, list | tuple) and len(value) == 2:
        return {"height": int(value[0]), "width": int(value[1])}
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"size is {value!r}; known: a number, two numbers, or a table")
    if square:
        return {"height": value, "width": value}
    return {"shortest_edge": value, "longest_edge": int(settings.get("max_size") or 0)}


def _divisor(settings: Mapping[str, Any], kind: _Kind) -> int:
    """Mask2Former and MaskFormer stretch to multiples; the key had another name."""
    if kind.size_divisor == 1:
        return 1
    given = settings.get("size_divisor", settings.get("size_divisibility"))
    return max(kind.size_divisor if given is None else given, 1)


def _padding(settings: Mapping[str, Any], kind: _Kind, *, split: bool) -> Padding:
    if kind is _KINDS["eomt"]:
        size = _sides(settings.get("size") or kind.size, settings, square=False)
        short, long = size["shortest_edge"], size.get("longest_edge") or size["shortest_edge"]
        return Padding(to_hw=(short, short if split else long), raw=True)
    if kind.squared and _is(settings, "do_pad", True):
        size = _sides(settings.get("size") or kind.size, settings, square=True)
        return Padding(to_hw=(size["height"], size["width"]), raw=True)
    pad = settings.get("pad_size") or kind.pad
    if pad and (kind.size_divisor > 1 or (kind.pad and _is(settings, "do_pad", True))):
        return Padding(to_hw=(pad["height"], pad["width"]))
    if kind is _KINDS["dpt"] and settings.get("do_pad"):
        return Padding(divisor=settings.get("size_divisor") or 1, centred=True)
    return Padding()


# EmbedderInput: what an embedder's preprocessor_config.json says of its input. No torch here.


@dataclass(frozen=True, slots=True)
class EmbedderInput:
    """A square of normalised pixels.

    Attributes:
        side: Pixels.
        resample: The filter, as torchvision names it.
        mean: Of each channel in 0…1.
        std: Of each channel.
        patch: Side of the patches that the network is handed one by one (SigLIP 2 NaFlex), pixels;
            0 = it takes the square.
    """

    side: int
    resample: Filter
    mean: tuple[float, ...]
    std: tuple[float, ...]
    patch: int = 0


def read_embedder_input(folder: str) -> EmbedderInput:
    """The input of a checkpoint.

    Crops of masks are square, so that resizing the shorter side and cutting out the centre, as
    CLIP's processor does it, is one resize to the size of the cut.

    Raises:
        ValueError: No such file, an unknown processor, or an input that is no square.
    """
    settings = preprocessor(folder)
    rule = read_fit_rule(settings)
    if _kind(settings) is _KINDS["siglip2"]:  # as many patches as may be; of a square, a square
        patch = int(settings.get("patch_size") or 16)
        side = patch * isqrt(int(settings.get("max_num_patches") or 256))
        if side < 1:
            raise ValueError(f"{folder}: an embedder's input of no patches")
        own = read_fit_rule({**settings, "size": {"height": side, "width": side}})
        mean, std = own.mean or (0.0, 0.0, 0.0), own.std if own.mean else (1.0, 1.0, 1.0)
        return EmbedderInput(side, own.resample, mean, std, patch)
    cut = settings.get("do_center_crop", True) and settings.get("crop_size")
    height, width = _embedder_sides(cut) if cut else (rule.size.height, rule.size.width)
    if not cut and rule.size.kind == "shortest":
        width = height
    if height != width or height < 1:
        raise ValueError(f"{folder}: an embedder's input is a square, not {width} × {height}")
    mean = rule.mean or (0.0, 0.0, 0.0)
    return EmbedderInput(height, rule.resample, mean, rule.std if rule.mean else (1.0, 1.0, 1.0))


def _embedder_sides(value: Any) -> tuple[int, int]:
    if isinstance(value, Mapping):
        return int(value["height"]), int(value["width"])
    return int(value), int(value)
