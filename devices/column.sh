#!/usr/bin/env bash
# column.sh N: the Fashion-MNIST column after training on the first N GPUs.
exec "${PYTHON:-python3}" "$(dirname "$0")/column.py" "$@"
