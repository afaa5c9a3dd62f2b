"""Whether a run wants Ray, a connection to it, and what Ray's own metrics show of the run."""

from __future__ import annotations

import logging
import math
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ExecutionError
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.storage.processes import process_born, process_lives
from schemas.config.job import ExecutionConfig, JobConfig

from .prepare import one_line

_log = logging.getLogger(__name__)
_OWNER = "maskmill-owner"
"""In the folder of a local Ray: pid and start of the process that it belongs to."""
_PREFIX = "mm"
_TEMP = Path("/tmp")
"""Ray puts Unix sockets under it, and their paths are limited to 107 bytes."""

RAY_START_S = 8.0
"""What Ray and its workers cost before the first picture, beyond loading the model: 8 to 10 s were
measured on machines of 2 and 16 cores."""
_WORKER_S = 2.0
"""Of work at least, for a worker to be started beside another: less than it takes to start, as the
estimate is rough and a model may be slow for its weights."""
_IMAGE_S = 0.05
"""Reading, rows and writing of an image, whatever the model."""
_MEGABYTE_S = {"cpu": 0.02, "cuda": 0.0002}
"""A network's time for an image goes with its weights, roughly: seconds a MB of them."""
_FILE_BYTES = 1 << 21
"""A file of so many bytes counts as an image, a larger one as several."""


def on_ray(options: ExecutionConfig) -> bool:
    """Whether the job asks for Ray, or its environment does."""
    return options.on_ray or bool(os.environ.get("RAY_ADDRESS") and not options.in_process)


def load_ahead(options: ExecutionConfig) -> None:
    """Begins to import Ray, where a run is sure to want it, while it still lists its input."""
    if on_ray(options):
        _set_environment()
        threading.Thread(target=import_module, args=("ray",), name="ray", daemon=True).start()


def is_small(
    config: JobConfig,
    info: ModelInfo,
    sizes: npt.NDArray[np.int64],
    *,
    count_gpus: Callable[[], int],
) -> bool:
    """Whether labelling takes less time in one process than Ray takes to start.

    An estimate from the number of images, the sizes of their files and of the weights. A single
    image is always small, Ray would give it one worker as well. Tiles never are: they say that
    pictures are large.

    Args:
        config: The job.
        info: Its model.
        sizes: Bytes of each image that is left to do, int64; -1 = unknown.
        count_gpus: GPUs of this machine; asked only where the answer depends on it.
    """
    if config.tiling.size:
        return False
    images = int(np.maximum(1, -(-sizes // _FILE_BYTES)).sum())

    def quick(device: str) -> bool:
        return images * _image_seconds(config, info, device) <= RAY_START_S

    if images == 1 or quick("cpu"):
        return True
    return config.model.device != "cpu" and quick("cuda") and count_gpus() > 0


def workers_for(config: JobConfig, info: ModelInfo, images: int, device: str) -> int:
    """Workers that have enough to do to be worth their start; 0 = as many as there is room for.

    By the same estimate: each of them imports and loads before it helps, and takes processors from
    the others meanwhile.

    Args:
        config: The job; where it asks for a number of workers, that one holds.
        info: Its model.
        images: That are left to do; 0 = not known.
        device: Of the workers.
    """
    execution = config.execution
    if execution.workers or execution.max_workers or config.tiling.size or not images:
        return 0
    seconds = images * _image_seconds(config, info, device.partition(":")[0])
    return max(1, math.ceil(seconds / _WORKER_S))


def _image_seconds(config: JobConfig, info: ModelInfo, device: str) -> float:
    tta = config.model.tta
    looks = len(tta.scales) * 2 ** len(tta.flips) + config.augment.copies
    return looks * (_IMAGE_S + _MEGABYTE_S[device] * _megabytes(info))


def _megabytes(info: ModelInfo) -> float:
    """Of the weights of a model and its partner, as far as this machine has them."""
    found = 0.0
    for one in filter(None, (info, info.partner)):
        for name in one.weights:
            with suppress(OSError):
                found += (Path(one.folder) / name).stat().st_size / 1e6
    return found


def live_figures(dataset: str, total: int) -> Callable[[int, int], None]:
    """Figures of a run among Ray's own metrics, while it lasts.

    Args:
        dataset: Absolute URI, a tag of each figure.
        total: Images in all.

    Returns:
        To be called with images done and failed so far.
    """
    from ray.util.metrics import Gauge

    gauge = Gauge("maskmill_images", "Images of the run.", tag_keys=("dataset", "status"))

    def show(done: int, failed: int) -> None:
        for status, number in (("done", done), ("failed", failed), ("left", total - done)):
            gauge.set(number, {"dataset": dataset, "status": status})

    return show


@contextmanager
def ray_session(options: ExecutionConfig) -> Iterator[None]:
    """Ray, for the length of the block.

    Without an address and RAY_ADDRESS a cluster is started for this run alone, never joined by
    accident, and stopped at the end. It listens on this machine only. A start that fails, as it
    does on a busy machine, is tried once more.

    Raises:
        ExecutionError: Ray cannot be reached or started, or broke down meanwhile.
    """
    _set_environment()
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


def _set_environment() -> None:
    """What Ray reads when it is imported."""
    # `uv run` would make Ray build an environment for each worker; they share ours.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DISABLE_IMPORT_WARNING", "1")
    # A Ray of our own would start a Python for every processor, of which a run may need one.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")


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
