"""What the indices of values would take entropy-coded, as something with a gradient.

The entropy of which levels are taken has none: a value takes its nearest level, wholly. So each
value is shared out among the levels c, exp(−(v − c)² ÷ τ) of it, and the entropy is that of these
shares, summed over a tensor (soft-to-hard vector quantization, Agustsson et al., arXiv 1704.00648).
Near the middle of two levels a value is drawn to the one that more values have.
"""

from torch import Tensor

# τ in mean squares of a group's values, times levels^(−2 ÷ d): about what an index loses, doubled.
SOFTNESS = 4.0


def temperatures(values: Tensor, levels: Tensor) -> Tensor:
    """τ of each group of values [R, n] with levels [R, L] or [R, L, d], [R, 1, 1]."""
    d = levels.shape[2] if levels.dim() == 3 else 1
    squares = values.square().mean(1)[:, None, None] * d
    return (SOFTNESS * squares * levels.shape[1] ** (-2 / d)).clamp(min=1e-12)


def soft_shares(values: Tensor, levels: Tensor, temperature: Tensor) -> Tensor:
    """The share of values [R, n] that each of levels [R, L] or [R, L, d] has; [R, L]."""
    vectors = levels if levels.dim() == 3 else levels[..., None]
    points = values.unflatten(1, (-1, vectors.shape[2]))
    # |v − c|² without |v|², which all levels have alike.
    distances = vectors.square().sum(2)[:, None] - 2 * points @ vectors.transpose(1, 2)
    return (-distances / temperature).softmax(dim=2).mean(dim=1)


def entropy(shares: Tensor) -> Tensor:
    """Bits of an index, for shares [M, L] that sum to 1; [M]."""
    return -(shares * shares.clamp(min=1e-12).log2()).sum(1)
