"""From noise to images, and the images as files."""
