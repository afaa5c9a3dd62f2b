"""A worker's device: where it runs, who shares it, what is compiled for it, when it is lost."""
