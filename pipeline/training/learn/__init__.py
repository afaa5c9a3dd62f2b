"""The training loop, and semantic networks in it; torch lives here.

In: batches. Out: a checkpoint that `--model` loads. Open `loop` first.
"""
