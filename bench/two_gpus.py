"""One GPU against two of one host: labelling, a killed worker, training over NCCL.

    python -m bench.two_gpus --work FOLDER [--images 800] [--minutes 9] [--only label,kill,train]

Weights are random and of true size: what is measured is rate and equality, not labels. Pictures
are drawn here. Without GPUs the same script runs on CPUs with tiny nets (two Ray workers, gloo), so
that it is known to work before a machine is there. Rates are marginal, (many − few) / (seconds of
many − seconds of few), so that start-up drops out. A table is printed last.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

FEW = 64
NET = "mask2former-swin-large"
_BEST = 1.96  # of two GPUs against one


class Lines:
    """What was measured, printed as it comes and once more at the end."""

    def __init__(self) -> None:
        self.rows: list[str] = []

    def add(self, *cells: object) -> None:
        """One row of the table."""
        self.rows.append("| " + " | ".join(str(cell) for cell in cells) + " |")
        print(self.rows[-1], flush=True)


def draw_pictures(folder: Path, count: int, hw: tuple[int, int]) -> Path:
    """JPEGs of smooth noise with discs, no two alike."""
    if folder.is_dir():
        return folder
    folder.mkdir(parents=True)

    def one(number: int) -> None:
        rng = np.random.default_rng(number)
        small = rng.integers(0, 255, (12, 16, 3), np.uint8)
        picture = cv2.resize(small, hw[::-1], interpolation=cv2.INTER_CUBIC)
        for _ in range(12):
            x, y = int(rng.integers(hw[1])), int(rng.integers(hw[0]))
            colour = tuple(int(c) for c in rng.integers(0, 255, 3))
            cv2.circle(picture, (x, y), int(rng.integers(6, hw[0] // 6)), colour, -1)
        cv2.imwrite(str(folder / f"{number:05d}.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 90])

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, range(count)))
    return folder


def first(folder: Path, count: int) -> Path:
    """A folder with the first `count` pictures, hard-linked."""
    out = folder.with_name(f"{folder.name}-{count}")
    if not out.is_dir():
        out.mkdir()
        for path in sorted(folder.iterdir())[:count]:
            os.link(path, out / path.name)
    return out


def write_checkpoint(name: str, folder: Path, *, small: bool, device: str = "cpu") -> Path:
    """A net of random weights in the form that jobs.label loads.

    Args:
        name: Of `bench.family_nets.CASES`, or "sam" for a SAM-H.
        folder: Written where it is not there yet.
        small: Tiny instead.
        device: Where weights are drawn; a CPU takes long for large ones.
    """
    from bench.family_nets import CASES

    if not folder.is_dir():
        import torch
        import transformers as hf

        torch.manual_seed(0)
        if name in CASES:
            with torch.device(device):
                case = CASES[name](small)
            case.model.save_pretrained(folder)
            case.processor.save_pretrained(folder)
        else:
            vision = (
                {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                 "mlp_dim": 64, "image_size": 128, "global_attn_indexes": [1], "window_size": 4}
                if small
                else {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16,
                      "mlp_dim": 5120, "global_attn_indexes": [7, 15, 23, 31]}
            )  # fmt: skip
            config = hf.SamConfig(vision_config=vision)
            if small:
                config.prompt_encoder_config.image_size = 128
                config.prompt_encoder_config.image_embedding_size = 8
            with torch.device(device):
                hf.SamModel(config).save_pretrained(folder)
            side = 128 if small else 1024
            hf.SamImageProcessor(
                size={"longest_edge": side}, pad_size={"height": side, "width": side}
            ).save_pretrained(folder)
    return folder


def command(inputs: Path, out: Path, model: str, sets: list[str]) -> list[str]:
    """A whole run as a user starts it."""
    line = [sys.executable, "-m", "jobs.label", "--input", str(inputs), "--output", str(out)]
    line += ["--model", model, "--no-export", "--no-report"]
    return line + [part for item in sets for part in ("--set", item)]


def environment(gpus: int) -> dict[str, str]:
    """Shows a process `gpus` of the host's GPUs; NVLink's multicast stays as the host sets it."""
    shown = ",".join(map(str, range(gpus)))
    return {**os.environ, "CUDA_VISIBLE_DEVICES": shown, "RAY_AUTH_MODE": "disabled"}


def run(line: list[str], gpus: int) -> float:
    """Seconds of a run.

    Raises:
        RuntimeError: It failed; says what it printed last.
    """
    started = time.monotonic()
    done = subprocess.run(line, env=environment(gpus), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"exit {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
    return time.monotonic() - started


@contextlib.contextmanager
def watched(gpus: int) -> Iterator[list[float]]:
    """Mean utilisation of each GPU while the block runs, percent; empty without GPUs."""
    means: list[float] = []
    if not gpus or shutil.which("nvidia-smi") is None:
        yield means
        return
    line = ["nvidia-smi", "--query-gpu=index,utilization.gpu,memory.used"]
    line += ["--format=csv,noheader,nounits", "-lms", "500"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield means
        finally:
            process.terminate()
            rows = [row.split(",") for row in (process.communicate()[0] or "").splitlines()]
            rows = [row for row in rows if len(row) == 3]
            for index in range(gpus):
                busy = [float(u) for i, u, m in rows if int(i) == index and float(m) > 2000]
                means.append(round(statistics.mean(busy), 0) if busy else 0.0)


def digest(out: Path) -> str:
    """Of every published file's name and bytes."""
    total = hashlib.sha256()
    for path in sorted(out.rglob("*.parquet")):
        total.update(path.relative_to(out).as_posix().encode() + path.read_bytes())
    return total.hexdigest()[:12]


