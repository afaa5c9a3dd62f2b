"""Masks as COCO run lengths and as runs of a column: encode, overlap, refine, resample.

In: pixels, run lengths, segments. Out: the same, changed. Open `codec` first.
"""
