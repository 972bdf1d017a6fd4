"""Training a velocity network, and refining a quantized one."""
