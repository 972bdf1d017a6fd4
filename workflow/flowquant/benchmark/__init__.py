"""Speed: the baseline and this project, timed, beside what the device can do."""
