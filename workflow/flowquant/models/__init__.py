"""Velocity networks: the path they follow, the solvers that integrate them, their files."""
