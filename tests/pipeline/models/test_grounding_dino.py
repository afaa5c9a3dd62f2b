"""Grounding DINO: layout of the text, scores by place, features computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from tiny_text import picture, text_checkpoint, text_info

from pipeline.models.checkpoints.hf_preprocessor import preprocessor, read_fit_rule
from pipeline.models.grounding_dino import GroundingDino, PhraseFinder, text_chunks
from pipeline.models.network.fit import Fitter
from pipeline.models.text.detections import Detections, select
from pipeline.models.text.phrases import Chunk
from pipeline.models.text.request import TextRequest, read_asking
from schemas.config.model import ModelConfig
from schemas.config.prompts import ConflictsConfig
from schemas.prompts import Ontology

KINDS = ["grounding-dino", "mm-grounding-dino"]
OPTIONS = ModelConfig(name="x", threshold=0.0)
FREE = ConflictsConfig(nms_iou=1, nms_ios=1)
ANIMALS = Ontology.of_prompts(["cat", "dog", "red car"])


def finder(kind: str, ontology: Ontology, **prompts: Any) -> tuple[PhraseFinder, Any, TextRequest]:
    info = text_info(kind, ontology, **prompts)
    asking = read_asking(info, OPTIONS, scores_tokens=True)
    name = {"grounding-dino": "GroundingDino", "mm-grounding-dino": "MMGroundingDino"}[kind]
    model = getattr(transformers, f"{name}ForObjectDetection").from_pretrained(info.folder).eval()
    return PhraseFinder(model, text_chunks(info, asking), asking, options=OPTIONS), model, asking


def seen(found: PhraseFinder, *hws: tuple[int, int], folder: Any) -> Any:
    fitter = Fitter(read_fit_rule(preprocessor(folder)), "cpu")
    pixels, frames = fitter.batch([picture(hw, seed) for seed, hw in enumerate(hws)])
    with torch.inference_mode():
        return pixels, found.find(pixels, frames)


@pytest.mark.parametrize("kind", KINDS)
def test_boxes_and_scores_are_those_of_the_model_itself(kind: str) -> None:
    folder = text_checkpoint(kind)
    found, _, _ = finder(kind, ANIMALS)
    hw = (70, 91)
    pixels, (ours,) = seen(found, hw, folder=folder)
    processor: Any = transformers.AutoProcessor.from_pretrained(folder)
    name = "MMGroundingDino" if kind.startswith("mm") else "GroundingDino"
    model = getattr(transformers, f"{name}ForObjectDetection").from_pretrained(folder).eval()
    given = processor(
        images=picture(hw).pixels,
        text=[["cat", "dog", "red car"]],
        return_tensors="pt",
        input_data_format="channels_last",
    )
    torch.testing.assert_close(given["pixel_values"], pixels, rtol=0, atol=1e-5)
    with torch.no_grad():
        answer = model(**given)
    (theirs,) = processor.post_process_grounded_object_detection(
        answer, given["input_ids"], threshold=0.0, text_threshold=0.0, target_sizes=[hw]
    )
    kept = theirs["boxes"].double().numpy().clip(0, [91, 70, 91, 70])
    np.testing.assert_allclose(ours.boxes_xyxy, kept, atol=1e-3)
    tokens = answer.logits[0].sigmoid().numpy()
    assert given["input_ids"][0].tolist()[:5] == [101, 400, 1012, 401, 1012]
    expected = np.stack((tokens[:, 1], tokens[:, 3], tokens[:, 5:7].mean(1)), 1)
    np.testing.assert_allclose(ours.scores, expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_computed_once_and_texts_read_once(kind: str) -> None:
    found, model, asking = finder(kind, ANIMALS, chunk_tokens=5)
    calls = {"picture": 0, "text": 0}
    for name, module in (
        ("picture", model.model.backbone.conv_encoder.model),
        ("text", model.model.text_backbone),
    ):
        module.register_forward_hook(lambda *_, name=name: calls.__setitem__(name, calls[name] + 1))
    assert len(asking.phrases) == 3
    folder = text_checkpoint(kind)
    for time in (1, 2):
        _, (first, second) = seen(found, (64, 80), (64, 80), folder=folder)
        assert calls == {"picture": time, "text": 0}  # they were read when it was made
        for one in (first, second):  # each box was asked about one phrase alone
            assert one.scores.shape == (60, 3)
            assert (np.isnan(one.scores).sum(1) == 2).all()


def test_each_chunk_gives_what_the_model_says_of_that_text_alone() -> None:
    folder = text_checkpoint("grounding-dino")
    found, _, _ = finder("grounding-dino", ANIMALS, chunk_tokens=5)
    _, (all_of_them,) = seen(found, (64, 80), folder=folder)
    for place, text in enumerate(("cat", "dog", "red car")):
        alone, _, _ = finder("grounding-dino", Ontology.of_prompts([text]))
        _, (one,) = seen(alone, (64, 80), folder=folder)
        asked = ~np.isnan(all_of_them.scores[:, place])
        np.testing.assert_allclose(all_of_them.boxes_xyxy[asked], one.boxes_xyxy, atol=1e-4)
        np.testing.assert_allclose(all_of_them.scores[asked, place], one.scores[:, 0], atol=1e-5)


def texts(found: PhraseFinder) -> list[torch.Tensor]:
    """t×C of each text, as it was read."""
    look: Any = found._look
    return [text.states[0] for text in look._function._texts]


def test_a_phrase_is_read_alike_in_every_text() -> None:
    """The text network isolates phrases, so that chunking changes no embedding."""
    together, _, _ = finder("grounding-dino", ANIMALS)
    folder = text_checkpoint("grounding-dino")
    seen(together, (64, 80), folder=folder)
    whole = texts(together)[0]
    apart, _, _ = finder("grounding-dino", ANIMALS, chunk_tokens=5)
    seen(apart, (64, 80), folder=folder)
    for index, (first, last) in enumerate(((1, 2), (3, 4), (5, 7))):
        own = texts(apart)[index]
        torch.testing.assert_close(own[1 : 1 + last - first], whole[first:last])


def test_three_hundred_categories_are_told_apart_by_place() -> None:
    names = [f"{'red ' * (i % 3)}cat{i} dog" for i in range(300)]
    found, _, asking = finder("grounding-dino", Ontology.of_prompts(names), chunk_tokens=64)
    (chunks, folder) = (found._chunks, text_checkpoint("grounding-dino"))
    assert len(chunks) > 20
    asked = [phrase for chunk in chunks for phrase in chunk.phrases]
    assert asked == list(range(300))
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
    for chunk, means in zip(chunks, found._means, strict=True):
        tokens = torch.tensor([chunk.tokens])
        assert tokens.shape[1] <= 64
        for column, phrase in enumerate(chunk.phrases):
            places = means[:, column].nonzero()[:, 0]
            text = tokenizer.decode(tokens[0, places])
            assert text.replace(" ", "") == asking.phrases[phrase].text.replace(" ", "")


NOUNS = [
    "dog",
    "cat",
    "car",
    "bear",
    "boat",
    "bowl",
    "box",
    "cap",
    "chair",
    "glass",
    "hat",
    "lamp",
    "pan",
    "ring",
    "shoe",
    "table",
]
PATTERNS = (
    *("{}", "hot {}", "{} collar", "toy {}", "{} house", "{} (decorative)", "hot-air {}", "{}s"),
    *(
        "{} {other}",
        "{other} {}",
        "{} cat",
        "cat {}",
        "a {} on a {other}",
        "{}/{other}",
        "{}'s dog",
    ),
    *("hot {} collar", "{} {}", "dog {} cat", "super-{}", "{} no. 1", "{} no. 12", "{}?"),
)


def lvis_like(count: int) -> list[str]:
    """Names that are parts of one another, as LVIS has them: dog, hot dog, dog collar."""
    pairs = zip(NOUNS, [*NOUNS[1:], NOUNS[0]], strict=True)
    names = [form.format(noun, noun, other=other) for noun, other in pairs for form in PATTERNS]
    return list(dict.fromkeys(names))[:count]


class OneAnswerAPhrase:
    """Stands in for a network: query q is sure of the q-th phrase of the text that it is given.

    It finds the phrases by itself, as what stands between the delimiters in the tokens, so that
    nothing here depends on how the program counts.
    """

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self._chunks = chunks
        self.asked: list[list[tuple[int, ...]]] = []

    def __call__(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        answers: list[torch.Tensor] = []
        for chunk in self._chunks:
            tokens = list(chunk.tokens)
            ends = [place for place, token in enumerate(tokens) if token == 1012]
            starts = [1, *(end + 1 for end in ends[:-1])]
            logits = torch.full((1, len(ends), len(tokens)), -9.0)
            for query, (start, end) in enumerate(zip(starts, ends, strict=True)):
                logits[0, query, start:end] = 9.0
            self.asked.append([tuple(tokens[a:b]) for a, b in zip(starts, ends, strict=True)])
            answers += logits, torch.full((1, len(ends), 4), 0.5)
        return tuple(answers)


def test_each_of_three_hundred_overlapping_phrases_is_its_own_category() -> None:
    names = lvis_like(300)
    assert len(names) == 300
    assert {"dog", "hot dog", "dog collar", "hot dog collar"} <= set(names)
    ontology = Ontology.parse(
        {"category": [{"name": name, "id": 7 * n} for n, name in enumerate(names, start=1)]}
    )
    found, _, asking = finder("grounding-dino", ontology, chunk_tokens=64)
    network: Any = OneAnswerAPhrase(found._chunks)
    found._look = network
    _, (sightings,) = seen(found, (64, 80), folder=text_checkpoint("grounding-dino"))
    assert len(network.asked) > 20
    # Each answer apart, or equal boxes would be taken for one another.
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(text_checkpoint("grounding-dino"))
    said = [phrase for text in network.asked for phrase in text]
    assert len(said) == len(sightings.scores) == 300
    for row, phrase in enumerate(said):
        one = Detections(sightings.boxes_xyxy[row : row + 1], sightings.scores[row : row + 1])
        choice = select(one, replace(asking, threshold=0.9))
        (category,) = choice.categories.tolist()
        expected = names[category].replace(".", " ").replace("?", " ").lower()
        assert tuple(tokenizer(expected, add_special_tokens=False)["input_ids"]) == phrase
        assert asking.ontology.ids()[category] == 7 * (row + 1)


@pytest.mark.parametrize("kind", KINDS)
def test_segments_name_their_prompt_and_depend_on_nothing_else(kind: str) -> None:
    info = text_info(kind, ANIMALS, conflicts=FREE)
    segmenter = GroundingDino(info, OPTIONS, ("instance",))
    segmenter.load("cpu")
    batch = [picture((70, 91)), picture((33, 120), 1), picture((70, 91), 2)]
    together = segmenter.segment(batch)
    assert together == [segmenter.segment([one])[0] for one in batch]
    assert together == segmenter.segment(batch)
    names = {item.name: id_ for item, id_ in zip(ANIMALS.category, ANIMALS.ids(), strict=True)}
    for sample, one in zip(batch, together, strict=True):
        assert (one.height, one.width) == sample.original_hw
        assert one.segments
        for segment in one.segments:
            assert segment.prompt is not None
            assert names[segment.prompt] == segment.category_id
            assert segment.evidence is not None
            x, y, width, height = segment.evidence.prompt_bbox_xywh or (-1, -1, -1, -1)
            assert min(x, y, width, height) >= 0
            assert x + width <= one.width + 1e-6
            assert y + height <= one.height + 1e-6
    segmenter.close()
    with pytest.raises(RuntimeError, match="load"):
        segmenter.segment(batch)


def test_all_tokens_of_a_phrase_must_reach_the_text_threshold() -> None:
    plain, _, _ = finder("grounding-dino", ANIMALS)
    strict, _, _ = finder("grounding-dino", ANIMALS, text_threshold=0.6)
    folder = text_checkpoint("grounding-dino")
    _, (loose,) = seen(plain, (64, 80), folder=folder)
    _, (tight,) = seen(strict, (64, 80), folder=folder)
    dropped = tight.scores == 0
    assert dropped.any()
    assert (tight.scores[~dropped] == loose.scores[~dropped]).all()
    assert (tight.scores[~dropped] >= 0.6).all()
    assert (loose.scores[:, :2][dropped[:, :2]] < 0.6).all()  # phrases of one token


def test_delimiters_inside_a_prompt_do_not_split_it() -> None:
    info = text_info("grounding-dino", Ontology.of_prompts(["a. cat? 7.5"]))
    asking = read_asking(info, OPTIONS)
    (chunk,) = text_chunks(info, asking)
    (first, last) = chunk.spans[0]
    assert not {1012, 1029} & set(chunk.tokens[first:last])
    assert chunk.tokens[last:] == (1012, 102)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"partner": None}, r"boxes, no masks.*tiny-grounding-dino\+sam-vit-b"),
        ({"chunk_tokens": 4}, "'red car' has 4 tokens|'red car' has 2 tokens"),
    ],
)
def test_what_cannot_work_is_said_before_the_first_picture(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        GroundingDino(text_info("grounding-dino", ANIMALS, **change), OPTIONS, ("instance",))


def test_other_bad_wishes_are_named() -> None:
    info = text_info("grounding-dino", ANIMALS)
    with pytest.raises(ValueError, match="non_overlap"):
        GroundingDino(info, OPTIONS, ("panoptic",))
    with pytest.raises(ValueError, match="CLIPSeg"):
        GroundingDino(info, OPTIONS, ("semantic",))
    with pytest.raises(ValueError, match="--prompt"):
        GroundingDino(text_info("grounding-dino", None), OPTIONS, ("instance",))
    mirrored = ModelConfig.parse({"name": "x", "tta": {"flips": ["horizontal"]}})
    with pytest.raises(ValueError, match=r"model\.tta"):
        GroundingDino(info, mirrored, ("instance",))


def test_panoptic_masks_do_not_overlap() -> None:
    conflicts = ConflictsConfig(nms_iou=1, nms_ios=1, non_overlap=True)
    info = text_info("grounding-dino", ANIMALS, conflicts=conflicts)
    segmenter = GroundingDino(info, OPTIONS, ("panoptic",))
    segmenter.load("cpu")
    (one,) = segmenter.segment([picture((48, 60))])
    assert sum(segment.area for segment in one.segments) <= 48 * 60
