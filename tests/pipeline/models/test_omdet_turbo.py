"""OmDet-Turbo: prompts by column, tasks of limited length, boxes as transformers has them."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tiny_text import picture, text_checkpoint, text_info
from torchvision.ops import batched_nms

from pipeline.models.checkpoints.hf_preprocessor import preprocessor, read_fit_rule
from pipeline.models.network.fit import Fitter
from pipeline.models.omdet_turbo import OmDetTurbo, TaskFinder, offline_config, read_tasks, tasks_of
from pipeline.models.text.detections import Detections
from pipeline.models.text.phrases import Phrase
from pipeline.models.text.request import read_asking, read_texts
from schemas.config.model import ModelConfig
from schemas.config.prompts import ConflictsConfig
from schemas.prompts import Ontology

OPTIONS = ModelConfig(name="x", threshold=0.0)
ANIMALS = Ontology.of_prompts(["cat", "dog", "red car"])
NAMES = [item.name for item in ANIMALS.category]


def model_of(folder: Any) -> Any:
    return transformers.OmDetTurboForObjectDetection.from_pretrained(folder).eval()


def finder(ontology: Ontology, *, dtype: str = "auto", **prompts: Any) -> TaskFinder:
    info = text_info("omdet-turbo", ontology, **prompts)
    options = OPTIONS.model_copy(update={"dtype": dtype})
    asking = read_asking(info, OPTIONS)
    return TaskFinder(
        model_of(info.folder),
        read_texts(info, asking, longest=77),
        read_tasks(info, asking),
        asking,
        device="cpu",
        options=options,
    )


def fitter() -> Fitter:
    return Fitter(read_fit_rule(preprocessor(text_checkpoint("omdet-turbo"))), "cpu")


def seen(found: TaskFinder, *hws: tuple[int, int]) -> list[Detections]:
    pixels, frames = fitter().batch([picture(hw, seed) for seed, hw in enumerate(hws)])
    with torch.inference_mode():
        return found.find(pixels, frames)


def theirs_of(hw: tuple[int, int], names: list[str], **options: Any) -> tuple[Any, Any, Any]:
    """Input, raw answer and post-processed answer of transformers."""
    folder = text_checkpoint("omdet-turbo")
    processor: Any = transformers.AutoProcessor.from_pretrained(folder)
    given = processor(
        images=picture(hw).pixels,
        text=names,
        return_tensors="pt",
        input_data_format="channels_last",
    )
    with torch.no_grad():
        answer = model_of(folder)(**given)
    (found,) = processor.post_process_grounded_object_detection(
        answer, text_labels=names, target_sizes=[hw], **options
    )
    return given, answer, found


@pytest.mark.parametrize("hw", [(96, 128), (64, 41), (77, 301)])
def test_boxes_and_scores_are_those_of_transformers(hw: tuple[int, int]) -> None:
    given, answer, theirs = theirs_of(hw, NAMES, threshold=0.0, nms_threshold=0.5)
    pixels, _ = fitter().batch([picture(hw)])
    torch.testing.assert_close(given["pixel_values"], pixels, rtol=0, atol=1e-5)
    (ours,) = seen(finder(ANIMALS), hw)
    np.testing.assert_allclose(
        ours.scores, answer.decoder_class_logits[0].sigmoid().numpy(), atol=1e-5
    )
    # What we leave to masks, done to our boxes as transformers does it to its own.
    pairs = torch.tensor(ours.scores).flatten()
    score, place = pairs.topk(len(ours.scores))
    boxes, label = torch.tensor(ours.boxes_xyxy)[place // 3], place % 3
    kept = batched_nms(boxes, score, label, 0.5)
    np.testing.assert_allclose(score[kept], theirs["scores"], atol=1e-5)
    np.testing.assert_allclose(boxes[kept], theirs["boxes"], atol=1e-3)
    assert label[kept].tolist() == [NAMES.index(name) for name in theirs["text_labels"]]


def test_the_picture_is_encoded_once_and_texts_are_read_before() -> None:
    found = finder(ANIMALS, chunk_tokens=15)
    calls = {"picture": 0, "text": 0, "task": 0}
    for name, module in (
        ("picture", found._model.vision_backbone),
        ("text", found._model.language_backbone),
        ("task", found._model.decoder),
    ):
        module.register_forward_hook(lambda *_, name=name: calls.__setitem__(name, calls[name] + 1))
    for time in (1, 2):
        first, second = seen(found, (64, 80), (64, 80))
        assert calls == {"picture": time, "text": 0, "task": 3 * time}
        for one in (first, second):
            assert (np.isnan(one.scores).sum(1) == 2).all()


def test_each_task_finds_what_transformers_finds_for_it_alone() -> None:
    (ours,) = seen(finder(ANIMALS, chunk_tokens=15), (64, 80))
    for column, name in enumerate(NAMES):
        _, answer, _ = theirs_of((64, 80), [name])
        asked = ~np.isnan(ours.scores[:, column])
        expected = answer.decoder_class_logits[0, :, 0].sigmoid().numpy()
        np.testing.assert_allclose(ours.scores[asked, column], expected, atol=1e-5)


def words(text: str) -> list[str]:
    """A tokenizer: words and marks, between a start and an end."""
    return ["<", *text.replace(",", " ,").replace(".", " .").split(), ">"]


@given(st.lists(st.text("abc", min_size=1), min_size=1, max_size=30), st.integers(5, 20))
def test_tasks_hold_every_prompt_once_and_none_is_cut(texts: list[str], limit: int) -> None:
    tasks = tasks_of([Phrase(text, 0) for text in texts], words, limit=limit)  # type: ignore[arg-type]
    assert [index for task in tasks for index in task.phrases] == list(range(len(texts)))
    for task in tasks:
        assert len(task.tokens) <= limit
        assert [t for t in task.tokens if t not in ("<", "Detect", ",", ".", ">")] == [
            texts[index] for index in task.phrases
        ]
    for one in tasks[:-1]:  # the next prompt had no room
        assert len(one.tokens) + 2 > limit


def test_three_hundred_prompts_are_their_columns_whatever_the_tasks() -> None:
    names = [f"{'hot ' * (n % 2)}dog {n // 2}" for n in range(300)]
    found = finder(Ontology.of_prompts(names))
    tasks = read_tasks_of(names)
    assert len(tasks) > 10
    (many,) = seen(found, (50, 64))
    assert many.scores.shape[1] == 300
    for task in (tasks[0], tasks[-1]):
        own = [names[index] for index in task.phrases]
        _, answer, _ = theirs_of((50, 64), own)
        asked = ~np.isnan(many.scores[:, task.phrases[0]])
        expected = answer.decoder_class_logits[0].sigmoid().numpy()
        np.testing.assert_allclose(many.scores[asked][:, task.phrases], expected, atol=1e-5)


def read_tasks_of(names: list[str]) -> Any:
    info = text_info("omdet-turbo", Ontology.of_prompts(names))
    return read_tasks(info, read_asking(info, OPTIONS))


def test_boxes_keep_their_places_in_bfloat16() -> None:
    """The decoder stays in float32; the picture's features alone are rounded."""
    found = finder(ANIMALS, dtype="bfloat16")
    types: list[torch.dtype] = []
    found._model.decoder.register_forward_pre_hook(lambda _, given: types.append(given[0][0].dtype))
    (rough,) = seen(found, (64, 80))
    assert types == [torch.float32]
    assert (rough.boxes_xyxy * 256 % 1 != 0).mean() > 0.5  # no grid of bfloat16's steps


