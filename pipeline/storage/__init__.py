"""Every file and URI that the pipeline touches, local or remote, with its retries.

In: URIs. Out: bytes, listings, and errors that say what failed. Open `storage` first; it
is the only file that imports fsspec.
"""
