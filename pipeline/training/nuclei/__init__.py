"""Training of the `unet` family on outlined nuclei.

In: a folder of pictures and 16-bit label maps. Out: its checkpoint. Open `train` first.
"""
