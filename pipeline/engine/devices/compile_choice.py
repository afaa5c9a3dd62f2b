"""Whether the model of a run is compiled, where the job leaves that to the run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from pipeline.storage.errors import MissingError
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join

GAIN = 0.25
"""Of a picture's time on the GPU that compiling saves: 23 to 30 % (docs/performance.md)."""
COLD_S, WARM_S = 45.0, 8.0
"""Until a compiled model answers: with nothing built before, and with its code on disk."""


class CompileChoice:
    """Whether the model of a run is compiled (`model.compile = "auto"`), decided once.

    The first worker that has measured leaves the answer beside the receipts. The others, and a run
    that goes on where this one was killed, do as it says: no label depends on a clock of its own.

    Args:
        storage: File access.
        uri: Of the answer, as `compile_choice` gives it.
        clock: Seconds.

    Attributes:
        told: A line for a person, "" where another worker decided.
    """

    def __init__(
        self, storage: Storage, uri: str, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._storage = storage
        self._uri = uri
        self._clock = clock
        self.told = ""

    def settle(
        self, segment: Callable[[], object], *, pictures: int, images: int, warm: bool
    ) -> bool | None:
        """The answer; measures only where nobody has. None where the model failed.

        Args:
            segment: Labels some pictures with the model as it is; nothing comes of its answer.
            pictures: How many.
            images: That a worker has to do.
            warm: The model was compiled before, and its code is on disk.

        Raises:
            StorageError: The dataset cannot be read or written.
        """
        standing = self._read()
        if standing is not None:
            return standing
        try:
            for _ in range(2):  # what is new to a model takes longer
                segment()
            started = self._clock()
            segment()
        except Exception:  # found again where one picture's error is told from the device's
            return None
        image_s = (self._clock() - started) / pictures
        compiled = images * image_s * GAIN > (WARM_S if warm else COLD_S)
        if not self._storage.create(self._uri, json.dumps({"compile": compiled}).encode()):
            return bool(self._read())
        self.told = (
            f"the model is {'' if compiled else 'not '}compiled: {images} images a worker, "
            f"{1000 * image_s:.1f} ms each (model.compile)"
        )
        return compiled

    def _read(self) -> bool | None:
        try:
            return json.loads(self._storage.read(self._uri))["compile"] is True
        except (MissingError, ValueError, KeyError, TypeError):
            return None


def compile_folder(cache: str, weights_sha256: str) -> Path | None:
    """Where compiled code of a model is kept; None = where PyTorch puts it.

    Args:
        cache: `execution.compile_cache`.
        weights_sha256: Of the model, "" where it has none.
    """
    return Path(cache) / (weights_sha256[:16] or "weightless") if cache else None


def compile_choice(dataset: str, run: str) -> str:
    """URI of what was decided for a run with this fingerprint; there until it has published."""
    return join(dataset, "receipts", f"compile-{run}.json")
