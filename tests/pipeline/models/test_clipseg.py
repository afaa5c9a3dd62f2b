"""CLIPSeg: the maps of transformers, once a picture; thresholds and negative prompts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny_text import picture, text_checkpoint, text_info

from pipeline.masks import codec
from pipeline.models.checkpoints.hf_preprocessor import preprocessor, read_fit_rule
from pipeline.models.clipseg import ClipSeg, PromptMaps
from pipeline.models.grids.finite import finite
from pipeline.models.network.fit import Fitter
from pipeline.models.network.weights import cast_weights
from pipeline.models.text.request import read_asking, read_texts
from schemas.config.model import ModelConfig
from schemas.prompts import Ontology

OPTIONS = ModelConfig(name="x")
WORDS = ["cat", "dog", "grass", "sky"]


def net(ontology: Ontology) -> tuple[PromptMaps, Any]:
    info = text_info("clipseg", ontology)
    asking = read_asking(info, OPTIONS)
    model = transformers.CLIPSegForImageSegmentation.from_pretrained(info.folder).eval()
    texts = read_texts(info, asking, longest=77)
    return PromptMaps(model, texts, asking, device="cpu", options=OPTIONS), model


def fitted(*hws: tuple[int, int]) -> tuple[torch.Tensor, Any]:
    fitter = Fitter(read_fit_rule(preprocessor(text_checkpoint("clipseg"))), "cpu")
    return fitter.batch([picture(hw, seed) for seed, hw in enumerate(hws)])


def theirs(hw: tuple[int, int], words: list[str]) -> torch.Tensor:
    folder = text_checkpoint("clipseg")
    processor: Any = transformers.AutoProcessor.from_pretrained(folder)
    model = transformers.CLIPSegForImageSegmentation.from_pretrained(folder).eval()
    given = processor(
        text=words,
        images=[picture(hw).pixels] * len(words),
        padding=True,
        return_tensors="pt",
        input_data_format="channels_last",
    )
    with torch.no_grad():
        return model(**given).logits.sigmoid()


def look(found: PromptMaps, *hws: tuple[int, int]) -> list[torch.Tensor]:
    with torch.inference_mode():
        return [each.logits for each in found.look(*fitted(*hws))["semantic"]]  # pyright: ignore


@pytest.mark.parametrize("hw", [(64, 64), (47, 90)])
def test_maps_are_those_of_transformers(hw: tuple[int, int]) -> None:
    found, _ = net(Ontology.of_prompts(WORDS))
    (ours,) = look(found, hw)
    torch.testing.assert_close(ours[:-1], theirs(hw, WORDS), rtol=0, atol=1e-4)
    assert (ours[-1] == 0.5).all()


def test_a_picture_is_encoded_once_for_more_prompts_than_go_together() -> None:
    names = [f"thing {index}" for index in range(70)]
    found, model = net(Ontology.of_prompts(names))
    calls: list[int] = []
    model.clip.vision_model.register_forward_hook(lambda *_: calls.append(1))
    model.clip.text_model.register_forward_hook(lambda *_: calls.append(2))
    (one, other) = look(found, (64, 80), (33, 80))
    assert calls == [1]
    assert one.shape == other.shape == (71, 64, 64)
    (alone,) = look(found, (64, 80))
    torch.testing.assert_close(one, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(one[[3, 40, 69]], theirs((64, 80), [names[i] for i in (3, 40, 69)]))


def test_categories_take_their_best_prompt_and_yield_to_negative_ones() -> None:
    plain = {"prompts": ["cat", "dog"], "min_score": 0.4}
    ontology = Ontology.parse(
        {"category": [{"name": "animal", **plain, "negative": ["sky"]}, {"name": "grass"}]}
    )
    found, _ = net(ontology)
    (ours,) = look(found, (64, 64))
    cat, dog, grass, sky = theirs((64, 64), WORDS)
    torch.testing.assert_close(ours[0], torch.maximum(cat, dog), rtol=0, atol=1e-4)
    torch.testing.assert_close(ours[1], grass, rtol=0, atol=1e-4)
    animal = ours[0] >= ours[1]
    expected = torch.where(animal, sky.clamp(min=0.4), 0.5)
    torch.testing.assert_close(ours[2], expected, rtol=0, atol=1e-4)
    assert animal.any()
    assert not animal.all()


def test_pixels_go_to_the_best_category_above_its_threshold() -> None:
    ontology = Ontology.parse(
        {"category": [{"name": "cat"}, {"name": "pets", "id": 9, "prompts": ["dog", "sky"]}]}
    )
    segmenter = ClipSeg(text_info("clipseg", ontology), OPTIONS, ("semantic",))
    segmenter.load("cpu")
    batch = [picture((64, 64)), picture((41, 97), 5)]
    together = segmenter.segment(batch)
    assert together == [segmenter.segment([one])[0] for one in batch]
    (one, other) = together
    assert (other.height, other.width) == (41, 97)
    cat, dog, sky = theirs((64, 64), ["cat", "dog", "sky"])
    best = torch.stack((cat, torch.maximum(dog, sky), torch.full_like(cat, 0.5))).argmax(0).numpy()
    found = {each.category_id: each for each in one.segments}
    for index, id_ in enumerate((1, 9)):
        expected = best == index
        assert expected.any() == (id_ in found)
        if id_ in found:  # 64×64 in, 64×64 out: no pixel is interpolated
            assert np.array_equal(codec.decode(found[id_].counts, 64, 64) > 0, expected)
    prompts = {1: "cat", 9: None}
    assert found
    for each in (*one.segments, *other.segments):
        assert each.prompt == prompts[each.category_id]
    segmenter.close()


def test_what_cannot_work_is_said_before_the_first_picture() -> None:
    with pytest.raises(ValueError, match="'semantic', not instance"):
        ClipSeg(text_info("clipseg", Ontology.of_prompts(WORDS)), OPTIONS, ("instance",))
    long = Ontology.of_prompts(["x" * 30])
    with pytest.raises(ValueError, match=r"'x+' has 32 tokens.* 24 at most"):
        ClipSeg(text_info("clipseg", long), OPTIONS, ("semantic",))


def test_infinity_is_no_answer() -> None:
    """Its sigmoid is 1: without a look at it the whole picture would be of that prompt."""
    maps, _ = net(Ontology.of_prompts(("cat", "dog")))
    with torch.inference_mode():
        pixels, frames = fitted((20, 30))
        (logits,) = maps._forward(pixels)
        for bad in (torch.inf, -torch.inf, torch.nan):
            poor = logits.clone()
            poor[0, 0, 0, 0] = bad
            maps._forward = lambda _pixels, poor=poor: (poor,)  # pyright: ignore
            assert not bool(finite(maps.look(pixels, frames)))


def test_in_the_precision_of_a_gpu_the_maps_are_the_same_but_for_rounding() -> None:
    maps, model = net(Ontology.of_prompts(WORDS))
    pixels, _ = fitted((96, 128), (96, 128))
    with torch.inference_mode():
        (wanted,) = maps._maps(pixels)
        model.clip.vision_model.embeddings.interpolate_pos_encoding._kept.clear()
        cast_weights(model, torch.bfloat16)
        (found,) = maps._maps(pixels.bfloat16())
    assert found.dtype == torch.bfloat16
    error = (found.float() - wanted).norm() / wanted.norm()
    assert error < 0.05
