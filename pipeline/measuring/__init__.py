"""Measuring objects: shape, intensity and neighbours of every segment of a dataset."""
