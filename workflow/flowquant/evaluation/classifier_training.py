"""Training a classifier on real images, with shifts and flips."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from flowquant.config.classifier import ClassifierConfig
from flowquant.data.dataset import Split, place
from flowquant.evaluation.classifier import classify
from flowquant.runtime import random
from flowquant.runtime.errors import UserError


def augment(images: Tensor, shift: int, flip: bool, draws: torch.Generator) -> Tensor:
    """Move each image by up to ``shift`` pixels, filling with its edge, and maybe mirror it.

    Images are uint8 [B, C, H, W], before and after; with ``flip`` half of them are mirrored, left
    to right. ``draws`` is on their device.
    """
    count, _, height, width = images.shape
    device = images.device
    if flip:
        mirrored = torch.rand(count, 1, 1, 1, generator=draws, device=device) < 0.5
        images = torch.where(mirrored, images.flip(3), images)
    moves = torch.randint(-shift, shift + 1, (2, count, 1), generator=draws, device=device)
    rows = (torch.arange(height, device=device) + moves[0]).clamp(0, height - 1)
    columns = (torch.arange(width, device=device) + moves[1]).clamp(0, width - 1)
    index = torch.arange(count, device=device)[:, None, None]
    return images[index, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def fit(
    network: nn.Module, split: Split, settings: ClassifierConfig, seed: int, device: torch.device
) -> None:
    """Train in place: cross-entropy, AdamW, one-cycle learning rate, whole batches only.

    The network, of `build_classifier` and on the device, ends in evaluation mode; a GPU computes in
    bfloat16. The seed is that of order, augmentation and dropout.
    """
    split = place(split, device)
    images, labels = split.images, split.labels
    steps = len(images) // settings.batch
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.epochs * steps
    )
    network.train()
    with tqdm(total=settings.epochs * steps, desc="classifier", unit="step", mininterval=1) as bar:
        for epoch in range(settings.epochs):
            draws = random.generator(seed, "classifier epoch", epoch, device)
            order = torch.randperm(len(images), generator=draws, device=device)
            torch.manual_seed(random.key(seed, "classifier dropout", epoch))
            for chosen in order[: steps * settings.batch].view(steps, settings.batch):
                rows = chosen.to(images.device)
                batch = augment(images[rows].to(device), settings.shift, settings.flip, draws)
                with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                    loss = F.cross_entropy(classify(network, batch), labels[rows].to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                bar.update()
            if not math.isfinite(loss.item()):
                raise UserError(
                    f"classifier after epoch {epoch + 1}",
                    found=f"a loss of {loss.item()}",
                    expected="a finite one",
                    remedy="Lower `classifier.learning_rate`.",
                )
    network.eval()
