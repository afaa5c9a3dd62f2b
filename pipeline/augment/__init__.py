"""Augmented copies of labelled images: a chain of steps that moves pixels and masks as one.

In: a picture with its segments. Out: copies of both. Open `chain` first.
"""
