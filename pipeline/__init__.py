"""Batch segmentation: read → segment → write, one retryable unit a shard."""
