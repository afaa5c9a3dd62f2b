"""The ledger: Parquet parts, receipts, and the manifest that says which are current.

In: rows of images and annotations. Out: parts, `Ledger` to read them. Open `ledger` first.
"""
