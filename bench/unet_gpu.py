"""unet-nuclei end to end, 256×256: images a second with 1, 2, 4 and 8 workers on one GPU.

    python -m bench.unet_gpu                                # about two minutes
    python -m bench.unet_gpu --device cpu --images 48       # two CPU workers, a smoke test

JPEG fields through `label` on one local Ray: read, decode, segment, Parquet, receipts, manifest.
The last row is what the program chooses by itself, which takes more pictures to pay. Rates are of
the steady part, and CPU milliseconds are those of the whole machine in it, a picture.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from bench.fields import draw_fields
from bench.pipeline_gpu import WARM, Clock
from bench.two_gpus import first
from pipeline.engine import run
from pipeline.engine.progress import RunProgress
from schemas.config.job import JobConfig

SHARES: tuple[float | None, ...] = (1.0, 0.5, 0.25, 0.125, None)


class Watch(RunProgress):
    """Keeps what was done when, and the processors' time until then."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.busy: list[float] = []

    def advance(self, *, images: int, failed: int) -> None:
        """A shard is done."""
        super().advance(images=images, failed=failed)
        self.clock.add(self.done)
        self.busy.append(processor_seconds())

    def figures(self, total: int) -> tuple[float, float]:
        """Images a second, and CPU seconds a picture, of the steady part."""
        steady = [i for i, event in enumerate(self.clock.events) if event[1] >= WARM * total]
        pictures = self.clock.events[-1][1] - self.clock.events[steady[0]][1]
        return self.clock.rate(total), (self.busy[-1] - self.busy[steady[0]]) / pictures


def processor_seconds() -> float:
    """Of all processors of the machine since it started, but idle and waiting ones."""
    ticks = Path("/proc/stat").read_text().split(maxsplit=11)[1:9]
    user, nice, system, _idle, _wait, *others = map(int, ticks)
    return (user + nice + system + sum(others)) / os.sysconf("SC_CLK_TCK")


def measured(folder: Path, out: Path, device: str, share: float | None) -> str:
    """A row of the table."""
    execution: dict[str, Any] = {"engine": "ray", "shard_size": 64 if device == "cuda" else 8}
    if device == "cuda" and share is not None:
        execution["gpus_per_worker"] = share
    config = JobConfig.parse(
        {
            "input": {"uri": str(folder)},
            "output": str(out),
            "model": {"name": "unet-nuclei", "device": device},
            "task": "instance",
            "execution": execution,
        }
    )
    shutil.rmtree(out, ignore_errors=True)
    watch, started = Watch(), time.monotonic()
    result = run.label(config, progress=watch, export=False, report=False)
    total = result.manifest.counts["images"]
    images, cpu = watch.figures(total)
    name = "chosen by itself" if share is None else f"{1 / share:.0f}"
    took = time.monotonic() - started
    return f"| {name} | {images:.0f} | {1000 * cpu:.1f} | {result.time} | {took:.0f} s |"


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--chosen", type=int, default=12000, help="pictures of the last row")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda")
    given = parser.parse_args()
    import ray

    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    print("| workers | images/s | CPU ms a picture | workers' time | whole run |")
    print("|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as root:
        whole = draw_fields(Path(root) / "fields", max(given.images, given.chosen))
        ray.init(address="local", include_dashboard=False, log_to_driver=False)
        run.ray_session = lambda _options: nullcontext()  # all rows on the Ray that is there
        try:
            for share in SHARES if given.device == "cuda" else SHARES[-1:]:
                try:
                    folder = first(whole, given.images if share else given.chosen)
                    print(measured(folder, Path(root) / "out", given.device, share), flush=True)
                except Exception as error:
                    print(f"| {share} | FAILED | {type(error).__name__}: {error} | | |", flush=True)
        finally:
            ray.shutdown()


if __name__ == "__main__":
    main()
