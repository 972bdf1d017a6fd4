"""Weight quantization for flow-matching models: a package for each layer, a stage for each rule."""
