"""One local Ray cluster for the whole test session, with the job server."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

_START_S = 60.0


@dataclass(frozen=True)
class RayCluster:
    """Where to find it.

    Attributes:
        address: For RAY_ADDRESS.
        jobs: Address of the job server.
        folder: Of its sockets and logs; in the command lines of its own processes.
    """

    address: str
    jobs: str
    folder: str

    def environment(self) -> dict[str, str]:
        """For a command that shall use this cluster."""
        return {**os.environ, "RAY_ADDRESS": self.address, "RAY_AUTH_MODE": "disabled"}

    def workers(self) -> list[int]:
        """Process ids of its actors: Ray names a process after what it runs."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                title = (entry / "cmdline").read_bytes()
                parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
                raylet = Path("/proc", parent, "cmdline").read_bytes()
            except (OSError, ValueError):
                continue
            if title.startswith(b"ray::_Actor") and self.folder.encode() in raylet:
                found.append(int(entry.name))
        return found


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    """Started at first use, stopped with the session."""
    folder = tempfile.mkdtemp(prefix="mm")  # the session's own is short, as Ray's sockets want it
    ports = _free_ports(4)
    cluster = RayCluster(f"127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}", folder)
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    log = Path(folder, "start.log")
    with log.open("wb") as out:
        head = subprocess.Popen(
            [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block"),
                # Ports of our own: Ray's fixed ones belong to whoever came first on this machine.
                *("--node-ip-address=127.0.0.1", f"--port={ports[0]}"),
                *(f"--dashboard-port={ports[1]}", f"--dashboard-agent-listen-port={ports[2]}"),
                *(f"--ray-client-server-port={ports[3]}", "--min-worker-port=0"),
                *("--max-worker-port=0", f"--temp-dir={folder}", "--include-dashboard=true"),
                # The GPUs are a number to schedule by, no device is needed.
                *("--num-cpus=4", "--num-gpus=2", "--object-store-memory=400000000"),
                "--disable-usage-stats",
            ],
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        _wait(cluster, head, log)
        os.environ["RAY_AUTH_MODE"] = "disabled"
        yield cluster
    finally:
        head.terminate()
        try:
            head.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(cluster: RayCluster, head: subprocess.Popen[bytes], log: Path) -> None:
    """Until the job server answers and its agent is there."""
    deadline = time.monotonic() + _START_S
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while True:
        try:
            opener.open(f"{cluster.jobs}/api/jobs/", timeout=5).close()
        except OSError:
            if head.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the test cluster did not start: {log.read_text()}") from None
            time.sleep(0.1)
        else:
            return


def _free_ports(number: int) -> list[int]:
    with ExitStack() as held:
        probes = [held.enter_context(socket.socket()) for _ in range(number)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
