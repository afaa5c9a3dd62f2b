"""What bench.forwards runs: published networks with random weights, theirs and ours.

Theirs is the library's own pass, compiled, in bfloat16; ours is the function that a worker calls.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

Call = Callable[[], Any]

HW = {
    **dict.fromkeys(("segformer-b5", "eomt-large", "eomt-large-unmasked"), (640, 640)),
    **dict.fromkeys(("owlv2-base", "sam3-1-word", "sam3-10-words"), (1008, 1008)),
    "owlv2-base": (960, 960),
    "clipseg": (352, 352),
}
"""Of the input; 480×640 pictures fitted to 800 × 1333 are 800×1088."""

WORDS = 10


@dataclass(slots=True)
class Contest:
    """One network on both sides.

    Attributes:
        plain: The library's float32 pass, whose operations are counted.
        theirs: The library's way, compiled.
        ours: Way → our pass.
        answers: Pulls comparable tensors out of an answer of either side.
    """

    plain: Call
    theirs: Call
    ours: dict[str, Call]
    answers: Callable[[Any], list[Tensor]]
    pictures: int


def half(model: Any) -> Any:
    """The library's network with bfloat16 weights."""
    return deepcopy(model).to(torch.bfloat16)


def their_way(model: Any, call: Callable[[Any, Tensor], Any], pixels: Tensor) -> Call:
    """Compiled with bfloat16 weights; under autocast where that does not run."""
    lowered, small = half(model), pixels.bfloat16()
    device = pixels.device.type
    scope: Any = nullcontext()
    try:
        call(lowered, small)
    except (RuntimeError, ValueError) as error:
        print("theirs runs under autocast, since with bfloat16 weights:", error)
        lowered, small = model, pixels
        scope = torch.autocast(device, torch.bfloat16)
    compiled = torch.compile(lowered, dynamic=False)

    def run() -> Any:
        with scope:
            return call(compiled, small)

    return run


def contest_of(
    model: Any,
    call: Callable[[Any, Tensor], Any],
    pixels: Tensor,
    build: Callable[[Any], Call],
    answers: Callable[[Any], list[Tensor]],
    given: argparse.Namespace,
) -> Contest:
    """Of a network that both sides call with pixels."""
    plain = partial(call, model, pixels)
    theirs = their_way(model, call, pixels)
    return Contest(plain, theirs, our_ways(given, build), answers, given.batch)


def options(given: argparse.Namespace, *, compiled: bool, dtype: str = "auto") -> Any:
    from schemas.config.model import ModelConfig

    return ModelConfig(
        name="bench",
        batch_size=given.batch,
        device=given.device,
        compile=compiled,
        dtype=dtype,  # pyright: ignore[reportArgumentType]
    )


def our_ways(given: argparse.Namespace, build: Callable[[Any], Call]) -> dict[str, Call]:
    """Recorded, compiled by block and recorded, and in float32 for the error alone."""
    return {
        "ours, recorded": build(options(given, compiled=False)),
        "ours, compiled": build(options(given, compiled=True)),
    }


def noise(name: str, given: argparse.Namespace) -> Tensor:
    """B×3×h×w, as normalised pictures are."""
    wide, high = HW.get(name, (800, 1088))[::-1]
    hw = (96, 96 if wide == high else 128) if given.small else (high, wide)
    return torch.randn(given.batch, 3, *hw, device=given.device)


