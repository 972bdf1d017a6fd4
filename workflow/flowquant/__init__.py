"""Weight quantization for flow-matching models: a package for each layer, a stage for each rule."""

# Here, because this file alone is no part of what makes a job stale (`runtime/digest.py`).
__version__ = "0.9.0"
