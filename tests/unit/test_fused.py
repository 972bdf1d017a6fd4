"""The GPU kernels for inference, on the CPU through Triton's interpreter."""

import os

import pytest
import torch
import torch.nn.functional as F

# Read when the kernels are defined, so set before they are imported.
os.environ.setdefault("TRITON_INTERPRET", "1")

from flowquant.fused import add_norm, attention, encode

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="the interpreter is for CPUs")


@pytest.mark.parametrize(("tokens", "heads", "size"), [(49, 3, 32), (16, 2, 8), (64, 1, 48)])
def test_attention(tokens, heads, size):
    torch.manual_seed(0)
    qkv = torch.randn(2, tokens, 3 * heads * size)
    query, key, value = qkv.view(2, tokens, 3, heads, size).permute(2, 0, 3, 1, 4)
    wanted = F.scaled_dot_product_attention(query, key, value)
    wanted = wanted.transpose(1, 2).reshape(2, tokens, heads * size)
    torch.testing.assert_close(attention(qkv, heads), wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("rows", "width"), [(7, 24), (4, 384), (1, 100)])
def test_add_norm(rows, width):
    torch.manual_seed(0)
    x, y = torch.randn(rows, width) * 3 + 5, torch.randn(rows, width)
    weight, bias = torch.randn(width), torch.randn(width)
    wanted = F.layer_norm(x + y, (width,), weight, bias)
    torch.testing.assert_close(add_norm(x, y, weight, bias, 1e-5), wanted, atol=1e-5, rtol=1e-4)


def test_a_layer(tiny_model):
    torch.manual_seed(0)
    layer = tiny_model.build().transformer.layers[0].eval()
    x = torch.randn(3, 4, tiny_model.network.width)
    with torch.inference_mode():
        torch.testing.assert_close(encode(layer, x), layer(x), atol=1e-5, rtol=1e-4)
