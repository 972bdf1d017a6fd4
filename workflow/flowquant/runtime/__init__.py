"""What every room stands on: errors, whole files, keyed draws, devices, processes."""
