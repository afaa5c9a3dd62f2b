"""One run: plan, shards, workers, publishing. With `training.workers` the only Ray.

In: a `JobConfig`. Out: a published dataset. Open `run` first, then `plan` and `worker`.
"""
