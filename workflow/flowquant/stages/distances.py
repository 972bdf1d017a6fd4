"""W₂ between each tensor of a model and its quantized form, by POT."""

from pathlib import Path

from flowquant.models.model import read_model
from flowquant.quantization.codebook import Codebook, effective_bits
from flowquant.quantization.describe import errors
from flowquant.quantization.error import wasserstein2_pot
from flowquant.quantization.packed_file import check_same_weights, read_quantized
from flowquant.runtime.files import write_json


def distances(
    model: Path,
    quantized: Path,
    output: Path,
    dataset: str,
    variant: str,
    training_seed: int = 0,
) -> None:
    """Measure the distance of every quantized tensor.

    Args:
        model: The full-precision model file.
        quantized: The quantized model file.
        output: JSON to write.
        dataset: Name to write into it.
        variant: Name to write into it.
        training_seed: The seed that the model was trained with, to write into it.

    Raises:
        UserError: if the two are not of the same network.
    """
    weights, _ = read_model(model)
    contents, metadata = read_quantized(quantized)
    check_same_weights(quantized, contents, model, weights)
    tensors = {}
    for name, content in contents.items():
        if isinstance(content, Codebook):
            tensors[name] = {
                "values": content.indices.numel(),
                "bits": content.bits,
                "variance": weights[name].double().var(correction=0).item(),
                **errors(content, weights[name], wasserstein2_pot),
            }
    report = {
        "dataset": dataset,
        "variant": variant,
        "training_seed": training_seed,
        "method": metadata["method"],
        "refined": bool(metadata.get("refine")),
        "effective_bits": effective_bits(contents),
        "tensors": tensors,
    }
    write_json(output, report)
