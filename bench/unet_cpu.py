"""unet-nuclei on one core: forward pass and decoding apart, against the bare net.

python -m bench.unet_cpu
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from examples.simulate import render_field
from pipeline.models.checkpoints.info import describe
from pipeline.models.nuclei.decode import Decoding, decode_nuclei
from pipeline.models.nuclei.net import load_unet
from pipeline.models.nuclei.predict import predict_maps
from pipeline.models.unet import UNetSegmenter
from schemas.config.model import ModelConfig
from schemas.records import ImageRecord, Sample


def main() -> None:
    """Prints medians of CPU milliseconds and the ratio to the bare net."""
    torch.set_num_threads(1)
    info = describe("unet-nuclei")
    net = load_unet(Path(info.folder), info.config).fused()
    model = UNetSegmenter(info, ModelConfig(name="unet-nuclei"), ("instance",))
    model.load("cpu")
    for side in (256, 512):
        field = render_field(0, size_hw=(side, side), nuclei=side * side // 2000)
        pixels = np.repeat(field.pixels.astype(np.uint8)[..., None], 3, 2)
        x = torch.randn(1, 6, side, side).contiguous(memory_format=torch.channels_last)
        sample = Sample(ImageRecord("bench", "bench"), pixels, pixels.shape[:2])
        maps = predict_maps(net, pixels, "cpu")
        decoding = Decoding(**info.config["postprocess"])
        found = int(decode_nuclei(maps, decoding)[0].max())
        with torch.inference_mode():
            bare = median_ms(lambda x=x: net(x))
        forward = median_ms(lambda p=pixels: predict_maps(net, p, "cpu"))
        decode = median_ms(lambda m=maps, d=decoding: decode_nuclei(m, d))
        whole = median_ms(lambda s=sample: model.segment([s]))
        print(
            f"{side}x{side}, {found} nuclei: bare net {bare:.0f} ms, with normalising {forward:.0f}"
            f" ms, decoding {decode:.1f} ms, segment() {whole:.0f} ms, ratio {whole / bare:.2f}"
        )


def median_ms(work: Callable[[], object], rounds: int = 15) -> float:
    """Median CPU time of one call, milliseconds."""
    work()
    times = []
    for _ in range(rounds):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times) * 1e3


if __name__ == "__main__":
    main()
