"""SAM 3: each prompt's instances as transformers finds them, the picture encoded once."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_text import picture, text_checkpoint, text_info

from pipeline.masks import codec
from pipeline.models.checkpoints.info import describe
from pipeline.models.sam3 import Sam3
from schemas.config.model import ModelConfig
from schemas.config.prompts import ConflictsConfig
from schemas.prompts import Ontology

OPTIONS = ModelConfig(name="x", threshold=0.0)
FREE = ConflictsConfig(nms_iou=1, nms_ios=1)
WORDS = ["cat", "dog", "red car"]


def segmenter(ontology: Ontology, kind: str = "sam3") -> Sam3:
    one = Sam3(text_info(kind, ontology, conflicts=FREE), OPTIONS, ("instance",))
    one.load("cpu")
    return one


def test_the_published_form_is_one_for_videos(tmp_path: Path) -> None:
    """Its detector labels pictures, its tracker is left alone; texts keep the detector's limit."""
    plain = text_checkpoint("sam3")
    for path in plain.iterdir():
        shutil.copy(path, tmp_path)
    weights = load_file(plain / "model.safetensors")
    video = {f"detector_model.{key}": value for key, value in weights.items()}
    video |= {"tracker_model.memory": torch.zeros(3), "tracker_neck.weight": torch.zeros(2)}
    save_file(video, tmp_path / "model.safetensors", metadata={"format": "pt"})
    detector = json.loads((plain / "config.json").read_text())
    config = {
        "architectures": ["Sam3VideoModel"],
        "model_type": "sam3_video",
        "detector_config": detector,
        "tracker_config": {"model_type": "sam3_tracker_video"},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    asked = text_info("sam3", Ontology.of_prompts(WORDS), conflicts=FREE)
    published = replace(describe(str(tmp_path)), asking=asked.asking)
    assert published.family == "sam3"
    answers = []
    for info in (asked, published):
        one = Sam3(info, OPTIONS, ("instance",))
        one.load("cpu")
        answers.append(one.segment([picture((75, 133))]))
    assert answers[0] == answers[1]
    assert answers[0][0].segments
    detector["text_config"]["max_position_embeddings"] = 6
    with pytest.raises(ValueError, match=r"'red car' has \d+ tokens.* 6 at most"):
        Sam3(replace(published, config=config), OPTIONS, ("instance",))


@pytest.mark.parametrize(
    ("kind", "network", "hw"),
    [
        ("sam3", "Sam3Model", (112, 112)),
        ("sam3", "Sam3Model", (75, 133)),
        ("sam3-lite-text", "Sam3LiteTextModel", (75, 133)),
    ],
)
def test_instances_are_those_of_transformers(kind: str, network: str, hw: tuple[int, int]) -> None:
    folder = text_checkpoint(kind)
    processor: Any = transformers.Sam3Processor.from_pretrained(folder)
    model = getattr(transformers, network).from_pretrained(folder).eval()
    ours = segmenter(Ontology.of_prompts(WORDS), kind)
    (one,) = ours.segment([picture(hw)])
    found: Any = ours._shared._finder
    pixels, frames = ours._shared._fitter.batch([picture(hw)])
    with torch.inference_mode():
        (seen,) = found.find(pixels, frames)
    shared = 0
    for index, word in enumerate(WORDS):
        given = processor(
            images=picture(hw).pixels,
            text=word,
            return_tensors="pt",
            input_data_format="channels_last",
        )
        torch.testing.assert_close(given["pixel_values"], pixels, rtol=0, atol=1e-5)
        with torch.no_grad():
            answer = model(
                pixel_values=pixels,
                input_ids=given["input_ids"],
                attention_mask=given["attention_mask"],
            )
        (theirs,) = processor.post_process_instance_segmentation(
            answer, threshold=0.0, target_sizes=[hw]
        )
        mine = ~np.isnan(seen.scores[:, index])
        np.testing.assert_allclose(seen.scores[mine, index], theirs["scores"], atol=1e-5)
        limits = [hw[1], hw[0], hw[1], hw[0]]
        boxes = theirs["boxes"].double().numpy().clip(0, limits)
        np.testing.assert_allclose(seen.boxes_xyxy[mine], boxes, atol=1e-2)
        # Probabilities are enlarged there, logits here: on noise the rims differ.
        logits = torch.nn.functional.interpolate(answer.pred_masks, hw, mode="bilinear")[0]
        scores = theirs["scores"].numpy()
        for segment in one.segments:
            if segment.category_id == index + 1:
                query = np.abs(scores - segment.score).argmin()
                mask = codec.decode(segment.counts, *hw) > 0
                assert (mask != (logits[query] > 0).numpy()).mean() < 0.002
                shared += 1
    assert shared >= 3


def test_a_picture_is_encoded_once_and_a_prompt_knows_nothing_of_others() -> None:
    names = [f"thing {index}" for index in range(11)]
    many = segmenter(Ontology.of_prompts(names))
    found: Any = many._shared._finder
    calls: list[int] = []
    found._model.vision_encoder.register_forward_hook(lambda *_: calls.append(1))
    found._model.text_encoder.register_forward_hook(lambda *_: calls.append(2))
    pixels, frames = many._shared._fitter.batch([picture((50, 64)), picture((90, 64), 1)])
    with torch.inference_mode():
        seen = found.find(pixels, frames)
    assert calls == [1]
    for place in (0, 8, 10):
        alone: Any = segmenter(Ontology.of_prompts([names[place]]))._shared._finder
        with torch.inference_mode():
            expected = alone.find(pixels, frames)
        for one, other in zip(seen, expected, strict=True):
            mine = ~np.isnan(one.scores[:, place])
            np.testing.assert_allclose(one.scores[mine, place], other.scores[:, 0], atol=1e-5)
            np.testing.assert_allclose(one.boxes_xyxy[mine], other.boxes_xyxy, atol=1e-2)


def test_a_batch_is_its_pictures_and_segments_name_their_prompt() -> None:
    ontology = Ontology.parse(
        {"category": [{"name": "pet", "id": 5, "prompts": ["cat", "dog"]}, {"name": "car"}]}
    )
    ours = segmenter(ontology)
    batch = [picture((70, 91)), picture((33, 120), 1)]
    together = ours.segment(batch)
    assert together == [ours.segment([one])[0] for one in batch]
    ids = {"cat": 5, "dog": 5, "car": 2}
    for sample, one in zip(batch, together, strict=True):
        assert (one.height, one.width) == sample.original_hw
        assert one.segments
        assert all(ids[each.prompt or ""] == each.category_id for each in one.segments)


def test_what_cannot_work_is_said_before_the_first_picture() -> None:
    long = Ontology.of_prompts(["x" * 40])
    with pytest.raises(ValueError, match=r"'x+' has 42 tokens.* 32 at most"):
        Sam3(text_info("sam3", long), OPTIONS, ("instance",))
    with pytest.raises(ValueError, match="'semantic' is for CLIPSeg"):
        Sam3(text_info("sam3", Ontology.of_prompts(["cat"])), OPTIONS, ("semantic",))
