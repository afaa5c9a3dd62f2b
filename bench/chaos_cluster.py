"""Proof by force, for a cluster: three nodes on this machine, and one of them goes.

    python -m bench.chaos_cluster --trials 10 --json cluster.json

Each trial labels the same pictures on a cluster of three nodes of one worker each, does one bad
thing at a random moment after the first shard, and repeats the command until it succeeds. It holds
that a lost worker or node does not end the run, also one that reads for a node with a GPU (one that
says so: nothing computes on it), that the rest ends with a code of the table, that
what is published is byte for byte that of an undisturbed run, and that no finished shard is done
again. Printed beside it: the seconds that the loss of a node costs, and what the same
loss costs Ray Data's `map_batches` with the same work.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.chaos import Reader, differences, published, row_faults, tell_trials, write_pictures
from bench.ray_processes import actors_below

ROOT = Path(__file__).resolve().parents[1]
KINDS = (
    "kill a worker",
    "kill a raylet",
    "terminate a raylet",
    "kill the GCS",
    "kill the driver",
    "kill a reading node",
)
_SURVIVED = {*KINDS[:3], KINDS[-1]}
_OPTIONS = ("--set", "execution.shard_size=2", "--quiet")
_EVEN = ("--workers", "3")
_UNEVEN = (
    *("--workers", "1", "--set", "execution.read=tasks", "--set", "model.device=cpu"),
    *("--set", "execution.gpus_per_worker=1", "--set", "execution.cpus_per_worker=1"),
)
_TRIES = 6


@dataclass(frozen=True, slots=True)
class Trial:
    """What happened in one.

    Attributes:
        number: Of the trial.
        kind: Of `KINDS`.
        codes: Exit codes of all runs.
        again: Pictures of finished shards that the last run did again.
        seconds: Of the disturbed run.
        wrong: What did not hold, a line each.
    """

    number: int
    kind: str
    codes: list[int]
    again: int
    seconds: float
    wrong: list[str]


@contextmanager
def three_nodes(*, uneven: bool = False) -> Iterator[tuple[Any, Any]]:
    """A cluster of three nodes of one CPU each, and a head without.

    Args:
        uneven: One of the three says that it has a GPU. Its CPU is the worker's: with `read =
            "tasks"` the two others read.

    Yields:
        `ray.cluster_utils.Cluster`, and the node to lose: one that has no GPU.
    """
    os.environ["RAY_AUTH_MODE"] = "disabled"
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        cluster.add_node(num_cpus=1, num_gpus=int(uneven))
        cluster.add_node(num_cpus=1)
        yield cluster, cluster.add_node(num_cpus=1)
    finally:
        cluster.shutdown()


class ClusterField:
    """The pictures, and the undisturbed result on a cluster."""

    def __init__(self, folder: Path, *, images: int) -> None:
        self.folder, self.images = folder, images
        (folder / "in").mkdir(parents=True)
        write_pictures(folder / "in", images)
        with three_nodes() as (cluster, _):
            started = time.monotonic()
            code = self.run(folder / "calm", cluster.address).wait()
            self.seconds = time.monotonic() - started
        if code:
            raise RuntimeError(f"the undisturbed run ended with {code}")
        self.truth = published(folder / "calm")

    def run(
        self, out: Path, address: str, options: Sequence[str] = _EVEN
    ) -> subprocess.Popen[bytes]:
        """Starts the job on a cluster."""
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "jobs.label", "--input", str(self.folder / "in")),
                *("--output", str(out), "--model", "otsu", *_OPTIONS, *options),
            ],
            cwd=ROOT,
            env={**os.environ, "RAY_ADDRESS": address, "RAY_AUTH_MODE": "disabled"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def disturb(field: ClusterField, number: int, kind: str, rng: random.Random) -> Trial:
    """One trial, on a cluster of its own."""
    out = field.folder / f"trial-{number}"
    receipts = out / "receipts"
    reader = Reader(out)
    reader.start()
    wrong: list[str] = []
    uneven = kind == "kill a reading node"
    with three_nodes(uneven=uneven) as (cluster, node):
        started = time.monotonic()
        process = field.run(out, cluster.address, _UNEVEN if uneven else _EVEN)
        goal = rng.randint(1, field.images // 4)
        while process.poll() is None and _count(receipts) < goal:
            time.sleep(0.005)
        if process.poll() is not None:
            wrong.append("the run ended before it was disturbed")
        _bad_thing(cluster, node, process, kind)
        codes = [process.wait()]
        seconds = time.monotonic() - started
    kept = sum(json.loads(path.read_bytes())["part"]["images"] for path in receipts.glob("*.json"))
    if kind in _SURVIVED and codes[0]:
        wrong.append(f"{kind}: exit code {codes[0]}, not 0")
    allowed = (-signal.SIGKILL,) if kind == "kill the driver" else ()
    wrong += [f"exit code {code}" for code in codes if code not in (0, 3, *allowed)]
    while codes[-1] and len(codes) < _TRIES:
        with three_nodes() as (cluster, _):
            codes.append(field.run(out, cluster.address).wait())
    reader.ended.set()
    reader.join()
    wrong += [f"{text} ({count} times)" for text, count in reader.wrong.items()]
    if codes[-1]:
        wrong.append("the same command never succeeded")
    else:
        wrong += differences(field.truth, published(out)) + row_faults(out, field.images)
    again = 0
    if len(codes) == 2 and not codes[-1]:
        computed = json.loads((out / "run.json").read_bytes())["computed"]
        again = computed - (field.images - kept)
        wrong += [f"{again} pictures of finished shards were done again"] if again else []
    return Trial(number, kind, codes, again, round(seconds, 1), wrong)


def _bad_thing(cluster: Any, node: Any, process: subprocess.Popen[bytes], kind: str) -> None:
    match kind:
        case "kill a worker":
            for pid in actors_below(_raylet(node))[:1]:
                os.kill(pid, signal.SIGKILL)
        case "kill a raylet" | "kill a reading node":
            cluster.remove_node(node, allow_graceful=False)
        case "terminate a raylet":
            os.kill(_raylet(node), signal.SIGTERM)
        case "kill the GCS":
            cluster.head_node.kill_gcs_server()
        case "kill the driver":
            process.kill()


def _raylet(node: Any) -> int:
    return node.all_processes["raylet"][0].process.pid


def _count(folder: Path) -> int:
    return len(list(folder.glob("*.json"))) if folder.is_dir() else 0


def ray_data_seconds(folder: Path, *, lose_a_node: bool) -> float:
    """Seconds of `ray.data` over the same pictures with the same rule, in a process of its own."""
    code = (
        "import sys, cv2, numpy as np, ray\n"
        "ray.init(sys.argv[1], logging_level='ERROR', log_to_driver=False)\n"
        "def otsu(batch):\n"
        "    areas = []\n"
        "    for data in batch['bytes']:\n"
        "        grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)\n"
        "        areas.append(int(cv2.threshold(grey, 0, 255, cv2.THRESH_OTSU)[1].sum()))\n"
        "    import time; time.sleep(0.2 * len(areas))\n"
        "    return {'area': np.array(areas)}\n"
        "found = ray.data.read_binary_files(sys.argv[2], override_num_blocks=24)\n"
        "print('begun', flush=True)\n"
        "print(found.map_batches(otsu, batch_size=2).count(), flush=True)\n"
    )
    with three_nodes() as (cluster, node):
        started = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-c", code, cluster.address, str(folder / "in")],
            env={**os.environ, "RAY_AUTH_MODE": "disabled"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        process.stdout.readline()
        timer = threading.Timer(2.0, _bad_thing, (cluster, node, process, "kill a raylet"))
        if lose_a_node:
            timer.start()
        process.wait(300)
        timer.cancel()
        return time.monotonic() - started


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs trials, prints what each did; 1 where something did not hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=len(KINDS))
    parser.add_argument("--images", type=int, default=48)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, action="append", help="only these")
    parser.add_argument("--ray-data", action="store_true", help="also lose a node of Ray Data")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args(arguments)
    rng, kinds = random.Random(given.seed), given.kind or KINDS
    done: list[Trial] = []
    with tempfile.TemporaryDirectory(prefix="chaos-") as name:
        field = ClusterField(Path(name), images=given.images)
        print(f"undisturbed: {field.seconds:.1f} s", flush=True)
        for number in range(given.trials):
            trial = disturb(field, number, kinds[number % len(kinds)], rng)
            done.append(trial)
            state = "; ".join(trial.wrong) or "as it should be"
            print(
                f"{number:4} {trial.kind:20} {trial.codes!s:12} {trial.seconds:6} s "
                f"({trial.seconds - field.seconds:+.1f})  {trial.again} done again  {state}",
                flush=True,
            )
        if given.ray_data:
            calm = ray_data_seconds(Path(name), lose_a_node=False)
            lost = ray_data_seconds(Path(name), lose_a_node=True)
            print(f"Ray Data: {calm:.1f} s undisturbed, {lost:.1f} s with a node lost")
    return tell_trials(done, given.json)


if __name__ == "__main__":
    sys.exit(main())
