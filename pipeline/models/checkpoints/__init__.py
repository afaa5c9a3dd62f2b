"""What a model is, found in its files. No torch here.

In: a name, hub id or folder. Out: `ModelInfo`. Open `families` first: the one table of families;
then `info`.
"""
