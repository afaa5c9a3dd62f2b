"""Reads what `maskmill.json` says of an ONNX graph beside it. No torch, no onnxruntime here.

A graph says what goes in and out, not what it means. The file does:

    {"tasks": ["semantic"], "output": "softmax", "licence": "MIT",
     "input": {"size": [320, 320], "mean": […], "std": […], "rescale": 0.00392, "bgr": false},
     "categories": [{"id": 1, "name": "person", "isthing": true, "color": "#ff0000"}, …],
     "category_ids": [2, 1]}

`category_ids` is the category of each of the graph's outputs, 0 = none; without it, outputs are
the categories in their order. `output` is how the values are meant: "logits" or "softmax", one
category a pixel; "sigmoid" or "sigmoid-logits", each category yes or no: what is none of them is
background, a category after the graph's own. With `"tasks": ["instance"]` the graph answers with
`boxes` (N×4 left, top, right, bottom in pixels of the input), `labels`, `scores` and `masks`
(N×m×m or N×1×m×m probabilities inside the boxes); `outputs` renames them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.models.grids.geometry import FitRule, Size
from schemas.suggest import nearest

from .description import Described
from .own_format import read_own
from .smp import SIDECAR, json_table

KEYS = ("tasks", "output", "outputs", "input", "categories", "category_ids", "licence")
OUTPUTS = ("logits", "softmax", "sigmoid", "sigmoid-logits")
BOXES = ("boxes", "labels", "scores", "masks")
_INPUT = ("size", "mean", "std", "rescale", "bgr")


def onnx_config(graph: Path) -> dict[str, Any]:
    """The config.json that a graph would have, from `maskmill.json` beside it.

    Raises:
        ValueError: There is none, or it says what is not understood; names the key.
    """
    path = graph.with_name(SIDECAR)
    given = json_table(path)
    if not given:
        raise ValueError(
            f"{graph} needs {SIDECAR} beside it, which says how pictures go in and what comes out: "
            f"{', '.join(KEYS)}; see docs/models.md"
        )
    for key in given:
        if key not in KEYS:
            raise ValueError(f"{path}: unknown key {key!r}{nearest(key, KEYS)}")
    tasks = given.get("tasks")
    if tasks not in (["semantic"], ["instance"]):
        raise ValueError(f'{path}: tasks must be ["semantic"] or ["instance"], got {tasks!r}')
    output = given.get("output", "logits")
    if output not in OUTPUTS:
        raise ValueError(f"{path}: output {output!r}; known: {', '.join(OUTPUTS)}")
    names = given.get("outputs", {})
    if not isinstance(names, Mapping) or set(names) - set(BOXES):
        raise ValueError(f"{path}: outputs names what is not {', '.join(BOXES)}")
    categories = given.get("categories")
    ids = given.get("category_ids")
    if ids is None and isinstance(categories, list):
        ids = [item.get("id") for item in categories if isinstance(item, Mapping)]
    config = {
        **given,
        "format": "onnx",
        "family": "onnx",
        "output": output,
        "category_ids": ids,
        "weights": graph.name,
    }
    onnx_input_rule(config, where=str(path))
    return config


def read_onnx(path: Path, config: Mapping[str, Any], *, categories: str = "") -> Described:
    """What the file says, as of a folder of ours; see `own_format.read_own`."""
    return read_own(path.with_name(SIDECAR), config, categories=categories)


def onnx_input_rule(config: Mapping[str, Any], *, where: str = SIDECAR) -> FitRule:
    """How pictures go in: stretched to one size.

    Raises:
        ValueError: `input` is missing, or a value of it is none.
    """
    given = config.get("input")
    if not isinstance(given, Mapping) or set(given) - set(_INPUT) or "size" not in given:
        raise ValueError(f"{where}: input must be a table with size, and any of {_INPUT[1:]}")
    try:
        height, width = (int(side) for side in given["size"])
        mean, std = (
            tuple(float(value) for value in given.get(key, default))
            for key, default in (("mean", (0, 0, 0)), ("std", (1, 1, 1)))
        )
        rescale = float(given.get("rescale", 1 / 255))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: input: {error}") from error
    if min(height, width) < 1 or len(mean) != 3 or len(std) != 3 or min(std) <= 0 or rescale <= 0:
        raise ValueError(f"{where}: input has a value that cannot be: {dict(given)}")
    return FitRule(
        size=Size("stretch", height, width),
        rescale=rescale,
        mean=mean,
        std=std,
        bgr=bool(given.get("bgr", False)),
    )
