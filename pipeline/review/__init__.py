"""What a person should look at, and what came back: a selection out, corrections in.

In: a dataset, or a file of corrections. Out: a small dataset to export, or locks and a new version.
"""
