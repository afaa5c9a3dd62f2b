"""What families that are asked in words have in common.

In: phrases, detections. Out: segments of the asked categories. Open `segmenter` first.
"""