def universal(name: str, given: argparse.Namespace) -> Contest:
    """Mask2Former, OneFormer and SegFormer, as bench.families has them."""
    from bench.families import our_net
    from bench.family_nets import CASES

    case = CASES[name](given.small)
    case.model.eval().requires_grad_(False).to(given.device)
    pixels = noise(name, given)
    tokens = torch.randint(0, 400, (1, 77), device=given.device).expand(given.batch, -1)
    takes_task = hasattr(case.model, "model") and hasattr(case.model.model, "task_encoder")
    extra = {"task_inputs": tokens} if takes_task else {}
    plain = deepcopy(case.model)

    def call(model: Any, some: Tensor) -> Any:
        return model(some, **{key: value.to(some.dtype) for key, value in extra.items()})

    def build(chosen: Any) -> Call:
        if takes_task:
            from pipeline.models.oneformer import OneFormerNet

            inner = deepcopy(case.model.model)
            net: Any = OneFormerNet(inner, tokens[:1].float(), (case.task,), chosen)
        else:
            net, _ = our_net(_copied(case), given.device, chosen)
        return lambda: net._forward(pixels)

    def answers(answer: Any) -> list[Tensor]:
        if isinstance(answer, tuple) and not hasattr(answer, "keys"):
            return [answer[0].float()]
        return [(answer.logits if case.task == "semantic" else answer.class_queries_logits).float()]

    return contest_of(plain, call, pixels, build, answers, given)


def _copied(case: Any) -> Any:
    return replace(case, model=deepcopy(case.model))


def eomt(name: str, given: argparse.Namespace) -> Contest:
    """EoMT-L, COCO panoptic at 640²; random ones mask attention in four layers, published none."""
    import transformers as hf

    from pipeline.models.eomt import eomt_net

    small: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 5, "num_attention_heads": 2}
    large: dict[str, Any] = {"hidden_size": 1024, "num_hidden_layers": 24}
    large |= {"num_attention_heads": 16}
    config = hf.EomtConfig(
        image_size=96 if given.small else 640,
        num_queries=20 if given.small else 200,
        num_blocks=4,
        id2label=dict(enumerate(map(str, range(133)))),
        **(small if given.small else large),
    )
    model: Any = hf.EomtForUniversalSegmentation(config).eval().requires_grad_(False)
    model.to(given.device)
    masked = [float(not name.endswith("unmasked"))] * 4
    del model.attn_mask_probs
    model.attn_mask_probs = masked
    side = config.image_size
    pixels = torch.randn(given.batch, 3, side, side, device=given.device)

    def build(chosen: Any) -> Call:
        net = eomt_net(deepcopy(model), device=given.device, options=chosen)
        return lambda: net._forward(pixels)

    def answers(answer: Any) -> list[Tensor]:
        classes = answer[0] if type(answer) is tuple else answer.class_queries_logits
        return [classes.float()]

    return contest_of(model, lambda net, some: net(some), pixels, build, answers, given)


def grounding(name: str, given: argparse.Namespace) -> Contest:
    """Grounding DINO tiny, a text of three phrases."""
    from bench.text_nets import detector
    from pipeline.models.grounding_dino import PhraseFinder
    from pipeline.models.text.phrases import Chunk

    model = detector("small" if given.small else "tiny").eval().requires_grad_(False)
    model.to(given.device)
    pixels = noise(name, given)
    ids = (101, 4937, 1012, 3899, 1012, 2417, 2482, 1012, 102)
    tokens = torch.tensor([ids], device=given.device).expand(given.batch, -1)
    chunk = Chunk((0, 1, 2), ids, ((1, 2), (3, 4), (5, 7)))
    asking: Any = SimpleNamespace(text_threshold=None, least=0.0, phrases=["a", "b", "c"])

    def call(net: Any, some: Tensor) -> Any:
        return net(pixel_values=some, input_ids=tokens)

    def build(chosen: Any) -> Call:
        finder = PhraseFinder(deepcopy(model), [chunk], asking, options=chosen)
        return lambda: finder._look(pixels)

    def answers(answer: Any) -> list[Tensor]:
        logits = answer[0] if isinstance(answer, tuple) else answer.logits[..., : len(ids)]
        return [logits.float().sigmoid()[..., 1]]

    return contest_of(model, call, pixels, build, answers, given)


def words(given: argparse.Namespace, count: int) -> tuple[Any, Any]:
    """Prompts as a family reads them, and their tokens n×t with a mask."""
    from pipeline.models.text.phrases import phrases_of
    from schemas.prompts import Ontology

    ontology = Ontology.of_prompts([f"thing {index}" for index in range(count)])
    asking = SimpleNamespace(
        phrases=phrases_of(ontology), ontology=ontology, threshold=0.3, least=2.0
    )
    tokens = torch.randint(1, 90, (count, 8), device=given.device)
    tokens[:, -1] = 99  # the end of a text, by which it is read
    return asking, SimpleNamespace(on=lambda _device: (tokens, torch.ones_like(tokens)))


