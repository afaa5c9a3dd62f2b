"""MobileSAM's encoder gives what the authors' own code gives, from weights as they publish them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_sam import package_of_full_size
from tiny_text import picture

from pipeline.models.checkpoints.info import describe
from pipeline.models.sam import SamSegmenter
from pipeline.models.sam_core import tiny_vit
from pipeline.models.sam_core.tiny_vit import TinyVitEncoder, mobile_sam, timm_names
from pipeline.prompts.request import Request
from schemas.config.model import ModelConfig
from schemas.records import Prompt

WIDTHS, DEPTHS, HEADS, WINDOWS = (64, 128, 160, 320), (2, 2, 6, 2), (2, 4, 5, 10), (7, 7, 14, 7)

RECORDED = (
    *(-0.2848, 0.03782, -0.05156, 0.03406, -1.16189, -1.02361, -1.23872, -0.77856),
    *(-1.1712, -0.04456, -0.57493, 0.46699, 0.41421, 0.81461, 0.41433, 0.58232),
)
"""What the authors' code says of `picture_of_noise` with `published()` (mobilesam-mirror 1.0.0):
every 64th channel, rows and columns 0 and 10 of the 16×16 cells."""


def _conv(name: str, out: int, into: int, side: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.c.weight", (out, into, side, side)
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.bn.{part}", (out,)


def _linear(name: str, *shape: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]


def _shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of the encoder's weights, as they are published."""
    yield from _conv("patch_embed.seq.0", 32, 3, 3)
    yield from _conv("patch_embed.seq.2", 64, 32, 3)
    for stage, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True)):
        for block in range(depth):
            name = f"layers.{stage}.blocks.{block}"
            if not stage:
                yield from _conv(f"{name}.conv1", 4 * width, width, 1)
                yield from _conv(f"{name}.conv2", 4 * width, 1, 3)
                yield from _conv(f"{name}.conv3", width, 4 * width, 1)
                continue
            yield f"{name}.attn.attention_biases", (HEADS[stage], WINDOWS[stage] ** 2)
            yield from _linear(f"{name}.attn.norm", width)
            yield from _linear(f"{name}.attn.qkv", 3 * width, width)
            yield from _linear(f"{name}.attn.proj", width, width)
            yield from _linear(f"{name}.mlp.norm", width)
            yield from _linear(f"{name}.mlp.fc1", 4 * width, width)
            yield from _linear(f"{name}.mlp.fc2", width, 4 * width)
            yield from _conv(f"{name}.local_conv", width, 1, 3)
        if stage < 3:
            wider = WIDTHS[stage + 1]
            yield from _conv(f"layers.{stage}.downsample.conv1", wider, width, 1)
            yield from _conv(f"layers.{stage}.downsample.conv2", wider, 1, 3)
            yield from _conv(f"layers.{stage}.downsample.conv3", wider, wider, 1)
    yield from _linear("norm_head", 320)
    yield from _linear("head", 1000, 320)
    yield "neck.0.weight", (256, 320, 1, 1)
    yield from _linear("neck.1", 256)
    yield "neck.2.weight", (256, 256, 3, 3)
    yield from _linear("neck.3", 256)


def published() -> dict[str, torch.Tensor]:
    """An encoder's weights from a seed, none of which is without effect."""
    rng = np.random.default_rng(0)
    state = {}
    for name, shape in _shapes():
        values = rng.standard_normal(shape, np.float32)
        if len(shape) > 1:
            values /= np.sqrt(np.prod(shape[1:]))
        elif name.endswith(("weight", "running_var")):
            values = 1 + 0.2 * np.tanh(values)
        else:
            values *= 0.1
        state[name] = torch.from_numpy(np.asarray(values, np.float32))
    return state


def picture_of_noise() -> torch.Tensor:
    """1×3×256×256: a quarter of a side, which is enough and quick."""
    rng = np.random.default_rng(1)
    return torch.from_numpy(rng.standard_normal((1, 3, 256, 256), np.float32))


