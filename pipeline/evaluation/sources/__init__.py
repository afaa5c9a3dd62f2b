"""One file a kind of truth: COCO, panoptic, label maps, datasets of ours.

In: a URI. Out: images with segments. Open `source` first, then `open`.
"""
