"""The segmenter that most families share: fit, forward, merge, several views.

In: `Sample`s. Out: `Segmentation`s. Open `segmenter` first.
"""
