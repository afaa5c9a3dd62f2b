"""Whole families at their real sizes: pictures to segments, ours against the library's own loop.

    python -m bench.families --device cuda                    # random weights, about 8 minutes
    python -m bench.families --device cpu --small             # tiny networks, a smoke test
    python -m bench.families --contract                       # tiny checkpoints, GPU against CPU

Ours: 8-bit pixels in, segments with COCO's run lengths out. Theirs: their image processor on the
same device, their network under the same autocast, plain and compiled, their post-processing, and
the map copied to the host: no run lengths. Both get the same recorded answer after the forward pass
(see bench/family_nets.py).
"""

from __future__ import annotations

import argparse
import gc
import os
import time
import traceback
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.family_nets import CASES, Case, Recorded, blobs, field, info_of
from pipeline.models.checkpoints.hf_preprocessor import read_fit_rule
from pipeline.models.grids.geometry import Padding
from pipeline.models.mask2former import mask2former_net
from pipeline.models.network.forward import precision
from pipeline.models.network.segmenter import TorchSegmenter
from pipeline.models.oneformer import OneFormerNet
from pipeline.models.semantic import SemanticNet
from schemas.config.model import ModelConfig
from schemas.records import ImageRecord, Sample

SWITCH = "TRANSFORMERS_DISABLE_TORCH_CHECK"
"""What our loading of a checkpoint sets, and the library by itself does not."""

Work = Callable[[], int]
"""Does some pictures and says how many."""


def main() -> None:
    """Prints images a second and ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="tiny networks and pictures")
    parser.add_argument("--contract", action="store_true", help="tiny checkpoints, GPU against CPU")
    parser.add_argument("--models", default=",".join(CASES), help="some of them, comma separated")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=8, help="nothing is begun after that")
    parser.add_argument("--no-compile", action="store_true", help="leave out torch.compile")
    given = parser.parse_args()
    if given.contract:
        from bench.family_contract import contract

        contract(given.device)
        return
    where = torch.cuda.get_device_name() if given.device != "cpu" else "cpu"
    print(f"torch {torch.__version__} on {where}, batches of {given.batch}")
    print("| model | path | images/s | forward alone | ours / theirs |")
    print("|---|---|---|---|---|", flush=True)
    over = time.monotonic() + 60 * given.minutes
    for name in given.models.split(","):
        try:
            for line in rows(name, given, over):
                print(f"| {name} {line}", flush=True)
        except Exception as error:
            traceback.print_exc(limit=-4)
            print(f"| {name} | failed: {type(error).__name__}: {error} |", flush=True)
        gc.collect()
        torch._dynamo.reset()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def rows(name: str, given: argparse.Namespace, over: float) -> Iterator[str]:
    """The lines of one model: first as it is, then compiled."""
    torch.manual_seed(0)  # a random Mask R-CNN of another seed may find nothing
    case = CASES[name](given.small)
    case.model.eval().requires_grad_(False).to(given.device)
    hw = (120, 160) if given.small else (480, 640)
    pictures = [picture(hw, seed) for seed in range(given.batch)]
    for compiled in (False, True):
        if compiled and (given.no_compile or time.monotonic() > over):
            yield "| compiled | left out | | |"
            return
        way = "compiled" if compiled else "plain"
        limit = 1.0 if given.small else 4.0
        os.environ.pop(SWITCH, None)
        case.model.to(memory_format=torch.contiguous_format)
        theirs = [rate(work, limit) for work in their_work(case, given, pictures, compiled)]
        yield f"| theirs, {way} | {theirs[0]:.2f} | {theirs[1]:.2f} | |"
        os.environ[SWITCH] = "1"
        case.model.to(memory_format=torch.channels_last)
        ours = [rate(work, limit) for work in our_work(case, given, pictures, compiled)]
        yield (
            f"| ours, {way} | {ours[0]:.2f} | {ours[1]:.2f} | {ours[0] / theirs[0]:.2f}×, "
            f"forward {ours[1] / theirs[1]:.2f}× |"
        )


def rate(work: Work, seconds: float) -> float:
    """Pictures a second, after two rounds to warm up (and to compile)."""
    for _ in range(2):
        work()
    synchronise()
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        done += work()
        synchronise()
    return done / (time.perf_counter() - start)


def synchronise() -> None:
    """Waits for the GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def picture(hw: tuple[int, int], seed: int) -> np.ndarray:
    """HWC uint8 noise: what it shows matters to no clock."""
    return np.random.default_rng(seed).integers(0, 256, (*hw, 3), np.uint8)


def our_work(
    case: Case, given: argparse.Namespace, pictures: list[np.ndarray], compiled: bool
) -> tuple[Work, Work]:
    """Our whole path, and its forward pass alone."""
    options = ModelConfig(
        name="bench", batch_size=given.batch, compile=compiled, device=given.device
    )
    net, rule = our_net(case, given.device, options)
    segmenter = TorchSegmenter(info_of(case), options, (case.task,), rule=rule)
    segmenter.start(given.device, lambda _device: Recorded(net))
    samples = [Sample(ImageRecord(str(i), ""), p, p.shape[:2]) for i, p in enumerate(pictures)]
    window = samples * (1 if given.device == "cpu" else 4)
    pixels, frames = segmenter.fitter.batch(samples)

    def whole() -> int:
        found = segmenter.segment(window)
        if any(one.failure or not one.segments for one in found):
            raise ValueError(f"nothing was found: {found[0].failure}")
        return len(found)

    def forward() -> int:
        with torch.inference_mode():
            net.look(pixels, frames)
        return len(samples)

    return whole, forward


