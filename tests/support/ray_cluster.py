"""One local Ray cluster for the whole test session, with the job server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# The GPUs are a number to schedule by, no device is needed.
# A cluster needs a process that owns it: this one starts Ray, says where, and waits to be ended.
_OWNER = """
import json, socket, sys
import ray
with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
context = ray.init(
    address="local", num_cpus=4, num_gpus=2, include_dashboard=True, dashboard_port=port,
    _temp_dir=sys.argv[1],
    logging_level="ERROR", log_to_driver=False, object_store_memory=400_000_000,
)
address = ray.get_runtime_context().gcs_address
print(json.dumps({"address": address, "jobs": "http://" + context.dashboard_url}), flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class RayCluster:
    """Where to find it.

    Attributes:
        address: For RAY_ADDRESS.
        jobs: Address of the job server.
    """

    address: str
    jobs: str

    def environment(self) -> dict[str, str]:
        """For a command that shall use this cluster."""
        return {**os.environ, "RAY_ADDRESS": self.address, "RAY_AUTH_MODE": "disabled"}


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[RayCluster]:
    """Started at first use, stopped with the session."""
    folder = tempfile.mkdtemp(prefix="mm")  # the session's own is short, as Ray's sockets want it
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": str(ROOT)}
    environment.pop("RAY_ADDRESS", None)
    owner = subprocess.Popen(
        [sys.executable, "-c", _OWNER, folder],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert owner.stdout is not None
    assert owner.stdin is not None
    told = ""
    for told in owner.stdout:
        if told.startswith("{"):
            break
    assert told.startswith("{"), "the test cluster did not start"
    os.environ["RAY_AUTH_MODE"] = "disabled"
    try:
        yield RayCluster(**json.loads(told))
    finally:
        owner.stdin.close()
        try:
            owner.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(owner.pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)