def owlv2(name: str, given: argparse.Namespace) -> Contest:
    """OWLv2 base at 960², ten texts."""
    import transformers as hf

    from pipeline.models.owlv2 import PatchFinder

    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    small |= {"num_attention_heads": 2}
    vision = {**small, "image_size": 96} if given.small else {"image_size": 960, "patch_size": 16}
    config = hf.Owlv2Config(
        vision_config=vision,
        text_config={"vocab_size": 100, "eos_token_id": 99, **(small if given.small else {})},
        **({"projection_dim": 32} if given.small else {}),
    )
    model: Any = hf.Owlv2ForObjectDetection(config).eval().requires_grad_(False)
    model.to(given.device)
    pixels = noise(name, given)
    asking, texts = words(given, WORDS)
    tokens, mask = (each.repeat(given.batch, 1) for each in texts.on(given.device))

    def call(net: Any, some: Tensor) -> Any:
        return net(pixel_values=some, input_ids=tokens, attention_mask=mask)

    def build(chosen: Any) -> Call:
        finder = PatchFinder(deepcopy(model), texts, asking, device=given.device, options=chosen)
        return lambda: finder._forward(pixels)

    def answers(answer: Any) -> list[Tensor]:
        return [(answer[1] if type(answer) is tuple else answer.logits).float()]

    return contest_of(model, call, pixels, build, answers, given)


def clipseg(name: str, given: argparse.Namespace) -> Contest:
    """CLIPSeg as refined, at 352², ten texts; the library reads a picture once a text."""
    import transformers as hf

    from pipeline.models.clipseg import PromptMaps

    small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 3}
    small |= {"num_attention_heads": 2}
    config = hf.CLIPSegConfig(
        vision_config={"patch_size": 16, **(small if given.small else {})},
        text_config={"vocab_size": 100, "eos_token_id": 99, **(small if given.small else {})},
        extract_layers=[0, 1] if given.small else [3, 6, 9],
        use_complex_transposed_convolution=True,
    )
    model: Any = hf.CLIPSegForImageSegmentation(config).eval().requires_grad_(False)
    model.to(given.device)
    pixels = noise(name, given)
    asking, texts = words(given, WORDS)
    tokens, mask = (each.repeat(given.batch, 1) for each in texts.on(given.device))

    def call(net: Any, some: Tensor) -> Any:
        return net(
            pixel_values=some.repeat_interleave(WORDS, 0), input_ids=tokens, attention_mask=mask
        )

    def build(chosen: Any) -> Call:
        maps = PromptMaps(deepcopy(model), texts, asking, device=given.device, options=chosen)
        return lambda: maps._forward(pixels)

    def answers(answer: Any) -> list[Tensor]:
        if type(answer) is tuple:
            return [answer[0].flatten(0, 1).float()]
        return [answer.logits.float()]

    return contest_of(model, call, pixels, build, answers, given)


