"""Training from datasets: pictures and label maps are read here, networks learn in `learn`.

In: a dataset or a folder of maps. Out: a checkpoint that `--model` loads. Open `semantic` first;
`nuclei` is the embedded model's own training.
"""
