"""The order of an epoch and every random number of training, as pure functions of (seed, epoch, index).

Nothing here has a random state, so neither workers, devices nor resumes can change what a step sees. The loaders hand
out whole batches from memory and know order, shard and position. No files, no Lightning.
"""

import torch
from torch import Tensor

__all__ = [
    "AUGMENTATION",
    "CALIBRATION",
    "CONTINENTAL",
    "CORRUPTION",
    "DROPOUT",
    "ELASTIC",
    "ORDER",
    "SPLIT",
    "permutation",
    "uniform",
]

# Streams: one integer per use, so that no two uses share a number.
ORDER, AUGMENTATION, DROPOUT, SPLIT, ELASTIC, CALIBRATION, CONTINENTAL, CORRUPTION = range(8)


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64, which torch's >> is not."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mix(x: Tensor) -> Tensor:
    """The finalizer of SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators")."""
    x = (x ^ _shift(x, 30)) * -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9 as a signed integer
    x = (x ^ _shift(x, 27)) * -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
    return x ^ _shift(x, 31)


_GOLDEN = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15, SplitMix64's increment


def _bits(counters: Tensor, *key: int) -> Tensor:
    """64 random bits for each int64 counter, from the SplitMix64 sequence that starts at the key's own place."""
    start = torch.tensor(0)
    for word in key:
        start = _mix(start + word + _GOLDEN)
    return _mix(counters * _GOLDEN + int(start))


def uniform(seed: int, epoch: int, indices: Tensor, count: int, *, stream: int) -> Tensor:
    """`count` numbers in [0, 1) for each index: float32 (B, count), on the device of `indices`, int64 (B,).

    >>> uniform(0, 3, torch.tensor([7, 7, 8]), 2, stream=AUGMENTATION).unique(dim=0).shape
    torch.Size([2, 2])
    """
    counters = indices[:, None] * count + torch.arange(count, device=indices.device)  # (B, count)
    return (_bits(counters, seed, stream, epoch) >> 40 & 0xFFFFFF).float() * 2.0**-24


def permutation(seed: int, epoch: int, size: int, *, stream: int = ORDER) -> Tensor:
    """The numbers 0 … size - 1 in the order of (seed, epoch): int64 (size,).

    >>> permutation(0, 1, 5).sort().values.tolist()
    [0, 1, 2, 3, 4]
    """
    return _bits(torch.arange(size), seed, stream, epoch).argsort(stable=True)
