"""Scores of images: classifiers, features, metrics, similarity."""
