"""Pixels in, pixels out: augmentation and tiling. No torch here."""
