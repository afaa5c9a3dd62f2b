"""From the bytes of a file to upright RGB pixels, and what is done to them before a model.

In: bytes. Out: `Decoded`. Open `decode` first; `sniff.FORMATS` is the table of kinds.
"""
