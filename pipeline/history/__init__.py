"""What became of a dataset: its versions, going back to one, letting old ones go, prune."""