def whole() -> dict[str, torch.Tensor]:
    """A checkpoint of MobileSAM: that encoder before a random decoder of full size."""
    torch.manual_seed(0)
    state = {f"image_encoder.{name}": value for name, value in published().items()}
    rest = mobile_sam().state_dict()
    return state | {n: v for n, v in rest.items() if not n.startswith("image_encoder.")}


def test_the_encoder_is_the_authors() -> None:
    encoder = TinyVitEncoder(256)
    state = {f"image_encoder.{name}": value for name, value in published().items()}
    own = {n.removeprefix("image_encoder."): v for n, v in timm_names(state).items()}
    missing, left_over = encoder.load_state_dict(own, strict=False)
    assert not left_over
    assert all(name.endswith("num_batches_tracked") for name in missing)
    with torch.inference_mode():
        found = encoder.eval()(picture_of_noise())
    assert found.shape == (1, 256, 16, 16)
    torch.testing.assert_close(
        found[0, ::64, ::10, ::10].flatten(), torch.tensor(RECORDED), atol=2e-4, rtol=2e-4
    )


@pytest.mark.parametrize("prefix", ["", "module."])
def test_the_published_file_is_taken_by_its_name(
    prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = {f"{prefix}{name}": value for name, value in whole().items()}
    torch.save(state, tmp_path / "mobile_sam.pt")
    torch.save({}, tmp_path / "another.pth")
    path = str(tmp_path / "mobile_sam.pt")
    with pytest.raises(ValueError, match="--allow-pickle"):
        describe(path)
    info = describe(path, allow_pickle=True)
    assert (info.family, info.licence, info.weights) == ("sam", "Apache-2.0", ("mobile_sam.pt",))
    small = mobile_sam(256)
    monkeypatch.setattr(tiny_vit, "mobile_sam", lambda: small)
    model = SamSegmenter(
        replace(info, asking=Request(from_file=True)),
        ModelConfig(name=path, allow_pickle=True),
        ("instance",),
    )
    model._checkpoint.rule = replace(
        model._checkpoint.rule,
        size=replace(model._checkpoint.rule.size, height=256, width=256),
        padding=replace(model._checkpoint.rule.padding, to_hw=(256, 256)),
    )
    model.load("cpu")
    sample = replace(picture((50, 80), 1), prompts=(Prompt(1, bbox_xyxy=(5, 6, 30, 25)),))
    (found,) = model.segment([sample])
    assert found.failure is None
    loaded = small.state_dict()
    assert torch.equal(
        loaded["image_encoder.neck.0.weight"], whole()["image_encoder.neck.0.weight"]
    )


def test_under_another_name_the_job_says_what_it_is(tmp_path: Path) -> None:
    torch.save({}, tmp_path / "mine.pth")
    path = str(tmp_path / "mine.pth")
    with pytest.raises(ValueError, match=r"model\.architecture"):
        describe(path, allow_pickle=True)
    info = describe(path, allow_pickle=True, architecture={"name": "vit_t"})
    assert (info.family, info.config["architecture"]) == ("sam", {"name": "vit_t"})
    with pytest.raises(ValueError, match="vit_t takes no classes"):
        describe(path, allow_pickle=True, architecture={"name": "vit_t", "classes": 2})


def test_of_several_files_the_one_that_was_named_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another lies before it by name."""
    monkeypatch.setitem(
        __import__("segment_anything").sam_model_registry, "vit_b", package_of_full_size
    )
    torch.manual_seed(1)
    named = package_of_full_size()
    torch.save(package_of_full_size().state_dict(), tmp_path / "a.pth")
    torch.save(named.state_dict(), tmp_path / "sam_vit_b_01ec64.pth")
    info = describe(str(tmp_path / "sam_vit_b_01ec64.pth"), allow_pickle=True)
    model = SamSegmenter(info, ModelConfig(name="x", allow_pickle=True), ("instance",))
    model.load("cpu")
    loaded = model._net._model.state_dict()  # pyright: ignore[reportOptionalMemberAccess]
    assert all(torch.equal(value, loaded[name]) for name, value in named.state_dict().items())
