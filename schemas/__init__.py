"""The contract: records, categories, Arrow tables, config, manifests. Imports nothing of ours."""
