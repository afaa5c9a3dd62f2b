"""EfficientSAM equals its architecture written out anew, from weights as they are published."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_text import picture
from torch import Tensor
from torch.nn import functional as F
from written_efficient_sam import SIDE, embedding_of, masks_of, published, tokens_of

from pipeline.masks import codec
from pipeline.models.checkpoints.info import describe
from pipeline.models.checkpoints.load import fill
from pipeline.models.grids.geometry import Frame
from pipeline.models.network.fit import Fitter
from pipeline.models.sam import SamSegmenter
from pipeline.models.sam_core import efficient_sam as module
from pipeline.models.sam_core.checkpoint import open_sam
from pipeline.models.sam_core.efficient_sam import EfficientSam, efficient_sam
from pipeline.models.sam_core.masks import Enlarging, best_masks, judge
from pipeline.models.sam_core.net import inference
from pipeline.prompts.request import Request
from schemas.config.model import ModelConfig
from schemas.config.prompts import EverythingConfig
from schemas.records import Prompt, Segment


def loaded(name: str = "efficient_sam_vitt", channels: int = 192) -> EfficientSam:
    net = efficient_sam(name, SIDE)
    fill(net, published(channels), where="here")
    return EfficientSam(inference(net, "cpu", torch.float32))


def pixels() -> Tensor:
    return torch.from_numpy(
        np.random.default_rng(1).standard_normal((2, 3, SIDE, SIDE), np.float32)
    )


def points() -> tuple[Tensor, Tensor]:
    """Two prompts of two points; as they are asked, and as the network sees them."""
    asked = torch.tensor([[[3.0, 60.5], [31.0, 7.0]], [[44.2, 20.0], [10.0, 10.0]]])
    return asked, torch.cat((asked, torch.full((2, 4, 2), -1.0)), 1)


@pytest.mark.parametrize(
    ("name", "channels", "heads"), [("efficient_sam_vitt", 192, 3), ("efficient_sam_vits", 384, 6)]
)
def test_the_encoder_is_what_is_written_out(name: str, channels: int, heads: int) -> None:
    with torch.inference_mode():
        found = loaded(name, channels).encode(pixels())
        expected = embedding_of(published(channels), pixels(), heads)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.raw[0], other, atol=2e-4, rtol=2e-4)
        torch.testing.assert_close(one.embedding.cells, one.raw[0].flatten(1).T)


@pytest.mark.parametrize("kind", ["point", "points", "box", "box and point"])
def test_prompts_masks_and_quality_are_what_is_written_out(kind: str) -> None:
    net, state = loaded(), published()
    asked, full = points()
    labels = torch.tensor([[1.0, 1, -1, -1, -1, -1]] * 2)
    with torch.inference_mode():
        picture_ = net.encode(pixels())[0]
        match kind:
            case "point":
                prompts = net.points(asked[:, :1].double(), torch.ones(2, 1))
                full = torch.cat((full[:, :1], full[:, 2:3].expand(-1, 5, -1)), 1)
                labels[:, 1] = -1
            case "points":
                prompts = net.points(asked, torch.ones(2, 2))
            case "box":
                # What begins before the picture is moved to −1.
                box = torch.tensor([[-9.0, 3.0, 40.0, 50.0], [5.0, 6.0, 30.0, 25.0]])
                prompts = net.boxes(box, None, None)
                full[:, :2] = torch.tensor([[[-1.0, 3], [40, 50]], [[5, 6], [30, 25]]])
                labels[:, :2] = torch.tensor([2.0, 3.0])
            case _:
                box = torch.tensor([[2.0, 3.0, 40.0, 50.0]] * 2)
                prompts = net.boxes(box, asked[:, :1], torch.ones(2, 1))
                full[:, :3] = torch.cat((box.reshape(2, 2, 2), asked[:, :1]), 1)
                labels[:, :3] = torch.tensor([2.0, 3.0, 1.0])
        torch.testing.assert_close(prompts, tokens_of(state, full, labels), atol=2e-5, rtol=0)
        masks, quality = masks_of(state, picture_.raw, prompts)
        decoded = net.fast.decode(picture_.embedding, prompts)
        found = net.fast.masks(picture_.embedding, decoded, torch.arange(4))
        close = 1e-4 * float(masks.abs().max())
        assert masks.std() > 100 * close, "a claim about nothing"
        torch.testing.assert_close(found, masks, atol=close, rtol=0)
        torch.testing.assert_close(decoded.predicted_iou, quality, atol=1e-4, rtol=1e-4)
        plain, estimates = net.reference(picture_, prompts)
        torch.testing.assert_close(plain, masks[:, 1:], atol=close, rtol=0)
        torch.testing.assert_close(estimates, quality[:, 1:], atol=1e-4, rtol=1e-4)
        best = best_masks(net, picture_, prompts, ambiguous=kind == "point")
        order = quality[:, 1:].argmax(1)
        torch.testing.assert_close(
            best.logits, masks[torch.arange(2), order + 1], atol=close, rtol=0
        )


def test_what_it_cannot_be_asked_is_refused() -> None:
    net = loaded()
    with pytest.raises(ValueError, match="beside the object"):
        net.points(torch.ones(1, 2, 2), torch.tensor([[1.0, 0.0]]))
    with pytest.raises(ValueError, match="takes 6 points"):
        net.boxes(torch.ones(1, 4), torch.ones(1, 5, 2), torch.ones(1, 5))


def test_pictures_go_in_as_the_authors_stretch_them(tmp_path: Path) -> None:
    (tmp_path / "efficient_sam_vits.pt").touch()
    info = describe(str(tmp_path / "efficient_sam_vits.pt"), allow_pickle=True)
    rule = open_sam(info, allow_pickle=True).rule
    sample = picture((30, 47), 3)
    values = torch.from_numpy(sample.pixels.copy()).permute(2, 0, 1)[None] / 255
    expected = F.interpolate(values, (1024, 1024), mode="bilinear")
    expected = (expected - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
        [0.229, 0.224, 0.225]
    )[:, None, None]
    found, _ = Fitter(rule, "cpu").batch([sample])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_masks_are_enlarged_cubically() -> None:
    small = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(0))
    enlarging = Enlarging(Frame((30, 47), (SIDE, SIDE), (SIDE, SIDE)), False, cubic=True)
    expected = F.interpolate(small[None], (30, 47), mode="bicubic")[0]
    torch.testing.assert_close(enlarging(small), expected)
    assert enlarging.path(torch.device("cuda"), None) == "plain"
    _, boxes = judge(small, enlarging, threshold=0.0, offset=1.0)
    columns = (expected[0] > 0).any(0).nonzero()
    assert boxes[0, ::2].tolist() == [int(columns[0]), int(columns[-1])]


@pytest.fixture
def small_net(monkeypatch: pytest.MonkeyPatch) -> None:
    """The networks that checkpoints build see an input of `SIDE`."""
    monkeypatch.setattr(module, "efficient_sam", lambda name: efficient_sam(name, SIDE))


def segmenter(path: Path, asking: Request) -> SamSegmenter:
    """The published file, read as a user reads it, at the small side."""
    torch.save({"model": published()}, path)
    with pytest.raises(ValueError, match="--allow-pickle"):
        describe(str(path))
    info = describe(str(path), allow_pickle=True)
    assert (info.family, info.licence, info.weights) == ("sam", "Apache-2.0", (path.name,))
    options = ModelConfig(name=str(path), allow_pickle=True)
    model = SamSegmenter(replace(info, asking=asking), options, ("instance",))
    rule = model._checkpoint.rule
    model._checkpoint.rule = replace(rule, size=replace(rule.size, height=SIDE, width=SIDE))
    model.load("cpu")
    return model


@pytest.mark.usefixtures("small_net")
def test_the_published_file_answers_prompts(tmp_path: Path) -> None:
    model = segmenter(tmp_path / "efficient_sam_vitt.pt", Request(from_file=True))
    prompts = (
        Prompt(3, points_xy=((60.0, 20.0),), inside=(True,), source_id=9),
        Prompt(1, bbox_xyxy=(5, 6, 30, 25), source_id=8),
    )
    sample = replace(picture((50, 80), 1), prompts=prompts)
    (found,) = model.segment([sample])
    assert found.failure is None
    expected = _written_out(model, prompts)
    kept = {one.evidence.source_id: one for one in found.segments if one.evidence}
    for prompt, (mask, quality) in zip(prompts, expected, strict=True):
        if quality <= 0 or not bool((mask > 0).any()):
            assert prompt.source_id not in kept
            continue
        one = kept[prompt.source_id]
        assert one.category_id == prompt.category_id
        _assert_mask(one, mask)
        assert one.evidence is not None
        assert one.evidence.predicted_iou == pytest.approx(quality, abs=1e-3)
    assert kept, "a claim about nothing"


def _written_out(model: SamSegmenter, prompts: tuple[Prompt, ...]) -> list[tuple[Tensor, float]]:
    """The best alternative's enlarged logits and its estimate, of a picture of 50×80."""
    pixels_, _ = model._fitter.batch([picture((50, 80), 1)])
    answers = []
    for prompt in prompts:
        box = prompt.bbox_xyxy
        places = torch.tensor(
            prompt.points_xy if box is None else (box[:2], box[2:]), dtype=torch.float32
        )
        places = places * torch.tensor([SIDE / 80, SIDE / 50])
        kinds = [1] if box is None else [2, 3]
        full = torch.full((1, 6, 2), -1.0)
        full[0, : len(places)] = places
        labels = torch.tensor([kinds + [-1] * (6 - len(kinds))])
        state = published()
        masks, quality = masks_of(
            state, embedding_of(state, pixels_, 3), tokens_of(state, full, labels)
        )
        best = int(quality[0, 1:].argmax()) + 1
        enlarged = F.interpolate(masks[:, best : best + 1], (50, 80), mode="bicubic")[0, 0]
        answers.append((enlarged, float(quality[0, best])))
    return answers


