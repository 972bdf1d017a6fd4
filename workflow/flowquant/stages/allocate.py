"""Choose a width for each tensor under a budget of effective bits."""

from pathlib import Path

from flowquant.quantization.allocation import Option, Sensitivity, choose_widths
from flowquant.runtime.files import read_json, write_json


def allocate(sensitivity: Path, output: Path, variant: str, budget: float) -> None:
    """Allocate widths, greedily by velocity error saved per bit.

    Args:
        sensitivity: The file that `sensitivity` wrote.
        output: JSON to write: the width of each tensor and its velocity error.
        variant: Name to write into the file.
        budget: Most effective bits per parameter, over the whole model.

    Raises:
        UserError: if the budget is below the least possible, which the message names.
    """
    measured = read_json(sensitivity, Sensitivity)
    options = {
        name: [
            Option(choice.width, choice.stored_bits, choice.velocity_error)
            for choice in entry.options
        ]
        for name, entry in measured.tensors.items()
    }
    chosen = choose_widths(options, measured.fixed_bits, measured.parameters, budget)
    spent = measured.fixed_bits + sum(option.stored_bits for option in chosen.values())
    report = {
        "dataset": measured.dataset,
        "variant": variant,
        "budget": budget,
        "effective_bits": spent / measured.parameters,
        "tensors": {
            name: {
                "width": option.width,
                "values": measured.tensors[name].values,
                "velocity_error": option.distortion,
            }
            for name, option in chosen.items()
        },
    }
    write_json(output, report)
