"""A connection to Ray for the length of a run: the given cluster, or a local one of our own."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.errors import ExecutionError
from pipeline.storage.processes import process_born, process_lives
from schemas.config.job import ExecutionConfig

from .prepare import one_line

_log = logging.getLogger(__name__)
_OWNER = "maskmill-owner"
"""In the folder of a local Ray: pid and start of the process that it belongs to."""
_PREFIX = "mm"
_TEMP = Path("/tmp")
"""Ray puts Unix sockets under it, and their paths are limited to 107 bytes."""


@contextmanager
def ray_session(options: ExecutionConfig) -> Iterator[None]:
    """Ray, for the length of the block.

    Without an address and RAY_ADDRESS a cluster is started for this run alone, never joined by
    accident, and stopped at the end. It listens on this machine only. A start that fails, as it
    does on a busy machine, is tried once more.

    Raises:
        ExecutionError: Ray cannot be reached or started, or broke down meanwhile.
    """
    # `uv run` would make Ray build an environment for each worker; they share ours.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DISABLE_IMPORT_WARNING", "1")
    import ray
    from ray.exceptions import RayError

    address = options.address or os.environ.get("RAY_ADDRESS", "")
    own = not address or address == "local"
    _answers(address)
    sweep_ray_folders()
    level = logging.INFO if options.ray_logs else logging.CRITICAL
    quiet: dict[str, Any] = {"logging_level": level, "log_to_driver": options.ray_logs}
    handlers = _handlers()
    folder = _connect(ray, "" if own else address, quiet)
    _restore(handlers)  # Ray's own end the process with the signal's number
    try:
        yield
    except RayError as error:
        raise ExecutionError(f"Ray: {one_line(error)}") from error
    finally:
        with suppress(RayError, OSError):
            ray.shutdown()
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


def sweep_ray_folders() -> None:
    """Removes what a local Ray of a run that was killed left behind."""
    for folder in _TEMP.glob(f"{_PREFIX}*"):
        try:
            pid, _, born = (folder / _OWNER).read_text("ascii").partition(" ")
            gone = not process_lives(int(pid)) or process_born(int(pid)) != born
        except (OSError, ValueError):
            continue
        if gone:
            shutil.rmtree(folder, ignore_errors=True)


def _connect(ray: Any, address: str, quiet: dict[str, Any]) -> str:
    """Connects or starts; returns the folder of a Ray of our own, else ""."""
    for last in (False, True):
        folder = "" if address else _own_folder()
        try:
            if address:
                ray.init(address=address, **quiet)
            else:
                ray.init(
                    address="local",
                    include_dashboard=False,
                    _node_ip_address="127.0.0.1",  # else it listens on every interface
                    _temp_dir=folder,
                    **quiet,
                )
        except (KeyboardInterrupt, SystemExit):
            # Its handler of SIGTERM, set while it starts, leaves with the signal's number.
            _give_up(ray, folder)
            raise KeyboardInterrupt from None
        except Exception as error:  # Ray raises bare Exceptions when a start takes too long
            _give_up(ray, folder)
            if last or address:
                raise ExecutionError(f"Ray: {one_line(error)}") from error
            _log.warning("Ray did not start, trying once more: %s", one_line(error))
        else:
            return folder
    raise AssertionError("the second try returns or raises")


def _give_up(ray: Any, folder: str) -> None:
    with suppress(Exception):
        ray.shutdown()
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


def _own_folder() -> str:
    folder = tempfile.mkdtemp(prefix=_PREFIX, dir=_TEMP)
    pid = os.getpid()
    (Path(folder) / _OWNER).write_text(f"{pid} {process_born(pid)}", "ascii")
    return folder


def _handlers() -> dict[int, Any]:
    return {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}


def _restore(handlers: dict[int, Any]) -> None:
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            if handler is not None:
                signal.signal(number, handler)


def _answers(address: str) -> None:
    """Ray itself would wait for minutes where nobody listens.

    Raises:
        ExecutionError: No connection to `host:port`.
    """
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise ExecutionError(
            f"no Ray cluster answers at {address}: {error.strerror or error}"
        ) from error