def _assert_mask(found: Segment, logits: Tensor) -> None:
    """The mask of these logits, but for pixels within rounding of the threshold."""
    mask = torch.from_numpy(codec.decode(found.counts, *logits.shape)).bool()
    unlike = mask != (logits > 0)
    assert float(logits.abs()[unlike].max() if unlike.any() else 0) < 1e-3 * float(logits.std())


@pytest.mark.usefixtures("small_net")
@pytest.mark.parametrize("reference", [False, True])
def test_the_published_file_finds_everything(reference: bool, tmp_path: Path) -> None:
    asked = EverythingConfig(
        points_per_side=3,
        pred_iou_thresh=0.0,
        stability_score_thresh=0.0,
        box_nms_thresh=1.0,
        reference=reference,
    )
    model = segmenter(tmp_path / "efficient_sam_vitt.pt", Request(everything=asked))
    (found,) = model.segment([picture((50, 80), 1)])
    assert found.failure is None
    assert len(found.segments) > 9
    assert {one.category_id for one in found.segments} == {1}


def test_under_another_name_the_job_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.pt").touch()
    info = describe(
        str(tmp_path / "mine.pt"), allow_pickle=True, architecture={"name": "efficient_sam_vits"}
    )
    assert info.config["architecture"] == {"name": "efficient_sam_vits"}
    config = {"format": "maskmill", "family": "sam", "architecture": {"name": "efficient_sam_vitt"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert describe(str(tmp_path), allow_pickle=True).family == "sam"


@pytest.mark.usefixtures("small_net")
def test_weights_of_the_other_size_do_not_fit(tmp_path: Path) -> None:
    path = tmp_path / "efficient_sam_vits.pt"
    torch.save({"model": published()}, path)
    info = describe(str(path), allow_pickle=True)
    with pytest.raises(ValueError, match="do not fit"):
        open_sam(info, allow_pickle=True).load("cpu", torch.float32)
