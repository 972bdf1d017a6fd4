"""What looks at images: classifiers, features, metrics."""
