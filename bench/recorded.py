"""Recorded answers for networks of random weights, in every process that labels with one.

A random network finds nothing, and finding nothing is cheap. Here each real forward pass of a whole
run is followed by the answer of `bench.family_nets` or, for SAM, of `bench.sam_everything`.
"""

from __future__ import annotations

from typing import Any

from pipeline.engine import execute

HW = (480, 640)
"""Shape of the pictures that SAM's recorded blobs are laid out for."""


def record_answers() -> None:
    """From now on the models that this process loads answer what is recorded."""
    from bench.family_nets import Recorded
    from bench.sam_everything import Recorded as Blobs
    from bench.sam_everything import RecordedDecoder
    from pipeline.models import sam
    from pipeline.models.network.segmenter import TorchSegmenter

    start, load = TorchSegmenter.start, sam.load_sam

    def started(self: Any, device: str, build: Any) -> None:
        start(self, device, lambda where: Recorded(build(where)))

    def loaded(checkpoint: Any, options: Any, device: str, *, reference: bool = False) -> Any:
        net = load(checkpoint, options, device, reference=reference)
        blobs = Blobs(HW, net.side // 4, device)
        net.fast = RecordedDecoder(net.fast, blobs)  # pyright: ignore
        return net

    TorchSegmenter.start = started
    sam.load_sam = loaded


class RecordedActor(execute._Actor):
    """A worker of Ray whose model answers what is recorded."""

    def ready(self) -> tuple[str, str]:
        """As of a worker."""
        record_answers()
        return super().ready()
