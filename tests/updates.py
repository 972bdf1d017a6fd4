"""A training step's update by PyTorch's own AdamW, in place of the kernel's."""

import torch

from flowquant.training.flow_matching import Training


@torch.no_grad()
def by_pytorch(training: Training) -> None:
    """`Training._adamw` as PyTorch has it: of float32 gradients, the copy in a pass of its own."""
    gradients = training._means_of or [gradient.vector for gradient in training._gradients]
    training._weights.grad = torch.cat([gradient.float() for gradient in gradients])
    training.optimizer.step()
    training._synchronise()
