"""The network, files and decoding of the `unet` family.

In: a picture. Out: distance and foreground maps, then nuclei. Open `net` first.
"""
