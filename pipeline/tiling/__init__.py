"""Cuts large images into tiles and puts their segments together again. No torch here.

In: a picture's size, segments of tiles. Out: windows, segments of the whole. Open `grid` first.
"""
