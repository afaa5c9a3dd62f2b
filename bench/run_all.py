"""Every benchmark that this machine can run, one after the other, each in a process of its own.

    python -m bench.run_all --data FOLDER        # a CPU: about 20 minutes; with a GPU 40 more
    python -m bench.run_all --small              # small ones: about five minutes, a smoke test
    python -m bench.run_all --only rle,night

Each prints its own table, with the peer beside ours; at the end stands one line a benchmark: its
seconds, and why one was not run or what it failed with. What needs a server or a cluster
(`bench.tar_reads`, `bench.chaos*`) or two GPUs (`bench.two_gpus`), or trains for minutes
(`bench.train`), is run by itself.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.models.checkpoints.processor import count_gpus


@dataclass(frozen=True, slots=True)
class Benchmark:
    """How one is called.

    Attributes:
        name: Its module below `bench`.
        words: Its options.
        small: Further options that make it short.
        data: Whether it wants the folder of real pictures.
        gpu: Whether it says nothing without a GPU.
    """

    name: str
    words: str = ""
    small: str = ""
    data: bool = False
    gpu: bool = False


BENCHMARKS = (
    Benchmark("decode", small="--repeat 1", data=True),
    Benchmark("rle", small="--repeat 1", data=True),
    Benchmark("refine", small="--repeat 1", data=True),
    Benchmark("measure", small="--repeat 1", data=True),
    Benchmark("augment", small="--pictures 10"),
    Benchmark("listing", small="--files 10000"),
    Benchmark("worker", small="--pictures 50 --rounds 1"),
    Benchmark("coco_json", small="--annotations 50000"),
    Benchmark("exports", small="--annotations 5000 coco-instances"),
    Benchmark("evaluate", small="--images 300"),
    Benchmark("report", small="--images 60 --page 2000"),
    Benchmark("night", "--images 10000 --nights 3", "--images 200 --nights 1"),
    Benchmark("start", small="--rounds 1"),
    Benchmark("unet_cpu"),
    Benchmark("pipeline", "--peer loop", "--images 16"),
    Benchmark("pipeline", "--peer raydata --model otsu --images 1000", "--images 100"),
    Benchmark("tiling", "--side 5000 --model otsu", "--side 2000"),
    Benchmark("postprocess", "--device cpu", "--minutes 0.5"),
    Benchmark("forwards", gpu=True),
    Benchmark("postprocess", "--device cuda", gpu=True),
    Benchmark("pipeline", "--device cuda", gpu=True),
    Benchmark("families", "--device cuda", gpu=True),
    Benchmark("sam_everything", gpu=True),
    Benchmark("text_prompts", gpu=True),
    Benchmark("unet_gpu", gpu=True),
    Benchmark("decode_gpu", gpu=True),
)
"""In the order of the table; options of `small` come last, so that they win."""


def command(benchmark: Benchmark, *, data: Path | None, small: bool) -> list[str]:
    """The command line of one."""
    words = [*benchmark.words.split(), *(benchmark.small.split() if small else ())]
    where = ["--data", str(data)] if benchmark.data else []
    return [sys.executable, "-m", f"bench.{benchmark.name}", *where, *words]


def reason_against(benchmark: Benchmark, *, data: Path | None, gpus: int) -> str:
    """Why this machine cannot run it; empty where it can."""
    if benchmark.gpu and not gpus:
        return "needs a GPU"
    return "needs --data FOLDER" if benchmark.data and data is None else ""


def run(given: argparse.Namespace) -> Iterator[tuple[str, str, bool]]:
    """Runs them; a label, what came of it, and whether that is a failure."""
    gpus = count_gpus()
    for benchmark in BENCHMARKS:
        if given.only and benchmark.name not in given.only:
            continue
        label = f"bench.{benchmark.name} {benchmark.words}".rstrip()
        against = reason_against(benchmark, data=given.data, gpus=gpus)
        if against:
            yield label, f"not run: {against}", False
            continue
        print(f"\n## {label}\n", flush=True)
        started = time.monotonic()
        line = command(benchmark, data=given.data, small=given.small)
        try:
            code = subprocess.run(line, check=False, timeout=given.minutes * 60).returncode
            said = f"failed with {code}" if code else "done"
        except subprocess.TimeoutExpired:
            code, said = 1, f"ended after {given.minutes:g} minutes"
        yield label, f"{said}, {time.monotonic() - started:.0f} s", code != 0


def main() -> None:
    """Runs them and exits with 1 where one failed."""
    names = sorted({benchmark.name for benchmark in BENCHMARKS})
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of real pictures (bench/RESULTS.md)")
    parser.add_argument(
        "--only", type=lambda text: text.split(","), default=[], help=", ".join(names)
    )
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--minutes", type=float, default=15, help="for each, at most")
    given = parser.parse_args()
    if unknown := sorted(set(given.only) - set(names)):
        parser.error(f"--only {unknown[0]}: no such benchmark; allowed: {', '.join(names)}")
    if given.data is not None and not given.data.is_dir():
        parser.error(f"--data {given.data}: no such folder")
    results = list(run(given))
    print("\n## All\n\n| benchmark | |\n|---|---|")
    for label, said, _ in results:
        print(f"| {label} | {said} |")
    sys.exit(any(failed for *_, failed in results))


if __name__ == "__main__":
    main()