def sam3(name: str, given: argparse.Namespace) -> Contest:
    """SAM 3 at 1008²; the library reads a picture once too, and one text of all pictures a call."""
    import transformers as hf

    from pipeline.models.grids.geometry import Frame
    from pipeline.models.sam3 import ConceptFinder

    if given.small:
        from tiny_text import _sam3_parts  # pyright: ignore[reportMissingImports]

        text = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
        text |= {"num_attention_heads": 2, "vocab_size": 100, "eos_token_id": 99}
        config = hf.Sam3Config(**_sam3_parts(), text_config={**text, "projection_dim": 32})
    else:
        config = hf.Sam3Config()
    with torch.device(given.device):
        model: Any = hf.Sam3Model(config).eval().requires_grad_(False)
    count = 1 if name == "sam3-1-word" else WORDS
    side = config.vision_config.backbone_config.image_size
    pixels = torch.randn(given.batch, 3, side, side, device=given.device)
    asking, texts = words(given, count)
    tokens, mask = texts.on(given.device)

    def call(net: Any, some: Tensor) -> Any:
        seen = net.see(some)
        every = [
            net.ask(
                seen,
                tokens[index : index + 1].expand(len(some), -1),
                mask[index : index + 1].expand(len(some), -1),
            )
            for index in range(count)
        ]
        return every[0]

    def parts(net: Any, compiled: bool) -> Any:
        def see(some: Tensor) -> Any:
            return net.get_vision_features(pixel_values=some)

        def ask(seen: Any, ids: Tensor, known: Tensor) -> Any:
            return net(vision_embeds=seen, input_ids=ids, attention_mask=known)

        made = [torch.compile(each, dynamic=False) if compiled else each for each in (see, ask)]
        return SimpleNamespace(see=made[0], ask=made[1])

    theirs = parts(model, compiled=True)

    def their() -> Any:
        with torch.autocast(pixels.device.type, torch.bfloat16):
            return call(theirs, pixels)

    def build(chosen: Any) -> Call:
        finder = ConceptFinder(deepcopy(model), texts, asking, device=given.device, options=chosen)
        frames = [Frame((side, side), (side, side), (side, side))] * given.batch
        return lambda: finder.find(pixels, frames)

    return Contest(
        lambda: call(parts(model, compiled=False), pixels),
        their,
        our_ways(given, build),
        lambda _answer: [],  # nothing passes the limit, so that pasting is not timed
        given.batch,
    )


def maskrcnn(name: str, given: argparse.Namespace) -> Contest:
    """Mask R-CNN ResNet-50; its heads have other sizes each time: theirs compiles the backbone."""
    from torchvision.models.detection.image_list import ImageList

    from bench.family_nets import CASES
    from pipeline.models.maskrcnn import _Net

    case = CASES["maskrcnn-resnet50"](given.small)
    model = case.model.eval().requires_grad_(False).to(given.device)
    pixels = noise(name, given)
    hw = (pixels.shape[2], pixels.shape[3])
    sizes = [hw] * given.batch

    def detected(backbone: Any, some: Tensor) -> Any:
        features = backbone(some)
        proposals, _ = model.rpn(ImageList(some, sizes), features)
        found, _ = model.roi_heads(features, proposals, sizes)
        return found

    compiled = torch.compile(
        deepcopy(model.backbone).to(memory_format=torch.channels_last), dynamic=False
    )
    flat = pixels.contiguous(memory_format=torch.channels_last)

    def theirs() -> Any:
        with torch.autocast(pixels.device.type, torch.bfloat16):
            return detected(compiled, flat)

    def build(chosen: Any) -> Call:
        net = _Net(deepcopy(model).to(memory_format=torch.channels_last), given.device, chosen)
        frames: Any = [SimpleNamespace(content_hw=hw)] * given.batch
        return lambda: net.look(pixels, frames)

    def answers(answer: Any) -> list[Tensor]:
        if isinstance(answer, dict):
            return [torch.stack([one.scores[:20] for one in answer["instance"]]).float()]
        return [torch.stack([one["scores"][:20] for one in answer]).float()]

    return Contest(
        lambda: detected(model.backbone, pixels), theirs, our_ways(given, build), answers,
        given.batch,
    )  # fmt: skip


CONTESTS: dict[str, Callable[[str, argparse.Namespace], Contest]] = {
    "mask2former-swin-tiny": universal,
    "mask2former-swin-large": universal,
    "oneformer-swin-large": universal,
    "segformer-b5": universal,
    "eomt-large": eomt,
    "eomt-large-unmasked": eomt,
    "grounding-dino-tiny": grounding,
    "maskrcnn-resnet50": maskrcnn,
    "owlv2-base": owlv2,
    "clipseg": clipseg,
    "sam3-1-word": sam3,
    "sam3-10-words": sam3,
}
