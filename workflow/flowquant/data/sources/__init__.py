"""One module per kind of source: each reads one on-disk format and writes a dataset file.

All have the same parameters, so that one rule calls them all.
"""
