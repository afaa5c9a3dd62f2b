"""Model families, one file each: rule in, network, output out.

The table that names them is `checkpoints.families`; read `network.segmenter` for what they share.
Nothing here imports torch when the driver imports the package.
"""
