"""OWLv2: all prompts at once, boxes mapped back from the padded square."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny_text import picture, text_checkpoint, text_info

from pipeline.models.checkpoints.hf_preprocessor import preprocessor, read_fit_rule
from pipeline.models.network.fit import Fitter
from pipeline.models.owlv2 import Owlv2, PatchFinder, cast_but_scores
from pipeline.models.text.request import read_asking, read_texts
from schemas.config.model import ModelConfig
from schemas.config.prompts import ConflictsConfig
from schemas.prompts import Ontology

OPTIONS = ModelConfig(name="x", threshold=0.0)
ANIMALS = Ontology.of_prompts(["cat", "dog", "red car"])


CLASSES = {"owlv2": "Owlv2ForObjectDetection", "owlvit": "OwlViTForObjectDetection"}


def model_of(kind: str) -> Any:
    model_class = getattr(transformers, CLASSES[kind])
    return model_class.from_pretrained(text_checkpoint(kind)).eval()


def finder(ontology: Ontology, kind: str = "owlv2") -> PatchFinder:
    info = text_info(kind, ontology)
    asking = read_asking(info, ModelConfig(name="x", threshold=0.0))
    texts = read_texts(info, asking, longest=16)
    return PatchFinder(model_of(kind), texts, asking, device="cpu", options=OPTIONS)


def fitter(kind: str = "owlv2") -> Fitter:
    return Fitter(read_fit_rule(preprocessor(text_checkpoint(kind))), "cpu")


@pytest.mark.parametrize("hw", [(96, 128), (64, 41), (77, 301), (41, 64)])
@pytest.mark.parametrize("kind", CLASSES)
def test_boxes_and_scores_are_those_of_transformers(hw: tuple[int, int], kind: str) -> None:
    folder = text_checkpoint(kind)
    processor: Any = transformers.AutoProcessor.from_pretrained(folder)
    names = [item.name for item in ANIMALS.category]
    given = processor(
        images=picture(hw).pixels,
        text=[names],
        return_tensors="pt",
        input_data_format="channels_last",
    )
    with torch.no_grad():
        answer = model_of(kind)(**given)
    (theirs,) = processor.post_process_grounded_object_detection(
        answer, threshold=0.0, target_sizes=torch.tensor([hw])
    )
    frames = fitter(kind).frames([hw])
    (ours,) = finder(ANIMALS, kind).find(given["pixel_values"], frames)
    limits = [hw[1], hw[0], hw[1], hw[0]]
    inside = theirs["boxes"].double().numpy().clip(0, limits)
    np.testing.assert_allclose(ours.boxes_xyxy, inside, atol=1e-3)
    np.testing.assert_allclose(ours.scores, answer.logits[0].sigmoid().numpy(), atol=1e-5)


@pytest.mark.parametrize(
    "hw", [(48, 64), (64, 41), (77, 301), (200, 90), (63, 64), (65, 66), (1, 1), (300, 1), (5, 700)]
)
@pytest.mark.parametrize("kind", CLASSES)
def test_the_input_is_the_processors(hw: tuple[int, int], kind: str) -> None:
    processor: Any = transformers.AutoImageProcessor.from_pretrained(text_checkpoint(kind))
    sample = picture(hw)
    theirs = processor(
        sample.pixels, return_tensors="pt", input_data_format="channels_last"
    ).pixel_values
    ours, _ = fitter(kind).batch([sample])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_prompts_do_not_know_of_one_another() -> None:
    pixels, frames = fitter().batch([picture((50, 64))])
    (together,) = finder(ANIMALS).find(pixels, frames)
    for place, item in enumerate(ANIMALS.category):
        (alone,) = finder(Ontology.of_prompts([item.name])).find(pixels, frames)
        np.testing.assert_allclose(alone.scores[:, 0], together.scores[:, place], atol=1e-6)
        np.testing.assert_allclose(alone.boxes_xyxy, together.boxes_xyxy)


def test_three_hundred_prompts_are_three_hundred_columns() -> None:
    names = [f"thing {index}" for index in range(300)]
    pixels, frames = fitter().batch([picture((50, 64))])
    (many,) = finder(Ontology.of_prompts(names)).find(pixels, frames)
    assert many.scores.shape[1] == 300
    for place in (0, 123, 299):
        (one,) = finder(Ontology.of_prompts([names[place]])).find(pixels, frames)
        np.testing.assert_allclose(one.scores[:, 0], many.scores[:, place], atol=1e-5)


def test_a_batch_is_its_pictures_and_a_picture_is_encoded_once() -> None:
    conflicts = ConflictsConfig(nms_iou=1, nms_ios=1)
    info = text_info("owlv2", ANIMALS, conflicts=conflicts)
    segmenter = Owlv2(info, OPTIONS, ("instance",))
    segmenter.load("cpu")
    finder_: Any = segmenter._shared._finder
    calls: list[int] = []
    finder_._model.owlv2.vision_model.register_forward_hook(lambda *_: calls.append(1))
    batch = [picture((70, 91)), picture((33, 120), 1)]
    together = segmenter.segment(batch)
    assert len(calls) == 2
    assert together == [segmenter.segment([one])[0] for one in batch]
    ids = {item.name: id_ for item, id_ in zip(ANIMALS.category, ANIMALS.ids(), strict=True)}
    for one in together:
        assert one.segments
        assert all(ids[each.prompt or ""] == each.category_id for each in one.segments)
    segmenter.close()


def test_what_cannot_work_is_said_before_the_first_picture() -> None:
    long = Ontology.of_prompts(["cat", "a cat with very long ears"])
    with pytest.raises(ValueError, match=r"'a cat with very long ears' has \d+ tokens.* 16 at"):
        Owlv2(text_info("owlv2", long), OPTIONS, ("instance",))
    with pytest.raises(ValueError, match="boxes, no masks"):
        Owlv2(text_info("owlv2", ANIMALS, partner=None), OPTIONS, ("instance",))
    with pytest.raises(ValueError, match=r"prompts\.text_threshold"):
        Owlv2(text_info("owlv2", ANIMALS, text_threshold=0.2), OPTIONS, ("instance",))
    with pytest.raises(ValueError, match="is no SAM"):
        Owlv2(text_info("owlv2", ANIMALS, partner="owlv2"), OPTIONS, ("instance",))


@pytest.mark.parametrize("kind", CLASSES)
def test_in_the_precision_of_a_gpu_places_and_scores_are_still_float32(kind: str) -> None:
    found = finder(ANIMALS, kind)
    pixels, _ = fitter(kind).batch([picture((96, 128))])
    with torch.inference_mode():
        wanted = found._look(pixels)
        bias = found._model.box_bias.clone()
        cast_but_scores(found._model, torch.bfloat16)
        boxes, logits = found._look(pixels.bfloat16())
    assert (boxes.dtype, logits.dtype) == (torch.float32, torch.float32)
    assert torch.equal(found._model.box_bias, bias)
    assert (boxes - wanted[0]).abs().mean() < 0.005  # as under autocast
    assert (logits - wanted[1]).abs().mean() < 0.02 * wanted[1].abs().mean()
