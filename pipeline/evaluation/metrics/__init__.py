"""One file a metric, and the table that names them.

In: paired images. Out: figures. Open `table` first.
"""
