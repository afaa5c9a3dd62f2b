"""Masks for ten concepts named in words: ours against a loop in the way of Grounded-SAM.

    python -m bench.text_prompts                         # cuda: real sizes, about 4 minutes
    python -m bench.text_prompts --device cpu --small    # tiny networks, a smoke test

Both sides: 8-bit pictures in, one mask a box out. Theirs is float32, a picture at a time:
transformers' processor, Grounding DINO and its post-processing, once for every concept or once
for all of them in one text, then SamPredictor of segment-anything: one encoding, one mask a box.
Ours: the families' own path in the device's precision, run lengths included.

Networks have published sizes and random weights. A random network finds nothing, so after each
real forward pass both sides go on with the same recorded answer: one box a concept, and discs for
masks.
"""

from __future__ import annotations

import argparse
import copy
import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import transformers as hf
from torch import Tensor

from bench.text_nets import detector, image_processor, package_sam, sam_rule, tokenizer
from pipeline.models.checkpoints.hf_preprocessor import read_fit_rule
from pipeline.models.grounding_dino import PhraseFinder
from pipeline.models.network.forward import precision
from pipeline.models.sam_core.net import PackageSam, inference
from pipeline.models.text.outlines import BoxMasks
from pipeline.models.text.phrases import chunked, phrases_of
from pipeline.models.text.request import TextRequest
from pipeline.models.text.segmenter import TextSegmenter
from schemas.config.model import ModelConfig
from schemas.config.prompts import ConflictsConfig
from schemas.prompts import Ontology
from schemas.records import ImageRecord, Sample

CONCEPTS = (
    "traffic light", "person", "red car", "bicycle", "dog", "bird", "tree", "bench", "road sign",
    "backpack",
)  # fmt: skip
OPTIONS = ModelConfig(name="bench")
CASES = (("tiny", "vit_b"), ("tiny", "vit_h"), ("base", "vit_h"))
SURE, UNSURE = 4.0, -8.0  # logits

Work = Callable[[], int]
"""Labels all pictures; how many masks there were."""


