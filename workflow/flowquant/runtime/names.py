"""Names of devices and precisions, for those who must not import torch."""

from typing import Literal

DeviceName = Literal["auto", "cuda", "cpu"]
Precision = Literal["float32", "tf32", "bfloat16"]
# Of a network that is only evaluated.
SamplingPrecision = Literal["auto", "float32", "tf32", "bfloat16", "fp8"]
