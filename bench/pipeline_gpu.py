"""Whole runs on a GPU: ours against the bare network, transformers' pipeline and Ray Data.

    python -m bench.pipeline --device cuda                    # about four minutes
    python -m bench.pipeline --device cpu --small --table     # tiny networks, a smoke test

Networks have published sizes and random weights; after each real forward pass everybody goes on
with the same recorded answer (`bench.recorded`). unet-nuclei is the real one. Each side is a
process of its own with a time limit; one that fails leaves the others. A rate is that of the
steady part: from the first fifth of the pictures to the end, so that start-up drops out.

`network` is the forward pass alone on a batch that lies on the device, `segment` our segmenter on
pictures that lie in memory: both in one process, with nothing read or written.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.fields import draw_fields
from bench.two_gpus import draw_pictures, first, write_checkpoint

WARM = 0.2
"""Share of the pictures after which a rate begins."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What is labelled.

    Attributes:
        task: What is asked.
        images: Pictures of a run of ours, as a share of `--images`.
        peer: Pictures of transformers' pipeline, which is slower.
        sides: Who takes part, the most telling first.
    """

    task: str
    images: float
    peer: int
    sides: tuple[str, ...]


_ALL = ("bare", "ours", "transformers")
KINDS = {
    "mask2former-swin-tiny": Kind("panoptic", 1.0, 160, (*_ALL, "raydata")),
    "unet-nuclei": Kind("instance", 5.0, 0, ("bare", "ours", "raydata")),
    "mask2former-swin-large": Kind("panoptic", 0.5, 96, _ALL),
    "sam": Kind("instance", 0.1, 8, _ALL),
}


class Clock:
    """When how many pictures were done."""

    def __init__(self) -> None:
        self.events: list[tuple[float, int]] = []

    def add(self, done: int) -> None:
        """So many are done now."""
        self.events.append((time.time(), done))

    def rate(self, total: int) -> float:
        """Images a second of the steady part.

        Raises:
            ValueError: Too little happened to tell.
        """
        steady = [event for event in self.events if event[1] >= WARM * total]
        if len(steady) < 2 or steady[-1][0] == steady[0][0]:
            raise ValueError(f"{len(self.events)} steps are too few for a rate")
        return (steady[-1][1] - steady[0][1]) / (steady[-1][0] - steady[0][0])


def job(given: argparse.Namespace, **execution: Any) -> Any:
    """The config that all sides take their network from."""
    from schemas.config.job import JobConfig

    return JobConfig.parse(
        {
            "input": {"uri": str(given.folder)},
            "output": str(given.work / "out"),
            "model": {"name": given.checkpoint, "device": given.device, "batch_size": 8},
            "task": KINDS[given.kind].task,
            "execution": {"shard_size": 8 if given.small else 64, **execution},
        }
    )


def segmenter(given: argparse.Namespace) -> Any:
    """The model that a worker would load."""
    from bench.recorded import record_answers
    from pipeline.engine.resolve import resolve_model
    from pipeline.engine.worker import load_model
    from pipeline.storage.storage import Storage

    record_answers()
    config = job(given)
    info = resolve_model(config, Storage(config.storage)).info
    return load_model(config, info, config.task, given.device)


def samples(paths: Iterable[Path]) -> list[Any]:
    """Decoded pictures."""
    from pipeline.images.decode import decode_image
    from schemas.config.job import ImagesConfig
    from schemas.records import ImageRecord

    return [
        decode_image(path.read_bytes(), ImageRecord(path.name, str(path)), ImagesConfig())
        for path in paths
    ]


def repeated(work: Callable[[], object], pictures: int, device: str, seconds: float) -> float:
    """Images a second, after rounds to warm up."""
    import torch

    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    for _ in range(3 if device == "cuda" else 1):
        work()
    wait()
    rounds, started = 0, time.perf_counter()
    while not rounds or time.perf_counter() - started < seconds:
        work()
        rounds += 1
        wait()
    return rounds * pictures / (time.perf_counter() - started)


def bare(given: argparse.Namespace) -> dict[str, Any]:
    """The network and our segmenter alone, in one process."""
    import torch

    built, seconds = segmenter(given), 0.1 if given.small else 3.0
    window = samples(sorted(given.folder.iterdir())[: 1 if given.small else 32])
    found: dict[str, Any] = {
        "segment": repeated(lambda: built.segment(window), len(window), given.device, seconds)
    }
    batch = window[:8]
    with torch.inference_mode():
        if hasattr(built, "_shared"):
            shared = built._shared
            given_pixels, frames = shared.fitter.batch(batch)
            network: Callable[[], object] = lambda: shared._net.look(given_pixels, frames)  # noqa: E731
        elif given.kind == "unet-nuclei":
            hw = batch[0].pixels.shape[:2]
            noise = torch.rand((len(batch), 6, *hw), device=given.device)
            noise = noise.contiguous(memory_format=torch.channels_last)
            network = lambda: built._net(noise)  # noqa: E731
        else:  # how many points SAM decodes again depends on its answers: there is no pass alone
            return found
        found["network"] = repeated(network, len(batch), given.device, seconds)
    return found


def ours(given: argparse.Namespace) -> dict[str, Any]:
    """A run of this program through Ray."""
    from bench.recorded import RecordedActor
    from pipeline.engine import execute
    from pipeline.engine.progress import RunProgress
    from pipeline.engine.run import label

    execute._Actor = RecordedActor
    clock = Clock()

    class Shown(RunProgress):
        def advance(self, *, images: int, failed: int) -> None:
            super().advance(images=images, failed=failed)
            clock.add(self.done)

    share = {} if given.gpus_per_worker is None else {"gpus_per_worker": given.gpus_per_worker}
    started = time.monotonic()
    result = label(job(given, engine="ray", **share), progress=Shown(), export=False, report=False)
    total = result.manifest.counts["images"]
    annotations = result.manifest.counts["annotations"] / max(total, 1)
    return {
        "rate": clock.rate(total),
        "note": f"{result.time}; {annotations:.0f} segments an image, {result.failed} failed, "
        f"{total} in {time.monotonic() - started:.0f} s",
    }


def transformers(given: argparse.Namespace) -> dict[str, Any]:
    """`pipeline("image-segmentation")` (`"mask-generation"` for SAM) over the same files."""
    import torch
    import transformers as hf

    paths = [str(path) for path in sorted(given.folder.iterdir())][: given.peer]
    clock = Clock()
    if given.kind == "sam":
        from bench.sam_everything import Recorded as Blobs
        from bench.sam_everything import record_forward

        model: Any = hf.SamModel.from_pretrained(given.checkpoint).to(given.device).eval()
        side = model.config.vision_config.image_size // 4
        record_forward(model.mask_decoder, Blobs((480, 640), side, given.device))
        generate = hf.pipeline("mask-generation", model=model, image_processor=_processor(given))
        for number, path in enumerate(paths):
            generate(path, points_per_batch=64)
            clock.add(number + 1)
        return {"rate": clock.rate(len(paths)), "note": "mask-generation, float32"}

    class Files(torch.utils.data.Dataset[str]):
        def __len__(self) -> int:
            return len(paths)

        def __getitem__(self, index: int) -> str:
            return paths[index]

    dtype = torch.bfloat16 if given.device == "cuda" else torch.float32
    model = hf.AutoModelForUniversalSegmentation.from_pretrained(given.checkpoint, dtype=dtype)
    _record_queries(model)
    segment = hf.pipeline(
        "image-segmentation", model=model, image_processor=_processor(given), device=given.device
    )
    files: Any = Files()
    loaders = 0 if given.small else 8
    for number, _ in enumerate(segment(files, batch_size=8, num_workers=loaders)):
        clock.add(number + 1)
    return {"rate": clock.rate(len(paths)), "note": f"image-segmentation, {dtype}, batches of 8"}


def _processor(given: argparse.Namespace) -> Any:
    import transformers as hf

    return hf.AutoImageProcessor.from_pretrained(given.checkpoint)


def _record_queries(model: Any) -> None:
    from bench.family_nets import blobs

    forward = model.forward

    def answered(*args: Any, **named: Any) -> Any:
        answer = forward(*args, **named)
        classes, masks = answer.class_queries_logits, answer.masks_queries_logits
        hw = (masks.shape[2], masks.shape[3])
        recorded = blobs(masks.shape[1], classes.shape[2] - 1, hw, str(masks.device))
        answer.class_queries_logits = recorded[0].expand_as(classes).contiguous()
        answer.masks_queries_logits = recorded[1].expand_as(masks).contiguous()
        return answer

    model.forward = answered


def raydata(given: argparse.Namespace) -> dict[str, Any]:
    """The same network in Ray Data: read_binary_files → map → map_batches → write_parquet."""
    import ray

    log = given.work / "raydata.log"
    log.unlink(missing_ok=True)
    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False

    class Label:
        def __init__(self) -> None:
            self._built = segmenter(given)

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            from schemas.records import ImageRecord, Sample

            pairs = zip(batch["path"], batch["pixels"], strict=True)
            some = [Sample(ImageRecord(path, path), p, p.shape[:2]) for path, p in pairs]
            rows: dict[str, list[Any]] = {"path": [], "counts": [], "area": [], "score": []}
            for sample, found in zip(some, self._built.segment(some), strict=True):
                for segment in found.segments:
                    rows["path"].append(sample.record.file_name)
                    rows["counts"].append(segment.counts.decode())
                    rows["area"].append(segment.area)
                    rows["score"].append(segment.score)
            with log.open("a") as file:
                file.write(f"{time.time()} {len(some)}\n")
            return rows

    try:
        out = given.work / "raydata"
        shutil.rmtree(out, ignore_errors=True)
        (
            ray.data.read_binary_files(str(given.folder), include_paths=True)
            .map(_decoded)
            .map_batches(
                Label,
                batch_size=8 if given.small else 32,
                concurrency=1,
                num_cpus=1,
                num_gpus=int(given.device == "cuda"),
            )
            .write_parquet(str(out))
        )
    finally:
        ray.shutdown()
    clock, done = Clock(), 0
    for line in log.read_text().splitlines():
        at, count = line.split()
        done += int(count)
        clock.events.append((float(at), done))
    return {"rate": clock.rate(done), "note": "batches of 32, one actor with the GPU"}


def _decoded(row: dict[str, Any]) -> dict[str, Any]:
    from pipeline.images.decode import decode_image
    from schemas.config.job import ImagesConfig
    from schemas.records import ImageRecord, Sample

    sample = decode_image(row["bytes"], ImageRecord(row["path"], row["path"]), ImagesConfig())
    if not isinstance(sample, Sample):
        raise ValueError(row["path"])
    return {"path": row["path"], "pixels": sample.pixels}


def prepared(given: argparse.Namespace) -> argparse.Namespace:
    """Pictures and checkpoint of a kind; made where they are not there yet."""
    kind, work = KINDS[given.kind], given.work
    count = max(int(given.images * kind.images), 32)
    if given.small:
        count = min(count, 48)
    if given.kind == "unet-nuclei":
        given.checkpoint, given.folder = given.kind, draw_fields(work / f"fields-{count}", count)
        return given
    hw = (96, 128) if given.small else (1500, 2250) if given.large else (480, 640)
    pictures = draw_pictures(work / f"photos-{hw[0]}", given.images, hw)
    given.folder = pictures if count == given.images else first(pictures, count)
    given.peer = kind.peer
    given.checkpoint = str(
        write_checkpoint(given.kind, work / given.kind, small=given.small, device=given.device)
    )
    return given


def step(given: argparse.Namespace) -> None:
    """One side of one kind; prints a JSON object last."""
    print(json.dumps(globals()[given.side](prepared(given))))


def line_of(side: str, found: dict[str, Any], base: dict[str, float]) -> Iterator[str]:
    """Rows of the table; `base` collects rates to compare with."""
    for name in ("network", "segment"):
        if name in found:
            base[name] = found[name]
            yield f"{name} | {found[name]:.1f} | |"
    if "rate" in found:
        rate = found["rate"]
        if side == "ours":
            base["ours"] = rate
            ratios = [f"{rate / base[n]:.2f}× {n}" for n in ("network", "segment") if n in base]
        else:
            ratios = [f"ours is {base['ours'] / rate:.1f}×"] if "ours" in base else []
        yield f"{side} | {rate:.1f} | {', '.join(ratios)} | {found['note']}"


def table(options: argparse.Namespace) -> None:
    """All sides of all kinds, the most telling first, until the time is up."""
    over = time.monotonic() + options.seconds
    rows = ["| network | side | images/s | | |", "|---|---|---|---|---|"]
    bases: dict[str, dict[str, float]] = {}
    kinds = options.kinds.split(",")
    order = [
        (kind, side)
        for turn in (["bare", "ours"], ["transformers", "raydata"])
        for kind in kinds
        for side in turn
        if side in KINDS[kind].sides
    ]
    print("\n".join(rows), flush=True)
    with tempfile.TemporaryDirectory() as root:
        for kind, side in order:
            left = over - time.monotonic()
            if left < 10:
                rows.append(f"| {kind} | {side} | no time left | | |")
                print(rows[-1], flush=True)
                continue
            found = _run(
                options,
                kind,
                side,
                Path(options.work or root),
                min(left, 240.0 if options.small else 75.0),
            )
            if isinstance(found, str):
                rows.append(f"| {kind} | {side} | FAILED | {found} | |")
                print(rows[-1], flush=True)
                continue
            for line in line_of(side, found, bases.setdefault(kind, {})):
                rows.append(f"| {kind} | {line} |")
                print(rows[-1], flush=True)
    print("\n".join(["", *rows, ""]))
    line = [sys.executable, "-m", "bench.decode_gpu"] + ["--pictures=16"] * options.small
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(line, check=False, timeout=45)


def _run(
    options: argparse.Namespace, kind: str, side: str, work: Path, limit: float
) -> dict[str, Any] | str:
    """What a step printed; why there is nothing."""
    work.mkdir(parents=True, exist_ok=True)
    line = [sys.executable, "-m", "bench.pipeline", "--table", "--device", options.device]
    line += ["--kind", kind, "--side", side, "--work", str(work), "--images", str(options.images)]
    line += ["--small"] * options.small + ["--large"] * options.large
    if options.gpus_per_worker is not None:
        line += ["--gpus-per-worker", str(options.gpus_per_worker)]
    root = str(Path(__file__).resolve().parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    environment |= {"RAY_AUTH_MODE": "disabled", "HF_HUB_OFFLINE": "1"}
    environment.pop("RAY_ADDRESS", None)
    shutil.rmtree(work / "out", ignore_errors=True)
    started = time.monotonic()
    with subprocess.Popen(
        line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            said, errors = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            process.terminate()  # a run of ours ends its Ray
            try:
                process.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
            return f"not done within {limit:.0f} s"
    print(f"  {kind} {side}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    if process.returncode:
        return " ⏎ ".join((said + errors).strip().splitlines()[-6:])[-700:]
    return json.loads(said.splitlines()[-1])
