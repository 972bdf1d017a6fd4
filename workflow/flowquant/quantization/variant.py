"""A variant of a model, full precision or quantized, as a network that runs."""

from pathlib import Path

from torch import nn

from flowquant.config.model import ModelConfig
from flowquant.models.model import load_network, read_model
from flowquant.quantization.codebook import expand_all
from flowquant.quantization.packed_file import read_packed, read_quantized
from flowquant.quantization.packed_network import load_packed
from flowquant.runtime.tensors import read_metadata


def load_variant(path: Path, packed: bool = False) -> tuple[nn.Module, ModelConfig]:
    """The network of a model file or of a quantized model file, and its configuration.

    With ``packed`` a quantized model's matrices stay packed in memory and are expanded one at a
    time as needed, which takes less memory and more time. Results differ by rounding at most.

    Raises:
        UserError: if the file is unreadable, damaged or neither of the two.
    """
    if "packed" not in read_metadata(path):
        weights, config = read_model(path)
        return load_network(weights, config), config
    if packed:
        contents, metadata = read_packed(path, "model")
        config = ModelConfig.from_dict(metadata["model"])
        return load_packed(contents, config), config
    quantized, metadata = read_quantized(path, "model")
    config = ModelConfig.from_dict(metadata["model"])
    return load_network(expand_all(quantized), config), config
