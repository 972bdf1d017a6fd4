"""How far a result is from one in higher precision."""

from torch import Tensor


def distance(found: Tensor, wanted: Tensor) -> float:
    """‖found − wanted‖ / ‖wanted‖; not a number where one is none."""
    wanted = wanted.detach().double()
    return ((found.detach().double() - wanted).norm() / wanted.norm()).item()
