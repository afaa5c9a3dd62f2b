"""Triton kernels, each beside the file that launches it.

In: tensors of a CUDA device. Out: the same answer as the plain code. Open `dense_launch` first.
"""
