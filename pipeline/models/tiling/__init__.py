"""A model that sees a large picture in tiles, by blended maps or by stitched segments.

In: a large `Sample`. Out: its `Segmentation`. Open `tiled` first.
"""
