"""What can be configured, and how it is said on a command line; no module here imports torch."""
