"""Comparing segments with ground truth: what both sides may be, and one file a metric.

In: two sets of labels. Out: figures. Open `evaluate` first, then `pairs`, `sources`, `metrics`.
"""
