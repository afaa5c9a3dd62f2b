"""ONNX graphs: the answers of onnxruntime itself, on real graphs and on one written here."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
import torch
from torchvision.transforms.v2 import functional as F

from pipeline.masks import codec
from pipeline.models.checkpoints.info import describe
from pipeline.models.onnx import OnnxSegmenter
from schemas.config.model import ModelConfig
from schemas.records import ImageRecord, Sample, Segmentation

PERSON = {"id": 1, "name": "person", "isthing": True, "color": "#ff0000"}
REST = {
    "id": 2,
    "name": "background",
    "isthing": False,
    "color": "#000000",
    "is_background": True,
}
SINET = {
    "tasks": ["semantic"],
    "output": "softmax",
    "licence": "MIT",
    "input": {
        "size": [320, 320],
        "mean": [102.890434, 111.25247, 126.91212],
        "std": [value * 255 for value in (62.93292, 62.82138, 66.355705)],
        "rescale": 1,
        "bgr": True,
    },
    "categories": [PERSON, REST],
    "category_ids": [2, 1],
}
PRISMA = {
    "tasks": ["semantic"],
    "output": "sigmoid",
    "licence": "MIT",
    "input": {"size": [256, 256]},
    "categories": [PERSON, REST],
}


def portrait(shared_data: Path) -> np.ndarray:
    """A photo whose largest thing is a person."""
    coco = json.loads((shared_data / "coco-photos" / "instances.json").read_text())
    people = {each["id"] for each in coco["categories"] if each["name"] == "person"}
    best = max(
        (each for each in coco["annotations"] if each["category_id"] in people),
        key=lambda each: each["area"],
    )
    name = next(each["file_name"] for each in coco["images"] if each["id"] == best["image_id"])
    pixels = cv2.imread(str(shared_data / "coco-photos" / "images" / name))
    assert pixels is not None
    return np.ascontiguousarray(pixels[..., ::-1])


def labelled(model: Path, pixels: np.ndarray, **options: Any) -> tuple[Any, Segmentation]:
    info = describe(str(model))
    one = OnnxSegmenter(info, ModelConfig(name="m", **options), info.tasks[:1])
    one.load("cpu")
    (found,) = one.segment([Sample(ImageRecord("a", ""), pixels, pixels.shape[:2])])
    assert found.failure is None
    return info, found


def placed(folder: Path, graph: Path, settings: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    shutil.copy(graph, folder)
    (folder / "maskmill.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    ("name", "settings", "side"), [("sinet", SINET, 320), ("prisma-unet", PRISMA, 256)]
)
def test_real_graphs_answer_as_onnxruntime_does(
    shared_data: Path, tmp_path: Path, name: str, settings: dict[str, Any], side: int
) -> None:
    graph = shared_data / "weights" / f"{name}-portrait" / "model.onnx"
    pixels = portrait(shared_data)
    height, width = pixels.shape[:2]
    info, found = labelled(placed(tmp_path / "m", graph, settings), pixels)
    assert (info.family, info.tasks, info.licence) == ("onnx", ("semantic",), "MIT")
    (tmp_path / "m" / "model.onnx").rename(tmp_path / "m" / "x.onnx")
    assert labelled(tmp_path / "m" / "x.onnx", pixels)[1] == found
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    x = F.resize(image, [side, side], antialias=True).permute(1, 2, 0).numpy().astype(np.float32)
    if name == "sinet":
        mean, std = (np.array(settings["input"][key], np.float32) for key in ("mean", "std"))
        x = (x[..., ::-1] - mean) / std
    else:
        x /= 255
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    given = np.ascontiguousarray(x.transpose(2, 0, 1)[None])
    (answer,) = session.run(None, {session.get_inputs()[0].name: given})
    share = answer[0, -1]  # of a person
    expected = cv2.resize(share, (width, height), interpolation=cv2.INTER_LINEAR) > 0.5
    person = next(one for one in found.segments if one.category_id == 1)
    mask = codec.decode(person.counts, height, width) > 0
    both, either = (mask & expected).sum(), (mask | expected).sum()
    assert both > 0.05 * mask.size, "there is a person"
    assert both / either > 0.995  # enlarged by OpenCV here, whose weights are coarser
    assert sum(one.area for one in found.segments) == height * width


def test_what_is_not_said_or_does_not_fit_is_named(shared_data: Path, tmp_path: Path) -> None:
    graph = shared_data / "weights" / "prisma-unet-portrait" / "model.onnx"
    folder = placed(tmp_path / "m", graph, PRISMA)
    for change, words in (
        ({"outputt": "softmax"}, "unknown key 'outputt'; did you mean 'output'"),
        ({"output": "tanh"}, "output 'tanh'; known: logits"),
        ({"tasks": ["panoptic"]}, "tasks must be"),
        ({"input": {}}, "input must be a table with size"),
        ({"input": {"size": [0, 4]}}, "cannot be"),
        ({"categories": []}, "categories must be"),
    ):
        (folder / "maskmill.json").write_text(json.dumps({**PRISMA, **change}))
        with pytest.raises(ValueError, match=words):
            describe(str(folder))
    (folder / "maskmill.json").unlink()
    with pytest.raises(ValueError, match=r"needs maskmill\.json beside it"):
        describe(str(folder / "model.onnx"))
    wrong = {**PRISMA, "input": {"size": [128, 256]}}
    (folder / "maskmill.json").write_text(json.dumps(wrong))
    with pytest.raises(
        ValueError, match=r"takes .*256, 256\], and maskmill.json says \[3, 128, 25"
    ):
        labelled(folder, np.zeros((9, 9, 3), np.uint8))


def _field(number: int, value: bytes | int) -> bytes:
    """Protocol buffers' wire format: a varint or a length-delimited field."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def _tensor(name: str, values: np.ndarray) -> bytes:
    kind = 1 if values.dtype == np.float32 else 7
    dims = b"".join(_field(1, side) for side in values.shape)
    return dims + _field(2, kind) + _field(8, name.encode()) + _field(9, values.tobytes())