def test_a_batch_is_its_pictures_and_segments_name_their_prompts() -> None:
    conflicts = ConflictsConfig(nms_iou=1, nms_ios=1)
    info = text_info("omdet-turbo", ANIMALS, conflicts=conflicts)
    segmenter = OmDetTurbo(info, OPTIONS, ("instance",))
    segmenter.load("cpu")
    finder_: Any = segmenter._shared._finder
    network = weakref.ref(finder_._model)
    batch = [picture((70, 91)), picture((33, 120), 1)]
    together = segmenter.segment(batch)
    assert together == [segmenter.segment([one])[0] for one in batch]
    ids = dict(zip(NAMES, ANIMALS.ids(), strict=True))
    for one in together:
        assert one.segments
        assert all(ids[each.prompt or ""] == each.category_id for each in one.segments)
    segmenter.close()
    del finder_
    gc.collect()
    assert network() is None
    with pytest.raises(RuntimeError, match="load"):
        segmenter.segment(batch)


def test_what_cannot_work_is_said_before_the_first_picture() -> None:
    def build(ontology: Ontology | None, **change: Any) -> None:
        OmDetTurbo(text_info("omdet-turbo", ontology, **change), OPTIONS, ("instance",))

    long = Ontology.of_prompts(["cat", "a cat with very long ears" * 4])
    with pytest.raises(ValueError, match=r"'a cat .* has \d+ tokens.* 77 at most"):
        build(long)
    with pytest.raises(ValueError, match=r"'red car' makes a task of 15 tokens.* 14 at most"):
        build(Ontology.of_prompts(["cat", "red car"]), chunk_tokens=14)
    with pytest.raises(ValueError, match="boxes, no masks"):
        build(ANIMALS, partner=None)
    with pytest.raises(ValueError, match=r"prompts\.text_threshold"):
        build(ANIMALS, text_threshold=0.2)
    with pytest.raises(ValueError, match="--prompt"):
        build(None)


def test_the_published_configuration_is_read_without_a_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It names a network of timm, for which transformers alone would ask the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    published = {
        "model_type": "omdet-turbo",
        "backbone": "swin_tiny_patch4_window7_224",
        "backbone_config": None,
        "use_timm_backbone": True,
        "use_pretrained_backbone": True,
        "backbone_kwargs": {"always_partition": True, "img_size": 640, "out_indices": [1, 2, 3]},
        "image_size": 640,
    }
    config = transformers.OmDetTurboConfig.from_dict(offline_config(published))
    with torch.device("meta"):
        model: Any = transformers.OmDetTurboForObjectDetection(config)
    assert model.vision_backbone.vision_backbone.channels[-3:] == [192, 384, 768]
    millions = sum(value.numel() for value in model.parameters()) / 1e6
    assert millions == pytest.approx(115.4, abs=0.05)  # as the catalog has it
    assert offline_config(published | {"backbone_config": {"model_type": "swin"}})[
        "backbone_config"
    ] == {"model_type": "swin"}
