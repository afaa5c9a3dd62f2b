"""The checks behind `pipeline.validate`: tables, masks, exports.

In: a dataset. Out: `Findings`, one line a broken rule. Open `validate` first.
"""
