"""Images/s of a whole run against a bare loop over the same model, and against Ray Data.

    python -m bench.pipeline [--model unet-nuclei] [--images 200] [--peer loop|raydata]
    python -m bench.pipeline --device cuda [--images 2500]     # see bench/pipeline_gpu.py

Both sides read the same JPEGs, decode with the same function and call the same segmenter; a run
also writes Parquet, receipts and a manifest, Ray Data writes Parquet, the loop writes nothing.
The rate is marginal: 3N / (time of 4N images − time of N images), so that start-up drops out; the
whole time of 4N images is printed beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.fields import write_fields
from bench.pipeline_gpu import KINDS, step, table


def segmenter(model: str) -> Any:
    """The model that a worker would load."""
    from pipeline.models.checkpoints.families import segmenter_class
    from pipeline.models.checkpoints.info import describe
    from schemas.config.model import ModelConfig

    info = describe(model)
    built = segmenter_class(info.family)(info, ModelConfig(name=model), ("instance",))
    built.load("cpu")
    return built


def loop(model: str, folder: Path, out: Path) -> float:
    """The least that anybody would write: read, decode, segment, keep."""
    from pipeline.images.decode import decode_image
    from schemas.config.job import ImagesConfig
    from schemas.records import ImageRecord, Sample

    started = time.monotonic()
    built = segmenter(model)
    kept = []
    for path in sorted(folder.iterdir()):
        sample = decode_image(path.read_bytes(), ImageRecord(path.name, str(path)), ImagesConfig())
        if isinstance(sample, Sample):
            kept += built.segment([sample])
    return time.monotonic() - started


def ours(model: str, folder: Path, out: Path) -> float:
    """A run of this program on a local Ray cluster."""
    from pipeline.engine.run import label
    from schemas.config.job import JobConfig

    started = time.monotonic()
    data = {"input": {"uri": str(folder)}, "output": str(out), "model": {"name": model}}
    label(JobConfig.parse({**data, "task": "instance"}), export=False, report=False)
    return time.monotonic() - started


def raydata(model: str, folder: Path, out: Path) -> float:
    """The same work as a Ray Data pipeline: read, decode, an actor pool, Parquet."""
    started = time.monotonic()
    import ray

    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False

    def decode(row: dict[str, Any]) -> dict[str, Any]:
        from pipeline.images.decode import decode_image
        from schemas.config.job import ImagesConfig
        from schemas.records import ImageRecord, Sample

        sample = decode_image(row["bytes"], ImageRecord(row["path"], row["path"]), ImagesConfig())
        if not isinstance(sample, Sample):
            raise ValueError(row["path"])
        return {"path": row["path"], "pixels": sample.pixels}

    class Label:
        def __init__(self) -> None:
            self.built = segmenter(model)

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            from schemas.records import ImageRecord, Sample

            rows: dict[str, list[Any]] = {"path": [], "counts": [], "area": [], "score": []}
            for path, pixels in zip(batch["path"], batch["pixels"], strict=True):
                sample = Sample(ImageRecord(path, path), pixels, pixels.shape[:2])
                for segment in self.built.segment([sample])[0].segments:
                    rows["path"].append(path)
                    rows["counts"].append(segment.counts.decode())
                    rows["area"].append(segment.area)
                    rows["score"].append(segment.score)
            return rows

    (
        ray.data.read_binary_files(str(folder), include_paths=True)
        .map(decode)
        .map_batches(Label, batch_size=8, concurrency=1, num_cpus=1)
        .write_parquet(str(out))
    )
    took = time.monotonic() - started
    ray.shutdown()
    return took


def timed(peer: str, model: str, folder: Path, out: Path) -> float:
    """One side in a process of its own, so that nothing is warm."""
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-m", "bench.pipeline", "--one", peer, str(folder), str(out)]
    done = subprocess.run(
        [*command, "--model", model], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return float(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="unet-nuclei")
    parser.add_argument("--images", type=int)
    parser.add_argument("--peer", choices=("loop", "raydata"), default="loop")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    several = parser.add_argument_group("the table of bench/pipeline_gpu.py")
    several.add_argument("--table", action="store_true", help="also on a CPU")
    several.add_argument("--kinds", default=",".join(KINDS), help="some of them, comma separated")
    several.add_argument("--seconds", type=float, default=270, help="nothing is begun after that")
    several.add_argument("--small", action="store_true", help="tiny networks and pictures")
    several.add_argument("--large", action="store_true", help="pictures of 2250 × 1500")
    several.add_argument("--work", type=Path, help="keeps pictures and checkpoints there")
    several.add_argument("--gpus-per-worker", type=float)
    several.add_argument("--kind", help=argparse.SUPPRESS)
    several.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.table or options.device == "cuda":
        options.images = options.images or (160 if options.small else 2500)
        (step if options.side else table)(options)
        return
    options.images = options.images or 120
    if options.one:
        name, folder, out = options.one
        print(json.dumps(globals()[name](options.model, Path(folder), Path(out))))
        return
    with tempfile.TemporaryDirectory() as root:
        counts = (options.images, 4 * options.images)
        for count in counts:
            write_fields(Path(root) / f"in{count}", count)
        rates = {}
        for side in (options.peer, "ours"):
            few, many = (
                timed(side, options.model, Path(root) / f"in{n}", Path(root) / f"{side}{n}")
                for n in counts
            )
            rates[side] = 3 * options.images / max(many - few, 1e-9)
            print(f"{side:8} {rates[side]:8.1f} images/s marginal, {counts[1]} in {many:.1f} s")
        print(f"ratio ours / {options.peer}: {rates['ours'] / rates[options.peer]:.2f}")


if __name__ == "__main__":
    main()
