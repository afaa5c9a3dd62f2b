"""The contract: records, categories, Arrow tables, config, manifests. Imports nothing of ours.

Open `records` first: what flows; then `tables`: what lies on disk.
"""
