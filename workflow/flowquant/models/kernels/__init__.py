"""Triton kernels for encoder layers, where general operations leave a GPU waiting.

All are bound by memory or by random numbers, so each reads its inputs once, writes its outputs
once, and makes four random numbers at a time. Dropout masks are functions of (seed, position).
Backward passes also sum their gradients over rows, in a fixed order, for the bias of the linear
layer before them. Numbers of rows, programs and warps are the best of those tried on an H200.
"""
