"""TIFF: which pages of a file are one picture, what is in a page, how large its pixels are."""