def main() -> None:
    """Prints images a second and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="tiny networks and pictures")
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=6, help="of each measurement, about")
    parser.add_argument("--compile", action="store_true", help="ours with model.compile")
    given = parser.parse_args()
    where = torch.cuda.get_device_name() if given.device != "cpu" else "cpu"
    dtype = str(precision("auto", given.device)).removeprefix("torch.")
    print(f"torch {torch.__version__} on {where}; {len(CONCEPTS)} concepts; ours in {dtype}")
    print("| detector + SAM | path | images/s | masks a picture | ours / theirs |")
    print("|---|---|---|---|---|", flush=True)
    cases = (("small", "small"),) if given.small else CASES
    for dino, sam in cases:
        rows(dino, sam, given)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def rows(dino: str, sam: str, given: argparse.Namespace) -> None:
    """Measures one pair of networks."""
    small = dino == "small"
    torch.manual_seed(0)
    networks = Networks(
        detector(dino), package_sam(sam), tokenizer(CONCEPTS), image_processor(small)
    )
    hw = (60, 80) if small else (480, 640)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (*hw, 3), np.uint8) for _ in range(given.pictures)]
    ours = measure(our_loop(copy.deepcopy(networks), pictures, given), given)
    line(dino, sam, f"ours, batches of {given.batch}", ours, len(pictures), None)
    gc.collect()
    for each, words in ((True, "a text a concept"), (False, "one text")):
        work = their_loop(copy.deepcopy(networks), pictures, given.device, each=each)
        theirs = measure(work, given)
        line(dino, sam, f"Grounded-SAM style, {words}", theirs, len(pictures), ours)
        del work
        gc.collect()


def line(
    dino: str,
    sam: str,
    path: str,
    found: tuple[float, int],
    pictures: int,
    ours: tuple[float, int] | None,
) -> None:
    """Prints one row."""
    seconds, masks = found
    ratio = "" if ours is None else f"{seconds / ours[0]:.1f}×"
    print(
        f"| Grounding DINO {dino} + SAM {sam} | {path} | {pictures / seconds:.2f} | "
        f"{masks / pictures:.1f} | {ratio} |",
        flush=True,
    )


def measure(work: Work, given: argparse.Namespace) -> tuple[float, int]:
    """Best seconds of a round over all pictures, after one to warm up; and masks."""

    def once() -> tuple[float, int]:
        start = time.perf_counter()
        with torch.inference_mode():
            masks = work()
        if given.device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - start, masks

    once()
    rounds = [once()]
    while sum(seconds for seconds, _ in rounds) < given.seconds:
        rounds.append(once())
    return min(rounds)


@dataclass(slots=True)
class Networks:
    """What both sides share; on the CPU."""

    dino: Any
    sam: Any
    tokenizer: Any
    images: Any


def our_loop(networks: Networks, pictures: Sequence[np.ndarray], given: argparse.Namespace) -> Work:
    """The path of the family grounding-dino, put together in memory."""
    options = OPTIONS.model_copy(update={"batch_size": given.batch, "compile": given.compile})
    ontology = Ontology.of_prompts(CONCEPTS)
    conflicts = ConflictsConfig(nms_iou=1, nms_ios=1)
    asking = TextRequest(ontology, tuple(phrases_of(ontology)), 0.3, conflicts)
    chunks = chunked(
        asking.phrases,
        lambda text: networks.tokenizer(text, add_special_tokens=False)["input_ids"],
        limit=256,
        start=[101],
        between=[1012],
        end=[102],
    )
    spans = [span for chunk in chunks for span in chunk.spans]
    sam = networks.sam

    class InMemory:
        rule = sam_rule(sam.image_encoder.img_size)
        two_steps = True

        def load(
            self,
            device: str,
            dtype: torch.dtype,
            *,
            reference: bool = False,
            compiled: bool = False,
        ) -> PackageSam:
            net = PackageSam(inference(sam, device, dtype), reference=reference, compiled=compiled)
            net.fast = RecordedDecoder(net.fast)  # pyright: ignore
            return net

    segmenter = TextSegmenter(
        asking,
        options,
        ("instance",),
        rule=read_fit_rule(networks.images.to_dict()),
        outliner=BoxMasks(InMemory(), options),  # pyright: ignore
    )

    def build(device: str) -> PhraseFinder:
        model = networks.dino.eval().requires_grad_(False).to(device)
        finder = PhraseFinder(model, chunks, asking, options=options)
        finder._look = RecordedLook(finder._look, spans)
        return finder

    segmenter.start(given.device, build)
    samples = [Sample(ImageRecord(str(i), ""), each, each.shape[:2]) for i, each in
               enumerate(pictures)]  # fmt: skip

    def work() -> int:
        return sum(
            len(one.segments)
            for start in range(0, len(samples), given.batch)
            for one in segmenter.segment(samples[start : start + given.batch])
        )

    return work


def their_loop(
    networks: Networks, pictures: Sequence[np.ndarray], device: str, *, each: bool
) -> Work:
    """A text a concept (`each`) or one for all; float32, a picture at a time."""
    from segment_anything import SamPredictor

    processor: Any = hf.GroundingDinoProcessor(networks.images, networks.tokenizer)
    model = networks.dino.eval().requires_grad_(False).to(device)
    sam = inference(networks.sam, device, torch.float32)
    decoder = sam.mask_decoder.forward
    sam.mask_decoder.forward = lambda **given: recorded_masks(*decoder(**given))
    predictor = SamPredictor(sam)
    texts = [f"{name}." for name in CONCEPTS] if each else [" ".join(f"{n}." for n in CONCEPTS)]
    answers: list[tuple[list[tuple[int, int]], Tensor]] = []
    for index, text in enumerate(texts):
        spans, start = [], 1
        for name in [CONCEPTS[index]] if each else CONCEPTS:
            size = len(networks.tokenizer(name, add_special_tokens=False)["input_ids"])
            spans.append((start, start + size))
            start += size + 1
        answers.append((spans, boxes()[index : index + 1] if each else boxes()))
        if processor.tokenizer(text)["input_ids"][start - 1] != 1012:
            raise RuntimeError(f"{text!r} has another layout than was assumed")
    recorded = RecordedDetector(model, answers)

    def detected(pixels: np.ndarray) -> Tensor:
        found: list[Tensor] = []
        for index, text in enumerate(texts):
            inputs = processor(
                images=pixels,
                text=text,
                return_tensors="pt",
                input_data_format="channels_last",
            ).to(device)
            recorded.at = index
            (result,) = processor.post_process_grounded_object_detection(
                recorded(**inputs),
                inputs["input_ids"],
                threshold=0.3,
                text_threshold=0.25,
                target_sizes=[pixels.shape[:2]],
            )
            found.append(result["boxes"])
        return torch.cat(found)

    def work() -> int:
        total = 0
        for pixels in pictures:
            found = detected(pixels)
            predictor.set_image(pixels)
            asked = predictor.transform.apply_boxes_torch(found, pixels.shape[:2])
            masks, _, _ = predictor.predict_torch(
                point_coords=None, point_labels=None, boxes=asked, multimask_output=False
            )
            total += len(masks.cpu().numpy())
        return total

    return work


class RecordedDetector:
    """A detector whose answer, after the real forward pass, is the recorded one.

    Args:
        model: Of transformers.
        answers: Of each text: where its phrases' tokens stand, and one box a phrase.
    """

    def __init__(
        self, model: Any, answers: Sequence[tuple[Sequence[tuple[int, int]], Tensor]]
    ) -> None:
        self._model = model
        self._answers = answers
        self.at = 0

    def __call__(self, **inputs: Any) -> Any:
        answer = self._model(**inputs)
        spans, found = self._answers[self.at]
        logits = torch.full_like(answer.logits, UNSURE)
        for query, (first, last) in enumerate(spans):
            logits[:, query, first:last] = SURE
        places = answer.pred_boxes.clone()
        places[:, : len(found)] = found.to(places)
        return SimpleNamespace(logits=logits, pred_boxes=places, input_ids=inputs["input_ids"])


class RecordedLook:
    """As `RecordedDetector`, for our pass.

    Args:
        inner: Pixels → logits of one text and boxes.
        spans: Where its phrases' tokens stand.
    """

    def __init__(
        self, inner: Callable[[Tensor], tuple[Tensor, ...]], spans: Sequence[tuple[int, int]]
    ) -> None:
        self._inner = inner
        self._spans = spans

    def __call__(self, pixels: Tensor) -> tuple[Tensor, ...]:
        logits, places = (each.clone() for each in self._inner(pixels))
        logits.fill_(UNSURE)
        for query, (first, last) in enumerate(self._spans):
            logits[:, query, first:last] = SURE
        places[:, : len(self._spans)] = boxes().to(places)
        return logits, places


class RecordedDecoder:
    """SAM's fast decoder with recorded masks after the real ones."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def decode(self, *given: Any) -> Any:
        """As it is."""
        return self._inner.decode(*given)

    def ask(self, *given: Any) -> tuple[Tensor, Tensor]:
        """Discs."""
        return recorded_masks(*self._inner.ask(*given))


def recorded_masks(masks: Tensor, quality: Tensor) -> tuple[Tensor, Tensor]:
    """Discs in place of a decoder's masks."""
    return discs(masks), quality


def discs(masks: Tensor) -> Tensor:
    """N×M×h×w: one disc a prompt, each elsewhere."""
    count, _, height, width = masks.shape
    y = torch.arange(height, device=masks.device)[:, None] / height
    x = torch.arange(width, device=masks.device)[None] / width
    turn = torch.arange(count, device=masks.device) * 2.4
    cy, cx = (0.35 + 0.2 * wave(turn)[:, None, None] for wave in (torch.sin, torch.cos))
    distance = ((y - cy) ** 2 + (x - cx) ** 2).sqrt()
    return ((0.12 - distance) * 60)[:, None].expand(masks.shape).to(masks.dtype)


def boxes() -> Tensor:
    """One a concept: centre and size, shares of the picture."""
    rng = np.random.default_rng(1)
    centre, size = rng.uniform(0.3, 0.7, (2, len(CONCEPTS), 2)) * np.array([[[1.0]], [[0.5]]])
    return torch.tensor(np.concatenate((centre, size), 1), dtype=torch.float32)


if __name__ == "__main__":
    main()
