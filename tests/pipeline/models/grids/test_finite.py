"""NaN and infinity of any family end as a failed picture, never as a label or as "empty"."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_checkpoints import checkpoint
from tiny_sam import sam_checkpoint
from tiny_text import text_checkpoint

from pipeline.engine.run import label
from pipeline.models.checkpoints.families import segmenter_class
from pipeline.models.checkpoints.info import describe
from pipeline.models.grids.finite import NonFiniteError, check_finite, finite
from pipeline.prompts.request import Request
from schemas.config.job import JobConfig
from schemas.config.model import ModelConfig
from schemas.records import ImageRecord, Prompt, Sample

BAD = pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])


@dataclass
class _Holder:
    inner: object
    name: str = "x"


@BAD
def test_it_is_found_wherever_it_hides(bad):
    good = torch.zeros(3)
    poor = torch.tensor([0.0, bad])
    assert bool(finite(good, [good], {"a": good}, _Holder(good), torch.tensor([1]), None))
    for answer in (poor, [good, poor], {"a": (poor,)}, _Holder([poor])):
        assert not bool(finite(good, answer))
        with pytest.raises(NonFiniteError, match="NaN or infinity"):
            check_finite(answer)
    check_finite()


def sample() -> Sample:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8)
    return Sample(ImageRecord("a", ""), pixels, (40, 56))


def spoiled(folder: Path, to: Path) -> Path:
    """A copy of a checkpoint whose weights are NaN."""
    shutil.copytree(folder, to)
    for file in to.glob("*.safetensors"):
        state = load_file(file)
        nan = {
            k: torch.full_like(v, math.nan) if v.is_floating_point() else v
            for k, v in state.items()
        }
        save_file(nan, file, metadata={"format": "pt"})
    return to


def loaded(folder: Path, **asking: Any) -> Any:
    info = describe(str(folder))
    config = ModelConfig(name=info.folder, threshold=0.0)
    model = segmenter_class(info.family)(replace(info, **asking), config, info.tasks[:1])
    model.load("cpu")
    return model


FAMILY = (
    "segformer",
    "mask2former",
    "maskformer",
    "oneformer",
    "eomt",
    "maskrcnn",
    "smp-unet",
    "lraspp",
)


@pytest.mark.parametrize("name", FAMILY)
def test_a_network_of_nan_labels_nothing(name, tmp_path):
    folder = checkpoint(name)
    assert loaded(folder).segment([sample()])[0].failure is None
    model = loaded(spoiled(folder, tmp_path / name))
    with pytest.raises(NonFiniteError):
        model.segment([sample()])


@pytest.mark.parametrize("prompts", [(), (Prompt(1, bbox_xyxy=(4, 4, 30, 30)),)])
def test_a_sam_of_nan_labels_nothing(prompts, tmp_path):
    folder = sam_checkpoint("sam")
    one = replace(sample(), prompts=prompts)
    assert loaded(folder, asking=Request()).segment([one])[0].failure is None
    model = loaded(spoiled(folder, tmp_path / "sam"), asking=Request())
    with pytest.raises(NonFiniteError):
        model.segment([one])


@BAD
def test_maps_of_the_bundled_unet(bad, monkeypatch):
    model = loaded(Path(describe("unet-nuclei").folder))
    with torch.no_grad():
        for parameter in model._net.parameters():
            parameter.fill_(bad)
    with pytest.raises(NonFiniteError):
        model.segment([sample()])


@pytest.mark.parametrize("name", ["grounding-dino", "omdet-turbo", "owlv2", "sam3"])
def test_a_finder_of_nan_finds_nothing_and_says_so(name, tmp_path):
    """End to end: a row with model_error, not an empty one."""
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in/a.png"), sample().pixels)
    good, beside = text_checkpoint(name), "" if name == "sam3" else f"+{sam_checkpoint('sam')}"
    bad = spoiled(Path(good), tmp_path / "model")
    job = JobConfig.parse(
        {
            "input": {"uri": str(tmp_path / "in")},
            "output": str(tmp_path / "out"),
            "model": {"name": f"{bad}{beside}", "threshold": 0.3},
            "prompts": {"text": ["cat"]},
            "execution": {"inline": True},
            "max_failures": "1",
        }
    )
    assert dict(label(job, export=False, report=False).manifest.error_counts) == {"model_error": 1}