def rate(
    pictures: Path, many: int, work: Path, model: str, workers: int, sets: list[str]
) -> tuple[float, str, list[float]]:
    """Images a second, digest of the larger run, utilisation of each GPU."""
    gpus = workers if _gpus() else 0
    sets = [*sets, f"execution.workers={workers}"] if "gpus_per_worker" not in str(sets) else sets
    out = work / "out"
    seconds = []
    busy: list[float] = []
    for count in (FEW, many):
        shutil.rmtree(out, ignore_errors=True)
        with watched(gpus) as means:
            seconds.append(run(command(first(pictures, count), out, model, sets), gpus))
        busy = means
    return (many - FEW) / (seconds[1] - seconds[0]), digest(out), busy


def label(lines: Lines, work: Path, images: int, small: bool) -> None:
    """Labelling with a universal net and with SAM's grid on one GPU and on two."""
    pictures = draw_pictures(work / "photos", images, (96, 128) if small else (480, 640))
    for name, count in ((NET, images), ("sam", max(images // 2, FEW * 2))):
        checkpoint = write_checkpoint(name, work / name, small=small)
        sets = ["model.batch_size=8", "execution.shard_size=16"]
        one = rate(pictures, count, work, str(checkpoint), 1, sets)
        two = rate(pictures, count, work, str(checkpoint), 2, sets)
        equal = "equal" if one[1] == two[1] else "NOT EQUAL"
        lines.add(
            f"label {name}", f"{one[0]:.1f} images/s", f"{two[0]:.1f} images/s",
            f"{two[0] / one[0]:.2f}× (bar {_BEST})", f"bytes {equal}", f"busy {one[2]} {two[2]} %",
        )  # fmt: skip


def kill(lines: Lines, work: Path, images: int, small: bool) -> None:
    """A worker dies in mid-run; the run ends by itself with the same bytes."""
    pictures = draw_pictures(work / "photos", images, (96, 128) if small else (480, 640))
    checkpoint = write_checkpoint(NET, work / NET, small=small)
    sets = ["model.batch_size=8", "execution.shard_size=16", "execution.workers=2"]
    gpus = 2 if _gpus() else 0
    source, whole, hurt = first(pictures, images // 2), work / "whole", work / "hurt"
    digests = []
    for out, harm in ((whole, False), (hurt, True)):
        shutil.rmtree(out, ignore_errors=True)
        line = command(source, out, str(checkpoint), sets)
        with subprocess.Popen(
            line, env=environment(gpus), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            struck = harm and _kill_worker(out, process)
            said, _ = process.communicate(timeout=300)
        if process.returncode:
            raise RuntimeError(f"exit {process.returncode}: {said[-1500:]}")
        # The output's path is part of the manifest, so parts alone are compared.
        digests.append(digest(out))
    equal = "equal" if digests[0] == digests[1] else "NOT EQUAL"
    lines.add("kill a worker in mid-run", f"struck: {struck}", "exit 0", f"bytes {equal}")


def _kill_worker(out: Path, process: subprocess.Popen[str]) -> bool:
    """SIGKILL to one actor below `process` once a receipt is there."""
    receipts = out / "receipts"
    while process.poll() is None and not (receipts.is_dir() and any(receipts.iterdir())):
        time.sleep(0.05)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                title = (entry / "cmdline").read_bytes()
                if title.startswith(b"ray::_Actor") and _below(int(entry.name), process.pid):
                    os.kill(int(entry.name), signal.SIGKILL)
                    return True
    return False


def _below(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        pid = int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    return False


def nuclei(lines: Lines, work: Path, images: int, small: bool) -> None:
    """The small U-Net, several workers a GPU."""
    many = 256 if small else images * 4
    pictures = draw_pictures(work / "fields", many, (256, 256))
    for gpus in (1, 2):
        sets = ["execution.gpus_per_worker=0.125"] if _gpus() else [f"execution.workers={gpus}"]
        found = rate(pictures, many, work, "unet-nuclei", gpus, sets)
        lines.add(f"unet-nuclei, {gpus} GPU", f"{found[0]:.0f} images/s", f"busy {found[2]} %")


def train(lines: Lines, work: Path, images: int, small: bool) -> None:
    """Fifty steps of one worker against two with the same batch in all."""
    del images
    learn = work / "learn"
    if not learn.is_dir():
        draw_pictures(learn / "images", 64, (256, 256))
        (learn / "labels").mkdir()
        for path in sorted((learn / "images").iterdir()):
            grey = np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
            label_map = (grey > 127).astype(np.uint8) + 1
            cv2.imwrite(str(learn / "labels" / f"{path.stem}.png"), label_map)
        named = ((1, "dark", "#204080"), (2, "light", "#e0c060"))
        rows = [{"pixel": p, "id": p, "name": n, "isthing": 0, "color": c} for p, n, c in named]
        table = {"categories": rows}
        (learn / "labels" / "categories.json").write_text(json.dumps(table))
    steps = 8 if small else 50
    found: dict[int, tuple[list[float], float]] = {}
    for workers in (1, 2):
        out = work / f"trained-{workers}"
        shutil.rmtree(out, ignore_errors=True)
        line = [sys.executable, "-m", "jobs.train", "--dataset", str(learn / "labels")]
        line += ["--images", str(learn / "images"), "--output", str(out), "--model", "unet"]
        line += ["--workers", str(workers), "--set", f"epochs={steps}", "--set", "steps=1"]
        line += ["--set", "precision=fp32", "--set", "batch_size=16", "--set", "warmup=5"]
        line += ["--set", f"validate_every={steps}", "--set", "net.encoder=resnet18"]
        line += ["--set", f"crop={64 if small else 256}", "--set", "loaders=2"]
        seconds = run(line, workers if _gpus() else 0)
        rows = [json.loads(row) for row in (out / "log.jsonl").read_text().splitlines()]
        found[workers] = [row["loss"] for row in rows], seconds
    apart = max(abs(a - b) for a, b in zip(found[1][0], found[2][0], strict=True))
    again = work / "again"
    shutil.rmtree(again, ignore_errors=True)
    run(
        command(first(learn / "images", 8), again, str(work / "trained-2"), []), 1 if _gpus() else 0
    )
    lines.add(
        f"train, {steps} steps", f"{found[1][1]:.0f} s one", f"{found[2][1]:.0f} s two",
        f"losses apart by {apart:.2e} at most (last {found[1][0][-1]:.4f}, {found[2][0][-1]:.4f})",
        "checkpoint labels",
    )  # fmt: skip


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def main() -> None:
    """Every part by itself: one that fails leaves the others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--images", type=int, default=800)
    parser.add_argument("--minutes", type=float, default=9.0, help="no part starts after this")
    parser.add_argument("--only", default="label,kill,train,nuclei")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    parts: dict[str, Any] = {"label": label, "kill": kill, "nuclei": nuclei, "train": train}
    lines, started = Lines(), time.monotonic()
    for name in arguments.only.split(","):
        if time.monotonic() - started > arguments.minutes * 60:
            lines.add(name, "not begun: out of time")
            continue
        try:
            parts[name](lines, arguments.work, arguments.images, _gpus() == 0)
        except (OSError, RuntimeError, ValueError, subprocess.SubprocessError) as error:
            lines.add(name, "FAILED", str(error).replace("\n", " ⏎ ")[-900:])
    print("\n".join(["", f"{_gpus()} GPUs", *lines.rows]))


if __name__ == "__main__":
    main()
