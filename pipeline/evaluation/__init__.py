"""Comparing segments with ground truth: what both sides may be, and one file a metric."""
