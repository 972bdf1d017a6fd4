"""Images: where they come from, how they are decoded, and the dataset files that hold them."""
