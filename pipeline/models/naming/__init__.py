"""Names masks by what they look like: crops, embeddings, nearest words and exemplars.

In: masks of a SAM. Out: categories with scores. Open `names` first.
"""
