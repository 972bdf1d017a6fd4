"""One module per kind of source: each reads one on-disk format and writes a dataset file."""
