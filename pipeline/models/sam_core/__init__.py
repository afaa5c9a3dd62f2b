"""Segment Anything: one network for all its makes, everything mode and prompts.

In: pictures, points and boxes. Out: masks with scores. Open `net` first.
"""
