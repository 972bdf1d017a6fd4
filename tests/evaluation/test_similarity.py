"""PSNR and SSIM of quantized networks' images."""

import pytest
import torch

from flowquant.evaluation.similarity import image_similarity


def test_similarity_of_images() -> None:
    images = torch.randint(256, (5, 1, 8, 8), generator=torch.Generator().manual_seed(0))
    images = images.to(torch.uint8)
    assert image_similarity(images, images) == {"psnr": 100.0, "ssim": pytest.approx(1)}
    other = images.clone()
    other[0, 0, 0, 0] = 255 - other[0, 0, 0, 0]
    difference = (images.double() - other.double()).square().mean()
    found = image_similarity(images, other)
    assert found["psnr"] == pytest.approx(10 * torch.log10(255**2 / difference).item())
    assert found["ssim"] < 1