def _value(name: str, kind: int, shape: tuple[int, ...]) -> bytes:
    dims = b"".join(_field(1, _field(1, side)) for side in shape)
    tensor = _field(1, kind) + _field(2, dims)
    return _field(1, name.encode()) + _field(2, _field(1, tensor))


def constant_graph(path: Path, answers: dict[str, np.ndarray]) -> None:
    """A graph that finds the same in every picture (ONNX's ModelProto, written by hand)."""
    nodes = b"".join(
        _field(1, _field(1, f"c{n}".encode()) + _field(2, name.encode()) + _field(4, b"Identity"))
        for n, name in enumerate(answers)
    )
    tensors = b"".join(_field(5, _tensor(f"c{n}", v)) for n, v in enumerate(answers.values()))
    inputs = _field(11, _value("x", 1, (1, 3, 40, 60)))
    outputs = b"".join(
        _field(12, _value(name, 1 if v.dtype == np.float32 else 7, v.shape))
        for name, v in answers.items()
    )
    graph = nodes + _field(2, b"g") + tensors + inputs + outputs
    path.write_bytes(_field(1, 8) + _field(7, graph) + _field(8, _field(2, 13)))


def test_boxes_and_masks(tmp_path: Path) -> None:
    assert struct.calcsize("f") == 4
    answers = {
        "dets": np.array([[10, 5, 30, 25], [40, 10, 50, 30], [0, 0, 9, 9]], np.float32),
        "labels": np.array([1, 0, 1], np.int64),
        "scores": np.array([0.9, 0.75, 0.2], np.float32),
        "masks": np.ones((3, 1, 28, 28), np.float32),
    }
    constant_graph(tmp_path / "boxes.onnx", answers)
    settings = {
        "tasks": ["instance"],
        "input": {"size": [40, 60]},
        "outputs": {"boxes": "dets"},
        "categories": [{**PERSON, "id": 7, "name": "cat"}, {**PERSON, "id": 3, "name": "dog"}],
    }
    (tmp_path / "maskmill.json").write_text(json.dumps(settings))
    pixels = np.zeros((80, 60, 3), np.uint8)
    _, found = labelled(tmp_path / "boxes.onnx", pixels)
    assert [(one.category_id, one.bbox_xywh) for one in found.segments] == [
        (3, (10, 10, 20, 40)),
        (7, (40, 20, 10, 40)),
    ]
    assert [one.score for one in found.segments] == pytest.approx([0.9, 0.75])
    filled = {**answers, "labels": np.array([1, 0, -1], np.int64)}
    filled["scores"] = np.array([0.9, 0.75, -1], np.float32)
    constant_graph(tmp_path / "boxes.onnx", filled)
    assert labelled(tmp_path / "boxes.onnx", pixels)[1] == found, "a row of −1 fills up"
    for strange in (-1, 2):
        wrong = {**answers, "labels": np.array([1, strange, 1], np.int64)}
        constant_graph(tmp_path / "boxes.onnx", wrong)
        with pytest.raises(ValueError, match=f"answers with category {strange}; .* has 2 category"):
            labelled(tmp_path / "boxes.onnx", pixels)
    constant_graph(tmp_path / "boxes.onnx", answers)
    (tmp_path / "maskmill.json").write_text(json.dumps({**settings, "outputs": {}}))
    with pytest.raises(ValueError, match="no output 'boxes', only"):
        labelled(tmp_path / "boxes.onnx", pixels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": [5.0, -2.5, 0.2]}, "values from -2.5 to 5, which are no prob.*scores are"),
        ({"masks": np.full((3, 28, 28), 4.0)}, "values from 4 to 4, which are no prob.*masks are"),
        ({"scores": [0.9, 0.75]}, r"answers with \[3, 3, 2, 3\] boxes, labels, scores, masks"),
        ({"masks": np.ones((2, 28, 28))}, r"answers with \[3, 3, 3, 2\] boxes"),
        ({"scores": [np.nan, 0.75, 0.2]}, "NaN or infinity"),
    ],
)
def test_boxes_that_are_not_what_is_said_are_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    """Logits read as probabilities would be surer than sure, or masks of another threshold."""
    answers = {
        "boxes": np.array([[10, 5, 30, 25], [40, 10, 50, 30], [0, 0, 9, 9]], np.float32),
        "labels": np.array([1, 0, 1], np.int64),
        "scores": np.array([0.9, 0.75, 0.2], np.float32),
        "masks": np.ones((3, 28, 28), np.float32),
        **{key: np.asarray(value, np.float32) for key, value in change.items()},
    }
    constant_graph(tmp_path / "boxes.onnx", answers)
    settings = {
        "tasks": ["instance"],
        "input": {"size": [40, 60]},
        "categories": [{**PERSON, "id": 7, "name": "cat"}, {**PERSON, "id": 3, "name": "dog"}],
    }
    (tmp_path / "maskmill.json").write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=message):
        labelled(tmp_path / "boxes.onnx", np.zeros((80, 60, 3), np.uint8))


@pytest.mark.parametrize("output", ["softmax", "sigmoid"])
def test_maps_that_are_no_probabilities_are_refused(output: str, tmp_path: Path) -> None:
    maps = np.zeros((1, 1 + (output == "softmax"), 40, 60), np.float32)
    settings = {
        "tasks": ["semantic"],
        "output": output,
        "input": {"size": [40, 60]},
        "categories": [PERSON, REST],
    }
    (tmp_path / "maskmill.json").write_text(json.dumps(settings))
    for worst, fits in ((1.004, True), (-0.003, True), (3.5, False), (-2.0, False)):
        maps[0, 0, 3, 4] = worst
        constant_graph(tmp_path / "maps.onnx", {"maps": maps})
        if fits:
            labelled(tmp_path / "maps.onnx", np.zeros((40, 60, 3), np.uint8))
            continue
        with pytest.raises(ValueError, match=rf"which are no probabilities; output is '{output}'"):
            labelled(tmp_path / "maps.onnx", np.zeros((40, 60, 3), np.uint8))
