"""Counter-based random numbers: every shuffle and every draw is a pure function of (seed, stream, epoch, index).

The numbers of a stateful generator depend on all earlier draws: a resumed run, another device or another batch size
would see different images. Here a number depends on its key alone, so there is no generator state to save or to keep
in sync between processes. The hash is SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number
generators"): number n of a sequence is mix(start + n·γ), where the increment γ is 2⁶⁴ divided by the golden ratio, made
odd, and flipping any input bit of `mix` flips about half of its output bits. Unlike most generators, it reaches the
n-th number without computing the ones before it. Hashing seed, stream and epoch into `start`, one word after the
other, gives each combination its own sequence. Written by hand because torch's generators are stateful and differ
between CPU and GPU; int64 arithmetic wraps modulo 2⁶⁴ on every device, so the bits agree everywhere.
"""

import torch
from torch import Tensor

# Streams: one number per use, so that no two uses share random numbers. Never renumber them; 4 is no longer in use.
ORDER, AUGMENTATION, DROPOUT, SPLIT = 0, 1, 2, 3
CALIBRATION, CONTINENTAL, CORRUPTION, HANDWRITING, SLANT = 5, 6, 7, 8, 9

_GAMMA = -0x61C8864680B583EB  # 0x9E3779B97F4A7C15 as a signed integer


def uniform(seed: int, epoch: int | Tensor, indices: Tensor, count: int, *, stream: int) -> Tensor:
    """`count` numbers in [0, 1) per index: float32 (B, count), on the device of `indices`, int64 (B,).

    epoch: a number, or an int64 scalar tensor on the same device.

    >>> uniform(0, 3, torch.tensor([7, 7, 8]), 2, stream=AUGMENTATION).unique(dim=0).shape
    torch.Size([2, 2])
    """
    counters = indices[:, None] * count + torch.arange(count, device=indices.device)  # (B, count)
    return (_bits(counters, seed, stream, epoch) >> 40 & 0xFFFFFF).float() * 2.0**-24  # float32 holds 24 bits


def permutation(seed: int, epoch: int, size: int, *, stream: int = ORDER) -> Tensor:
    """The numbers 0 … size - 1, shuffled by (seed, epoch): int64 (size,)."""
    return _bits(torch.arange(size), seed, stream, epoch).argsort(stable=True)


def derived_seed(seed: int, epoch: int | Tensor, index: int, *, stream: int) -> int:
    """A seed for a stateful generator, from (seed, stream, epoch, index): for code that draws its own numbers."""
    return int(_bits(torch.tensor([index]), seed, stream, epoch)) & 0x7FFF_FFFF_FFFF_FFFF


def _bits(counters: Tensor, *key: int | Tensor) -> Tensor:
    """64 random bits per int64 counter, from the sequence that the key selects."""
    start = torch.tensor(0)
    for word in key:
        start = _mix(start + word + _GAMMA)
    return _mix(counters * _GAMMA + start)


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finalizer, on int64."""
    x = (x ^ _logical_shift(x, 30)) * -0x40A7B892E31B1A47  # 0xBF58476D1CE4E5B9 as a signed integer
    x = (x ^ _logical_shift(x, 27)) * -0x6B2FB644ECCEEE15  # 0x94D049BB133111EB
    return x ^ _logical_shift(x, 31)


def _logical_shift(x: Tensor, bits: int) -> Tensor:
    """Right shift that fills with zeros; torch's >> copies the sign bit."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
