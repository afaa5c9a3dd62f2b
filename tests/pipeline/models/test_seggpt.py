"""SegGPT: painted maps and masks of transformers, from pictures in which something is marked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import torch
import transformers
from numeric_claims import assert_same_masks
from tiny_text import picture, text_checkpoint

from pipeline.engine.resolve import resolve_model
from pipeline.engine.run import label
from pipeline.masks import codec
from pipeline.models.checkpoints.info import ModelInfo, describe
from pipeline.models.grids.finite import finite
from pipeline.models.network.fit import Fitter
from pipeline.models.seggpt import ExampleMaps, SegGpt
from pipeline.storage.storage import Storage
from schemas.config.job import JobConfig
from schemas.config.model import ModelConfig
from schemas.records import Sample

SIZES = ((64, 64), (47, 90), (101, 33))
"""The network's own size; odd; a portrait."""


def marked(hw: tuple[int, int], seed: int) -> npt.NDArray[np.uint8]:
    mask = np.zeros(hw, np.uint8)
    cv2.circle(mask, (hw[1] // (2 + seed), hw[0] // 2), min(hw) // 3, 255, -1)
    return mask


@pytest.fixture
def shown(tmp_path: Path) -> list[str]:
    """`--exemplar`: two pictures of a nut, one of a bolt."""
    texts = []
    for number, (hw, category) in enumerate(
        (((50, 70), "nut"), ((81, 40), "nut"), ((33, 60), "bolt"))
    ):
        pixels = picture(hw, 10 + number).pixels
        cv2.imwrite(str(tmp_path / f"{number}.png"), pixels[..., ::-1])
        cv2.imwrite(str(tmp_path / f"{number}-mask.png"), marked(hw, number))
        texts.append(f"{tmp_path}/{number}.png:@{tmp_path}/{number}-mask.png={category}")
    return texts


def config(tmp_path: Path, *shown: str, **more: Any) -> JobConfig:
    return JobConfig.parse(
        {
            "input": {"uri": str(tmp_path / "in")},
            "output": str(tmp_path / "out"),
            "model": {"name": str(text_checkpoint("seggpt")), **more.pop("model", {})},
            "prompts": {"exemplars": list(shown), **more.pop("prompts", {})},
            "execution": {"inline": True},
            **more,
        }
    )


def info_of(tmp_path: Path, *shown: str) -> ModelInfo:
    return resolve_model(config(tmp_path, *shown), Storage()).info


def net(info: ModelInfo, **options: Any) -> tuple[ExampleMaps, Fitter]:
    segmenter = SegGpt(info, ModelConfig(name="x", **options), ("semantic",))
    return segmenter._net("cpu"), Fitter(segmenter._rule, "cpu")


def theirs(pixels: npt.NDArray[np.uint8], *numbers: int) -> tuple[Any, Any]:
    """transformers' own processor, its outputs for one picture and some of the examples."""
    folder = text_checkpoint("seggpt")
    processor: Any = transformers.AutoImageProcessor.from_pretrained(folder)
    model: Any = transformers.SegGptForImageSegmentation.from_pretrained(folder).eval()
    hws = ((50, 70), (81, 40), (33, 60))
    given = processor(
        images=[pixels] * len(numbers),
        prompt_images=[picture(hws[number], 10 + number).pixels for number in numbers],
        prompt_masks=[(marked(hws[number], number) > 0).astype(np.uint8) for number in numbers],
        num_labels=1,
        return_tensors="pt",
    )
    with torch.no_grad():
        return processor, model(**given, feature_ensemble=len(numbers) > 1)


@pytest.mark.parametrize("hw", SIZES)
@pytest.mark.parametrize(("number", "category"), [((0,), "nut"), ((0, 1), "nut"), ((2,), "bolt")])
def test_painted_maps_and_masks_are_those_of_transformers(
    shown: list[str], tmp_path: Path, hw: tuple[int, int], number: tuple[int, ...], category: str
) -> None:
    """One example as the library does it; of several its feature ensemble."""
    sample = picture(hw, 3)
    info = info_of(tmp_path, *(shown[each] for each in number))
    maps, fitter = net(info, compat="transformers")
    processor, expected = theirs(sample.pixels, *number)
    with torch.inference_mode():
        pixels, frames = fitter.batch([sample])
        (painted,) = maps._forward(pixels)
        (output,) = maps.look(pixels, frames)["semantic"]
    close = 1e-5 * float(expected.pred_masks.abs().max())
    assert expected.pred_masks.std() > 100 * close, "a claim about nothing"
    torch.testing.assert_close(painted[0, 0], expected.pred_masks[0, :, 64:], atol=close, rtol=0)
    (mask,) = processor.post_process_semantic_segmentation(
        type(expected)(pred_masks=expected.pred_masks[:1]), target_sizes=[hw], num_labels=1
    )
    assert 0 < int(mask.sum()) < mask.numel()
    white = output.logits[0].double().numpy()  # pyright: ignore[reportAttributeAccessIssue]
    assert white.shape == hw
    assert_same_masks(white > 0.5, mask.numpy(), np.abs(white - 0.5) < 1e-4)
    segmenter = SegGpt(info, ModelConfig(name="x", compat="transformers"), ("semantic",))
    segmenter.load("cpu")
    (found,) = segmenter.segment([sample])
    (segment,) = found.segments
    mine = codec.decode(segment.counts, *hw)
    assert_same_masks(mine, mask.numpy(), np.abs(white - 0.5) < 1e-4)
    assert info.categories.by_id()[segment.category_id].name == category
    name = f"{number[0]}.png:@{number[0]}-mask.png"
    assert segment.prompt == (name if len(number) == 1 else None)


def test_without_compat_a_map_is_enlarged_smoothly(shown: list[str], tmp_path: Path) -> None:
    sample = picture((47, 90), 3)
    maps, fitter = net(info_of(tmp_path, shown[0]))
    _, expected = theirs(sample.pixels, 0)
    with torch.inference_mode():
        (output,) = maps.look(*fitter.batch([sample]))["semantic"]
    assert output.frame.picture_hw == (47, 90)
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    std = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    white = (expected.pred_masks[0, :, 64:] * std + mean).clamp(0, 1).mean(0)
    torch.testing.assert_close(output.logits[0], white, atol=1e-4, rtol=0)  # pyright: ignore
    assert (output.logits[1] == 0.5).all()  # pyright: ignore


def test_a_pixel_goes_to_the_whitest_category(shown: list[str], tmp_path: Path) -> None:
    """And the answer of a picture depends on no neighbour in its batch."""
    info = info_of(tmp_path, *shown)
    assert [(item.id, item.name) for item in info.categories] == [(1, "nut"), (2, "bolt")]
    segmenter = SegGpt(info, ModelConfig(name="x"), ("semantic",))
    segmenter.load("cpu")
    batch = [picture(hw, seed) for seed, hw in enumerate(SIZES)]
    together = segmenter.segment(batch)
    assert together == [segmenter.segment([one])[0] for one in batch]
    maps, fitter = net(info)
    with torch.inference_mode():
        (output,) = maps.look(*fitter.batch(batch[:1]))["semantic"]
    best = output.logits.argmax(0).numpy()  # pyright: ignore[reportAttributeAccessIssue]
    assert set(np.unique(best)) >= {0, 1}
    for segment in together[0].segments:  # 64×64 in, 64×64 out: no pixel is interpolated
        mask = codec.decode(segment.counts, 64, 64) > 0
        assert np.array_equal(mask, best == segment.category_id - 1)


def test_infinity_is_no_answer(shown: list[str], tmp_path: Path) -> None:
    """Cut off at white it would be a region."""
    maps, fitter = net(info_of(tmp_path, shown[0]))
    pixels, frames = fitter.batch([picture((64, 64))])
    with torch.inference_mode():
        (painted,) = maps._forward(pixels)
        for bad in (torch.inf, -torch.inf, torch.nan):
            poor = painted.clone()
            poor[0, 0, 0, 0, 0] = bad
            maps._forward = lambda _pixels, poor=poor: (poor,)  # pyright: ignore
            assert not bool(finite(maps.look(pixels, frames)))


def test_a_whole_job_with_16_bit_and_one_channel(shown: list[str], tmp_path: Path) -> None:
    """The same picture in three kinds of file has the same labels; rows name the example."""
    (tmp_path / "in").mkdir()
    grey = np.ascontiguousarray(picture((61, 43), 5).pixels[..., 0])
    for name, pixels in (("a", np.repeat(grey[..., None], 3, 2)), ("b", grey)):
        cv2.imwrite(str(tmp_path / f"in/{name}.png"), pixels)
    cv2.imwrite(str(tmp_path / "in/c.png"), grey.astype(np.uint16) * 257)
    done = label(config(tmp_path, shown[0], images={"stretch_16bit": "full"}), report=True)
    assert done.failed == 0
    rows = pq.read_table(tmp_path / "out/annotations").to_pylist()
    assert len(rows) == 3
    assert len({str(row["rle"]) for row in rows}) == 1
    assert {(row["category"], row["prompt"]) for row in rows} == {("nut", "0.png:@0-mask.png")}
    assert (tmp_path / "out/report/index.html").is_file()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"prompts": {"text": ["cat"]}}, r"prompts.text: .* is shown pictures with masks"),
        ({"prompts": {"file": "b.json"}}, r"prompts.file: .* is shown pictures with masks"),
    ],
)
def test_it_takes_no_other_prompts(
    shown: list[str], tmp_path: Path, more: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        resolve_model(config(tmp_path, shown[0], **more), Storage())


def test_what_cannot_work_is_said_before_the_first_picture(
    shown: list[str], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"has to be shown what to look for.*IMAGE:@MASK"):
        info_of(tmp_path)
    with pytest.raises(ValueError, match=r"has to be shown what to look for"):
        SegGpt(describe(str(text_checkpoint("seggpt"))), ModelConfig(name="x"), ("semantic",))
    with pytest.raises(ValueError, match="'semantic', not instance"):
        SegGpt(info_of(tmp_path, shown[0]), ModelConfig(name="x"), ("instance",))
    with pytest.raises(ValueError, match="shown masks"):
        info_of(tmp_path, f"{tmp_path}/0.png:1,2,9,9=nut")
    name = str(text_checkpoint("seggpt"))
    for pair in (f"{name}+{name}", f"sam-nothing+{name}"):
        with pytest.raises(ValueError, match=r"takes no \+|neither a known name"):
            resolve_model(config(tmp_path, model={"name": pair}), Storage())


def test_another_size_than_the_networks_is_refused(shown: list[str], tmp_path: Path) -> None:
    info = info_of(tmp_path, shown[0])
    wrong = dict(info.config) | {"image_size": [256, 128]}
    object.__setattr__(info, "config", wrong)
    with pytest.raises(ValueError, match="takes pictures of 128 × 128 pixels"):
        SegGpt(info, ModelConfig(name="x"), ("semantic",))


def test_a_sample_is_not_changed(shown: list[str], tmp_path: Path) -> None:
    segmenter = SegGpt(info_of(tmp_path, shown[0]), ModelConfig(name="x"), ("semantic",))
    segmenter.load("cpu")
    sample: Sample = picture((30, 40), 1)
    before = sample.pixels.copy()
    segmenter.segment([sample])
    assert np.array_equal(sample.pixels, before)
    segmenter.close()
