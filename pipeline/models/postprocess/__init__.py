"""From a network's outputs to segments: semantic, instance, panoptic, boxes.

In: `Outputs`. Out: `Segment`s. Open `merge` first.
"""
