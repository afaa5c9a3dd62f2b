"""The Triton kernels: interpreted on any machine, and on a GPU where there is one."""

from __future__ import annotations

import pytest
from kernel_builds import built_for_a_gpu

SIGNATURES = {
    "best_cells": "pictures=*i64 best=*i32 sums=*i64 most=*i32 known=i32 categories=i32",
    "best_values": "pictures=*i64 best=*i32 labels=*u8 categories=i32",
    "best_queries": "pictures=*i64 order=*i64 scores=*fp32 labels=*i16 visible=*i32 own=*i32 "
    "queries=i32 mask_threshold=fp32",
    "renumber_kernel": "pictures=*i64 labels=*u8 tables=*i64 queries=i32",
    "cells_above": "masks=*i64 extent=*i64 cut=fp32",
    "paint_masks": "masks=*i64 tiles=*i64 pixels=*u8 sums=*i64 known=i32 cut=fp32",
    "paint_boxes_kernel": "boxes=*i64 readings=*fp32 tiles=*i64 pixels=*u8 threshold=fp32",
    "judge_masks": "small=*E extent=*i32 y_cells=*i32 y_weights=*fp32 x_cells=*i32 x_weights=*fp32 "
    "found=*i32 masks=i32 height=i32 width=i32 rows=i32 columns=i32 down=i32 cut=fp32 offset=fp32",
    "paint_small_kernel": "small=*E masks=*i64 tiles=*i64 y_cells=*i32 y_weights=*fp32 "
    "x_cells=*i32 x_weights=*fp32 pixels=*u8 height=i32 width=i32 rows=i32 columns=i32 cut=fp32",
    "run_regions": "flat=*u8 places=*i64 count=i32 planes=*i64 known=i32 steps=i32 none=i32 "
    "regions=*i32 plane_of=*i32",
    "run_numbers": "places=*i64 plane_of=*i32 count=i32 end=i32 planes=*i64 known=i32 "
    "regions=*i32 order=*i64 first=*i64 none=i32 pixels=*i64 values=*i64 sizes=*i32 table=*i32",
    "run_text": "values=*i64 sizes=*i32 ends=*i64 count=i32 text=*u8",
}
"""Kernel → types of what it is launched with; the rest are constants."""

CONSTANTS = {
    "fields": 13,
    "probabilities": True,
    "size": 256,
    "size_x": 8,
    "size_y": 64,
    "two_steps": True,
}


def test_interpreted_they_give_what_the_plain_way_gives(interpreted):
    assert interpreted("kernel_checks") == ""


@pytest.mark.usefixtures("own_kernel_cache")
@pytest.mark.parametrize("element", ["float32", "bfloat16"])
def test_they_compile_for_a_gpu_that_is_not_here(element):
    from pipeline.models.kernels import dense, masks, runs, sam

    modules = (dense, masks, runs, sam)
    for name, given in SIGNATURES.items():
        (kernel,) = (getattr(each, name) for each in modules if hasattr(each, name))
        if element == "float32" and "*E" not in given:
            continue  # compiled once, as a GPU runs it
        own = given.replace("*E", {"float32": "*fp32", "bfloat16": "*bf16"}[element])
        types = dict(item.split("=") for item in own.split())
        assert list(types) == kernel.arg_names[: len(types)]
        others = [argument for argument in kernel.arg_names if argument not in types]
        constants = {each: CONSTANTS.get(each, getattr(dense.tl, element)) for each in others}
        assert built_for_a_gpu(kernel, types, constants)


@pytest.mark.gpu
def test_on_a_gpu_they_give_what_the_plain_way_gives():
    from kernel_checks import check

    check("cuda")
