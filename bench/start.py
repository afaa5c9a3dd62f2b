"""Start: a run of eight pictures against the import of torch and transformers.

    python -m bench.start [--rounds 3] [--device cpu|cuda] [--work FOLDER]

A tiny Mask2Former, so that what is timed is the way to the first picture and from the last one on;
no exports, no report. Each in a process of its own, in turns; the best of the rounds, wall seconds
and the processor seconds of the process and all it started.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.two_gpus import command, draw_pictures, write_checkpoint

NET = "mask2former-swin-tiny"
IMPORTS = "import torch, transformers; transformers.Mask2FormerForUniversalSegmentation"


def timed(line: list[str]) -> tuple[float, float]:
    """Wall and processor seconds.

    Raises:
        RuntimeError: It failed; says what it printed last.
    """
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled"}
    environment.pop("RAY_ADDRESS", None)
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
    wall, after = time.monotonic() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError((done.stdout + done.stderr)[-1500:])
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--work", type=Path, help="keeps pictures and checkpoint there")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        work = given.work or Path(root)
        work.mkdir(parents=True, exist_ok=True)
        pictures = draw_pictures(work / "eight", 8, (96, 128))
        checkpoint = str(write_checkpoint(NET, work / NET, small=True))
        out = Path(root) / "out"
        sets = [f"model.device={given.device}"]
        lines = {
            "import torch, transformers": [sys.executable, "-c", IMPORTS],
            "8 pictures": command(pictures, out, checkpoint, sets),
            "8 pictures, Ray": command(pictures, out, checkpoint, [*sets, "execution.engine=ray"]),
        }
        best: dict[str, list[float]] = {}
        for _ in range(given.rounds):
            for name, line in lines.items():
                shutil.rmtree(out, ignore_errors=True)
                seconds = best.setdefault(name, [1e9, 1e9])
                best[name] = [min(pair) for pair in zip(seconds, timed(line), strict=True)]
        base = best["import torch, transformers"]
        print("| | wall s | ratio | processor s | ratio |\n|---|---|---|---|---|")
        for name, (wall, cpu) in best.items():
            ratios = wall / base[0], cpu / base[1]
            print(f"| {name} | {wall:.1f} | {ratios[0]:.2f}× | {cpu:.1f} | {ratios[1]:.2f}× |")


if __name__ == "__main__":
    main()
