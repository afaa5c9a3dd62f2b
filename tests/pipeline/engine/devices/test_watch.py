"""Errors of a GPU: which end the process, which are of one picture, which are of memory."""

from __future__ import annotations

import pickle

import pytest

from pipeline.engine.devices.watch import DeviceLostError, DeviceWatch

STICKY = [
    ("CUDA error: an illegal memory access was encountered", True),
    ("CUDA error: device-side assert triggered", True),
    ("CUDA error: unspecified launch failure", True),
    ("NCCL error in: ProcessGroupNCCL.cpp:1, unhandled system error", True),
    ("CUDA error: uncorrectable ECC error encountered", False),
    ("CUDA error: all CUDA-capable devices are busy or unavailable", False),
    ("GPU is lost. Reboot the system to recover this GPU", False),
]


@pytest.mark.parametrize(("text", "blame"), STICKY)
@pytest.mark.parametrize("alone", [True, False])
def test_a_process_that_can_never_compute_again_ends(text, blame, alone):
    with pytest.raises(DeviceLostError) as caught:
        DeviceWatch().failed(RuntimeError(text), alone=alone)
    assert caught.value.blame is blame
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.blame) == (str(caught.value), blame)


def test_a_library_s_failure_counts_when_the_next_picture_meets_it():
    watch = DeviceWatch()
    error = RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED")
    watch.failed(error, alone=False)
    watch.failed(error, alone=True)
    watch.succeeded()
    watch.failed(error, alone=True)
    with pytest.raises(DeviceLostError):
        watch.failed(RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED"), alone=True)


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 2 GiB",
        "CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate",
        "shapes do not match",
        "the device name is unknown",
    ],
)
def test_other_errors_are_the_picture_s(text):
    watch = DeviceWatch()
    for _ in range(5):
        watch.failed(RuntimeError(text), alone=True)
