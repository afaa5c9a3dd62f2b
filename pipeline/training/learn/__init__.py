"""The training loop of semantic networks; torch lives here.

In: batches. Out: a checkpoint that `--model` loads. Open `loop` first.
"""
