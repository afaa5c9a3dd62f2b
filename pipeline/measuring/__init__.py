"""Measuring objects: shape, intensity and neighbours of every segment of a dataset.

In: a dataset, its pictures where intensities are asked for. Out: one row an object. Open `measure`
first, then `part`; `compare` is about two datasets.
"""
