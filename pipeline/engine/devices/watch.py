"""What an error of a GPU means: of this picture, or of the process that can never compute again."""

from __future__ import annotations

import re

_PROCESS_LOST = re.compile(
    r"illegal memory access|device-side assert|unspecified launch failure|misaligned address"
    r"|illegal instruction|launch timed out|hardware stack error|invalid program counter"
    r"|context is destroyed|driver shutting down|illegal address"
    r"|\bNCCL\b|ProcessGroupNCCL",
    re.IGNORECASE,
)
_DEVICE_LOST = re.compile(
    r"uncorrectable ECC|ECC error|device(?:\(s\) is/are| is) (?:busy|lost|unavailable)"
    r"|CUDA-capable devices are busy|CUDA-capable device\(s\)|no CUDA-capable device"
    r"|GPU is lost|fallen off the bus"
    r"|system not yet initialized|invalid device ordinal",
    re.IGNORECASE,
)
_LIBRARY = re.compile(r"\bcuDNN\b|CUDNN_STATUS|cuBLAS|CUBLAS_STATUS|cuSOLVER|CUSOLVER_STATUS", re.I)
_MEMORY = re.compile(r"out of memory|ALLOC_FAILED", re.IGNORECASE)


class DeviceLostError(RuntimeError):
    """This process cannot compute any more: its shard is to be done by another one.

    Attributes:
        blame: Whether a picture may have caused it; a broken device is no picture's fault.
    """

    def __init__(self, reason: str, *, blame: bool = True) -> None:
        super().__init__(reason)
        self.blame = blame

    def __reduce__(self) -> tuple[object, ...]:
        return _restore, (str(self), self.blame)


class DeviceWatch:
    """Tells errors of a picture from those that every further picture would meet as well.

    After an illegal address CUDA answers every call of the process with the same error: without
    this, the rest of a shard would become rows of `model_error`. A failure of cuDNN or cuBLAS may
    be of one shape alone, so it counts when the next picture meets it too.
    """

    def __init__(self) -> None:
        self._library_failures = 0

    def succeeded(self) -> None:
        """A batch came through."""
        self._library_failures = 0

    def failed(self, error: BaseException, *, alone: bool) -> None:
        """A batch did not.

        Args:
            error: Of the model.
            alone: It was a single picture.

        Raises:
            DeviceLostError: No picture will come through in this process.
        """
        text = f"{type(error).__name__}: {error}"
        if _MEMORY.search(text):
            return
        if _DEVICE_LOST.search(text):
            raise DeviceLostError(_line(text), blame=False) from error
        if _PROCESS_LOST.search(text) or type(error).__name__ == "AcceleratorError":
            raise DeviceLostError(_line(text)) from error
        if alone and _LIBRARY.search(text):
            self._library_failures += 1
            if self._library_failures > 1:
                raise DeviceLostError(_line(text)) from error


def _restore(reason: str, blame: bool) -> DeviceLostError:
    return DeviceLostError(reason, blame=blame)


def _line(text: str) -> str:
    return " ".join(text.split())[:300]