def our_net(case: Case, device: str, options: ModelConfig) -> tuple[Any, Any]:
    """Our side of a network, and how pictures go in."""
    if case.processor is None:
        from pipeline.models.checkpoints.torchvision_files import torchvision_input_rule
        from pipeline.models.maskrcnn import _Net

        short, long = case.model.transform.min_size[0], case.model.transform.max_size
        sides = {"shortest_edge": short, "longest_edge": long}
        return (
            _Net(case.model, device, options),
            torchvision_input_rule({"family": "maskrcnn", "input": sides}),
        )
    rule = read_fit_rule(case.processor.to_dict())
    if hasattr(case.model, "model") and hasattr(case.model.model, "task_encoder"):
        tokens = torch.randint(0, 400, (1, 77), device=device).float()
        rule = replace(rule, padding=Padding(divisor=4))  # as the family has it
        return OneFormerNet(deepcopy(case.model.model), tokens, (case.task,), options), rule
    if case.task == "semantic":
        return SemanticNet(case.model, device, options), rule
    return mask2former_net(deepcopy(case.model), device=device, options=options), rule


def their_work(
    case: Case, given: argparse.Namespace, pictures: list[np.ndarray], compiled: bool
) -> tuple[Work, Work]:
    """The library's own loop, and its forward pass alone."""
    model = torch.compile(case.model, dynamic=False) if compiled else case.model
    dtype = precision("auto", given.device)
    autocast = torch.autocast(given.device, dtype=dtype, enabled=dtype != torch.float32)
    batch = 1 if given.device == "cpu" else len(pictures)
    loop = _torchvision if case.processor is None else _transformers
    whole, forward = loop(case, model, given.device, batch)

    def run(one: Callable[[list[np.ndarray]], None]) -> Work:
        def work() -> int:
            with torch.inference_mode(), autocast:
                for start in range(0, len(pictures), batch):
                    one(pictures[start : start + batch])
            return len(pictures)

        return work

    return run(whole), run(forward)


Loop = Callable[[list[np.ndarray]], None]


def _transformers(case: Case, model: Any, device: str, batch: int) -> tuple[Loop, Loop]:
    tokens = torch.randint(0, 400, (batch, 77), device=device)
    universal = case.task == "panoptic"
    takes_task = universal and hasattr(case.model.model, "task_encoder")
    extra = {"task_inputs": tokens} if takes_task else {}

    def inputs(some: list[np.ndarray]) -> Tensor:
        task = {"task_inputs": ["panoptic"] * len(some)} if takes_task else {}
        given = case.processor(
            some, return_tensors="pt", device=device, input_data_format="channels_last", **task
        )
        return given["pixel_values"].to(device)

    def whole(some: list[np.ndarray]) -> None:
        answer = model(inputs(some), **extra)
        sizes = [each.shape[:2] for each in some]
        if not universal:
            hw = tuple(answer.logits.shape[-2:])
            answer.logits = _batch(field(case.outputs, hw, device), answer.logits)
            for found in case.processor.post_process_semantic_segmentation(answer, sizes):
                found.cpu()
            return
        classes, masks = answer.class_queries_logits, answer.masks_queries_logits
        recorded = blobs(masks.shape[1], case.outputs, tuple(masks.shape[-2:]), device)
        answer.class_queries_logits = _batch(recorded[0], classes)
        answer.masks_queries_logits = _batch(recorded[1], masks)
        stuff = set(range(case.things, case.outputs))
        for found in case.processor.post_process_panoptic_segmentation(
            answer, target_sizes=sizes, label_ids_to_fuse=stuff
        ):
            found["segmentation"].cpu()

    prepared: list[Tensor] = []

    def forward(some: list[np.ndarray]) -> None:
        if not prepared:
            prepared.append(inputs(some))
        model(prepared[0], **extra)

    return whole, forward


def _batch(recorded: Tensor, real: Tensor) -> Tensor:
    return recorded.to(real.dtype).expand(len(real), *recorded.shape).contiguous()


def _torchvision(case: Case, model: Any, device: str, batch: int) -> tuple[Loop, Loop]:
    def whole(some: list[np.ndarray]) -> None:
        images = [torch.from_numpy(each).to(device).permute(2, 0, 1) / 255 for each in some]
        for found in model(images):
            (found["masks"] > 0.5).cpu()

    def forward(some: list[np.ndarray]) -> None:
        images = [torch.from_numpy(each).to(device).permute(2, 0, 1) / 255 for each in some]
        inputs, _ = case.model.transform(images)
        features = case.model.backbone(inputs.tensors)
        proposals, _ = case.model.rpn(inputs, features)
        case.model.roi_heads(features, proposals, inputs.image_sizes)

    return whole, forward


if __name__ == "__main__":
    main()
