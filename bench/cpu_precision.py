"""bfloat16 against float32 on one core of this CPU: time, and how far the answers differ.

    python -m bench.cpu_precision [--data FOLDER]

`model.dtype = "auto"` is float32 on every CPU, so that labels do not depend on which CPU a worker
got. This shows what `model.dtype = "bfloat16"` gains where the CPU has instructions for it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import torch
import transformers as hf
from torch import Tensor

from bench.family_nets import CASES
from pipeline.models.network.forward import Forward, Function
from schemas.config.model import ModelConfig


def networks(data: Path | None) -> Iterator[tuple[str, Function, tuple[int, int]]]:
    """(name, function, size of the input) of some networks; with real weights where there are."""
    segformer = hf.SegformerForSemanticSegmentation(hf.SegformerConfig(num_labels=150)).eval()
    yield "SegFormer-B0, random", lambda x: (segformer(x).logits,), (512, 512)
    universal = CASES["mask2former-swin-tiny"](False).model.eval()
    yield "Mask2Former Swin-T, random", lambda x: (universal(x).masks_queries_logits,), (384, 512)
    if data is not None:
        folder = data / "weights" / "deeplabv3-mobilenetv2-1.0-voc"
        deeplab = hf.AutoModelForSemanticSegmentation.from_pretrained(folder).eval()
        yield "DeepLabV3 MobileNetV2, VOC", lambda x: (deeplab(x).logits,), (513, 513)


def timed(function: Function, pixels: Tensor, dtype: str) -> tuple[float, Tensor]:
    """(best processor seconds of three, answer)."""
    forward = Forward(function, device="cpu", options=ModelConfig(name="x", dtype=dtype))
    (answer,) = forward(pixels)
    seconds: list[float] = []
    for _ in range(3):
        start = time.process_time()
        forward(pixels)
        seconds.append(time.process_time() - start)
    return min(seconds), answer


def main() -> None:
    """Prints a line a network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the shared test data")
    data = parser.parse_args().data
    torch.set_num_threads(1)
    names = ("amx_tile", "avx512_bf16")
    able = [name for name in names if getattr(torch.cpu, f"_is_{name}_supported", bool)()]
    print(f"instructions for bfloat16: {', '.join(able) or 'none'}")
    print("| network | float32 s | bfloat16 s | gain | same best category or sign |")
    print("|---|---|---|---|---|")
    for name, function, hw in networks(data):
        pixels = torch.rand(1, 3, *hw, generator=torch.Generator().manual_seed(0)) * 2 - 1
        slow, exact = timed(function, pixels, "float32")
        fast, rough = timed(function, pixels, "bfloat16")
        universal = "Mask2Former" in name
        same = (exact > 0) == (rough > 0) if universal else exact.argmax(1) == rough.argmax(1)
        share = float(same.float().mean())
        print(f"| {name} | {slow:.3f} | {fast:.3f} | {slow / fast:.2f}× | {share:.4f} |")


if __name__ == "__main__":
    main()
