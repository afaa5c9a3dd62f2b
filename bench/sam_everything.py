"""SAM "everything" on pictures of 1024×768: ours against its makers' generator and transformers'.

    python -m bench.sam_everything                         # cuda: ViT-H, about 2 minutes
    python -m bench.sam_everything --device cpu --small    # tiny networks, a smoke test

Peers, a picture at a time in float32 as shipped: `SamAutomaticMaskGenerator` of segment-anything
(run lengths out) and transformers' `mask-generation` pipeline (arrays out). Ours: the fast mode in
the device's precision and the reference mode in float32, run lengths out. All have the default
grid of 32×32 points, 64 a batch for the peers, and the default thresholds.

Networks have published sizes and random weights, which find nothing. So after each real forward
pass everybody goes on with the same recorded answer: about a hundred blobs, three alternatives a
point, of which a quarter is sure enough.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import transformers as hf
from segment_anything import SamAutomaticMaskGenerator
from torch import Tensor

from bench.text_nets import package_sam, sam_rule
from pipeline.models.network.fit import Fitter
from pipeline.models.sam_core.everything import Everything
from pipeline.models.sam_core.grid import grid
from pipeline.models.sam_core.net import PackageSam, inference
from schemas.config.prompts import EverythingConfig
from schemas.records import ImageRecord, Sample

SIDE = 32
"""Points a side."""

Work = Callable[[], int]
"""Labels some pictures; how many masks there were."""


class Recorded:
    """What all decoders answer: blobs, from point to point of the grid.

    Args:
        hw: Of the picture.
        small_side: Of its mask logits.
        device: Where the answers lie.
    """

    def __init__(self, hw: tuple[int, int], small_side: int, device: str) -> None:
        generator = torch.Generator().manual_seed(0)
        points = torch.tensor(grid(SIDE), dtype=torch.float32)
        # A disturbed lattice of 10×10 discs; each point asks for the one that is nearest to it.
        centres = torch.tensor(grid(10), dtype=torch.float32)
        centres += (torch.rand(centres.shape, generator=generator) - 0.5) * 0.03
        radii = 0.022 + 0.02 * torch.rand(len(centres), generator=generator)
        distance = torch.cdist(points, centres)
        nearest = distance.argmin(1)
        inside = distance.gather(1, nearest[:, None])[:, 0] < radii[nearest]
        chance = torch.rand((len(points), 3), generator=generator)
        sure = inside[:, None] & (chance < torch.tensor([0.5, 0.95, 0.5]))
        self.quality = torch.where(sure, 0.9 + 0.1 * chance, 0.3 + 0.5 * chance).to(device)
        # The longer side of the picture fills the network's square.
        extent = torch.tensor([hw[1], hw[0]]) * (small_side / max(hw))
        at = (centres * extent).to(device)[nearest]
        size = (radii * extent.min()).to(device)[nearest]
        size = size[:, None] * torch.tensor([0.9, 1.0, 1.08], device=device)
        line = torch.arange(small_side, device=device) + 0.5
        x, y = (line - at[:, :1]) ** 2, (line - at[:, 1:]) ** 2
        away = (x[:, None, :] + y[:, :, None]).sqrt()
        self.logits = torch.empty((len(points), 3, small_side, small_side), device=device)
        for place in range(3):
            self.logits[:, place] = ((size[:, place, None, None] - away) * 30).clamp(-20, 20)
        self._next = 0

    def following(self, count: int) -> slice:
        """The next so many points; after the last comes the first."""
        first = self._next % len(self.quality)
        self._next = first + count
        return slice(first, first + count)


class RecordedDecoder:
    """Our fast decoder with recorded answers after the real ones.

    Args:
        inner: The real one.
        recorded: What it answers.
    """

    def __init__(self, inner: Any, recorded: Recorded) -> None:
        self._inner, self._recorded = inner, recorded
        self._logits: Tensor | None = None

    def decode(self, picture: Any, prompts: Tensor) -> Any:
        """The unused estimate of the single mask says which point a row is of."""
        decoded = self._inner.decode(picture, prompts)
        which = self._recorded.following(len(prompts))
        number = torch.arange(which.start, which.stop, device=prompts.device)[:, None]
        quality = torch.cat((number.float(), self._recorded.quality[which]), 1)
        return replace(decoded, predicted_iou=quality)

    def masks(self, picture: Any, decoded: Any, wanted: Tensor) -> Tensor:
        """Blobs."""
        real = self._inner.masks(picture, decoded, wanted)
        rows = decoded.predicted_iou[:, 0].long()
        if self._logits is None or self._logits.dtype != real.dtype:
            self._logits = self._recorded.logits.to(real.dtype)
        return self._logits[rows[:, None], (wanted - 1).to(rows.device)]


def record_forward(decoder: Any, recorded: Recorded) -> None:
    """Puts recorded answers behind a decoder's own forward pass (the package's, transformers')."""
    forward = decoder.forward

    def answered(*given: Any, **named: Any) -> tuple[Any, ...]:
        masks, quality, *more = forward(*given, **named)
        which = recorded.following(quality.numel() // 3)
        return (
            recorded.logits[which].reshape(masks.shape).to(masks.dtype),
            recorded.quality[which].reshape(quality.shape),
            *more,
        )

    decoder.forward = answered


def main() -> None:
    """Prints seconds a picture and ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--small", action="store_true", help="tiny networks and pictures")
    parser.add_argument("--pictures", type=int, default=4, help="of ours; encoded together")
    parser.add_argument("--rounds", type=int, default=3, help="of ours; the best counts")
    given = parser.parse_args()
    where = torch.cuda.get_device_name() if given.device != "cpu" else "cpu"
    print(f"torch {torch.__version__}, transformers {hf.__version__} on {where}")
    hw = (48, 64) if given.small else (768, 1024)
    recorded = Recorded(hw, 32 if given.small else 256, given.device)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (*hw, 3), np.uint8) for _ in range(given.pictures)]
    torch.manual_seed(0)
    kind = "small" if given.small else "vit_h"
    fast = torch.float32 if given.device == "cpu" else torch.float16  # as `load_sam` takes it
    rows: list[tuple[str, Callable[[], Work], int, int]] = [
        (
            f"ours, fast, {str(fast).removeprefix('torch.')}, {given.pictures} at a time",
            lambda: ours(kind, pictures, recorded, given.device, fast),
            len(pictures),
            given.rounds,
        ),
        (
            "ours, fast, compiled",
            lambda: ours(kind, pictures, recorded, given.device, fast, compiled=True),
            len(pictures),
            given.rounds,
        ),
        (
            "ours, fast, one at a time",
            lambda: ours(kind, pictures[:1], recorded, given.device, fast),
            1,
            given.rounds,
        ),
        (
            "ours, reference, float32",
            lambda: ours(kind, pictures[:1], recorded, given.device, None),
            1,
            1,
        ),
        (
            "segment-anything, float32",
            lambda: the_package_s(kind, pictures[0], recorded, given.device),
            1,
            1,
        ),
        (
            "transformers, float32",
            lambda: transformers_s(pictures[0], recorded, given.device, small=given.small),
            1,
            1,
        ),
    ]
    print("| path | s a picture | masks a picture | against our fast mode |")
    print("|---|---|---|---|", flush=True)
    first = None
    for name, build, count, rounds in rows:
        seconds, masks = measure(build(), rounds, given.device)
        first = first or seconds / count
        ratio = seconds / count / first
        print(
            f"| {name} | {seconds / count:.3f} | {masks / count:.0f} | {ratio:.1f}× |", flush=True
        )
        gc.collect()
        if given.device != "cpu":
            torch.cuda.empty_cache()


def measure(work: Work, rounds: int, device: str) -> tuple[float, int]:
    """Best seconds, after one round to warm up; and masks."""
    best, masks = float("inf"), 0
    for number in range(rounds + 1):
        start = time.perf_counter()
        masks = work()
        if device != "cpu":
            torch.cuda.synchronize()
        if number:
            best = min(best, time.perf_counter() - start)
    return best, masks


def ours(
    kind: str,
    pictures: list[np.ndarray],
    recorded: Recorded,
    device: str,
    fast: Any,
    *,
    compiled: bool = False,
) -> Work:
    """The path of the family `sam`; `fast` is its precision, None for the reference mode."""
    model = random_package_sam(kind, device, fast or torch.float32)
    net = PackageSam(model, reference=fast is None, compiled=compiled)
    if fast is None:
        record_forward(model.mask_decoder, recorded)
    else:
        net.fast = RecordedDecoder(net.fast, recorded)  # pyright: ignore
    fitter = Fitter(sam_rule(net.side), device)
    config = EverythingConfig(points_per_side=SIDE, reference=fast is None)
    everything = Everything(net, fitter, config, two_steps=True)
    samples = [Sample(ImageRecord("", ""), pixels, pixels.shape[:2]) for pixels in pictures]

    def work() -> int:
        with torch.inference_mode():
            pixels, _ = fitter.batch(samples)
            encoded = net.encode(pixels.to(net.dtype))
            return sum(
                len(everything.segments(sample, category_id=1, whole=each))
                for sample, each in zip(samples, encoded, strict=True)
            )

    return work


def random_package_sam(kind: str, device: str, dtype: torch.dtype) -> Any:
    """Drawn on the device: a CPU takes long for so many weights."""
    with torch.device(device):
        return inference(package_sam(kind), device, dtype)


def the_package_s(kind: str, pixels: np.ndarray, recorded: Recorded, device: str) -> Work:
    """`SamAutomaticMaskGenerator` as shipped."""
    model = random_package_sam(kind, device, torch.float32)
    record_forward(model.mask_decoder, recorded)
    generator = SamAutomaticMaskGenerator(model, points_per_side=SIDE, output_mode="coco_rle")
    return lambda: len(generator.generate(pixels))


def transformers_s(pixels: np.ndarray, recorded: Recorded, device: str, *, small: bool) -> Work:
    """The `mask-generation` pipeline as shipped."""
    from PIL import Image

    if small:
        size = {"longest_edge": 64}
        processor = hf.SamImageProcessor(size=size, pad_size={"height": 64, "width": 64})
        config = hf.SamConfig(
            vision_config={
                "hidden_size": 32, "output_channels": 32, "num_hidden_layers": 1,
                "num_attention_heads": 2, "image_size": 64, "patch_size": 8, "window_size": 4,
                "global_attn_indexes": [0], "mlp_dim": 32, "num_pos_feats": 16,
            },
            prompt_encoder_config={"hidden_size": 32, "image_size": 64, "patch_size": 8},
            mask_decoder_config={"hidden_size": 32, "mlp_dim": 32, "num_attention_heads": 2,
                                 "iou_head_hidden_dim": 32},
        )  # fmt: skip
    else:
        processor = hf.SamImageProcessor()
        config = hf.SamConfig(
            vision_config={
                "hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16,
                "global_attn_indexes": [7, 15, 23, 31], "mlp_dim": 5120,
            }
        )  # fmt: skip
    with torch.device(device):
        model = inference(hf.SamModel(config), device, torch.float32)
    record_forward(model.mask_decoder, recorded)
    generate = hf.pipeline(
        "mask-generation", model=model, image_processor=processor, device=torch.device(device)
    )
    picture = Image.fromarray(pixels)
    return lambda: len(generate(picture, points_per_batch=64)["masks"])


if __name__ == "__main__":
    main()
