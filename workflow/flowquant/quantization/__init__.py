"""From values to levels, from levels to bit-packed files, and to networks again."""
