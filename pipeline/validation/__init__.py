"""The checks behind `pipeline.validate`: tables, masks, exports."""
