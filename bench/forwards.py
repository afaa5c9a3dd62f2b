"""Forward passes on a GPU: ours against the library's own, compiled, in bfloat16.

    python -m bench.forwards                          # on a GPU, about 6 minutes
    python -m bench.forwards --small --device cpu     # tiny networks, a smoke test

Each network (published size, random weights) has a process of its own. They compile side by side,
which is work for the CPU, then take turns on the GPU: rounds of theirs and ours interleaved, the
median and the spread of the rounds. Theirs is `torch.compile(model, dynamic=False)` with bfloat16
weights, or under autocast where the library's code does not run with them. The share of the card
is that of the rate of an 8192³ bfloat16 product measured in the same run; operations are counted
by PyTorch in the library's float32 pass. Errors are relative to that pass, on noise.
"""

from __future__ import annotations

import argparse
import fcntl
import logging
import os
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from bench.forward_contests import CONTESTS, Call
from bench.kernel_times import kernel_lines

KERNELS = "kernels"
NAMES = (KERNELS, *CONTESTS)
ROUNDS = 5


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny networks and pictures")
    parser.add_argument("--names", default=",".join(NAMES), help="some of them, comma separated")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--ready", type=float, default=260, help="seconds to wait for compilers")
    parser.add_argument("--seconds", type=float, default=420, help="all is ended after that")
    parser.add_argument("--logs", type=Path, default=Path("forwards"))
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given.worker, given)
        return
    given.logs.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    names = given.names.split(",")
    running = {name: launched(name, given) for name in names}
    while time.monotonic() - start < given.ready and any(
        process.poll() is None and not ready(given, name).exists()
        for name, process in running.items()
    ):
        time.sleep(0.5)
    print(f"compiled for {time.monotonic() - start:.0f} s", flush=True)
    (given.logs / "go").touch()
    for name, process in running.items():
        try:
            process.wait(max(1.0, given.seconds - (time.monotonic() - start)))
        except subprocess.TimeoutExpired:
            process.terminate()
            print(f"{name}: no time left", flush=True)
    print(
        f"\n| network | way | ms an image | images/s | spread | of the card | against theirs |{''}"
    )
    print("|---|---|---|---|---|---|---|")
    for name in names:
        table = given.logs / f"{name}.table"
        print(table.read_text().rstrip() if table.exists() else f"| {name} | failed, see its log |")


def launched(name: str, given: argparse.Namespace) -> subprocess.Popen[bytes]:
    """A worker; its log lies beside the others'."""
    command = [sys.executable, "-m", "bench.forwards", "--worker", name, "--device", given.device]
    command += ["--batch", str(given.batch), "--logs", str(given.logs)]
    command += ["--small"] if given.small else []
    environment = os.environ | {
        "TORCHINDUCTOR_COMPILE_THREADS": "3",
        "OMP_NUM_THREADS": "2",
        "TRANSFORMERS_DISABLE_TORCH_CHECK": "1",
        "PYTHONUNBUFFERED": "1",
    }
    with (given.logs / f"{name}.log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


def ready(given: argparse.Namespace, name: str) -> Path:
    """Appears when a worker has compiled."""
    return given.logs / f"{name}.ready"


@contextmanager
def turn(given: argparse.Namespace, name: str) -> Iterator[None]:
    """Waits until all have compiled, and until the GPU is free."""
    ready(given, name).touch()
    while not (given.logs / "go").exists():
        time.sleep(0.2)
    with alone(given, "turn"):
        yield


@contextmanager
def alone(given: argparse.Namespace, what: str) -> Iterator[None]:
    """One process at a time; float32 passes of all at once would not fit."""
    with (given.logs / what).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def work(name: str, given: argparse.Namespace) -> None:
    """One network, from building to its lines of the table."""
    logging.basicConfig(level=logging.INFO)
    torch.manual_seed(0)
    lines: list[str] = []
    if name == KERNELS:
        with turn(given, name):
            lines += kernel_lines(given, partial(milliseconds, given=given, seconds=0.2))
    else:
        network(name, given, lines)
    (given.logs / f"{name}.table").write_text("\n".join(lines) + "\n")


def network(name: str, given: argparse.Namespace, lines: list[str]) -> None:
    """Compiles both sides, then times them in rounds."""
    from torch.utils.flop_counter import FlopCounterMode

    contest = CONTESTS[name](name, given)
    with torch.inference_mode():
        with alone(given, "plain"), FlopCounterMode(display=False) as counter:
            wanted = contest.answers(contest.plain())
            free(given)
        print("TFLOP an image", counter.get_total_flops() / contest.pictures / 1e12)
        ways = {"theirs, compiled": contest.theirs, **contest.ours}
        for way in list(ways)[::-1]:
            start = time.monotonic()
            try:
                found = contest.answers(ways[way]())
                ways[way]()
                errors = [relative(one, other) for one, other in zip(found, wanted, strict=True)]
                print(f"{way}: ready in {time.monotonic() - start:.1f} s, errors {errors}")
            except Exception:
                traceback.print_exc()
                print(f"{way}: failed")
                del ways[way]
            free(given)
        with turn(given, name):
            rate = matrix_rate(given)
            share = counter.get_total_flops() / contest.pictures / rate / 1e12
            rounds: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(ROUNDS):
                for way, call in ways.items():
                    rounds[way].append(milliseconds(call, given) / contest.pictures)
            first = statistics.median(rounds.get("theirs, compiled", [float("nan")]))
            for way, times in rounds.items():
                middle = statistics.median(times)
                lines.append(
                    f"| {name} | {way} | {middle:.3f} | {1000 / middle:.1f} "
                    f"| {min(times):.3f} to {max(times):.3f} "
                    f"| {share * 1000 / middle:.1%} | {first / middle:.2f}× |"
                )
            print("\n".join(lines))
            for way in list(ways)[1:]:
                profile(ways[way], given.logs / f"{name}.{way.split(',')[-1].strip()}.profile")


def profile(call: Call, path: Path) -> None:
    """Writes which kernels take the time of one call."""
    if not torch.cuda.is_available():
        return
    kinds = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as seen:
        call()
        torch.cuda.synchronize()
    path.write_text(seen.key_averages().table("self_cuda_time_total", row_limit=30))


def relative(found: Tensor, wanted: Tensor) -> float:
    """‖found − wanted‖ / ‖wanted‖, in float64."""
    return round(float((found.double() - wanted.double()).norm() / wanted.double().norm()), 5)


def free(given: argparse.Namespace) -> None:
    """Gives memory back for the others."""
    if given.device != "cpu":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def milliseconds(call: Call, given: argparse.Namespace, seconds: float = 0.5) -> float:
    """Of one call, over as many as take half a second."""
    if given.device == "cpu":
        start = time.perf_counter()
        call()
        return 1000 * (time.perf_counter() - start)
    for _ in range(2):
        call()
    torch.cuda.synchronize()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start, count = time.perf_counter(), 0
    begin.record()
    while time.perf_counter() - start < seconds:
        call()
        count += 1
        if count % 4 == 0:
            torch.cuda.synchronize()  # the clock must not run ahead of the GPU
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / count


def matrix_rate(given: argparse.Namespace) -> float:
    """TFLOP/s of an 8192³ bfloat16 product."""
    if given.device == "cpu":
        return 1.0
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    rate = 2 * 8192**3 / 1e9 / milliseconds(lambda: a @ b, given)
    print(f"8192³ product: {rate:.0f} TFLOP/s")
    return rate


if __name__ == "__main__":
    main()
