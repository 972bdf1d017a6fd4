"""Weight quantization for flow-matching models: one module per stage of the workflow."""
