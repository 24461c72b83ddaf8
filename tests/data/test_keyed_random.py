"""Random numbers are SplitMix64's and depend on (seed, stream, epoch, index) alone."""

import pytest
import torch

from mnist_lit.data.keyed_random import (
    AUGMENTATION,
    CALIBRATION,
    CONTINENTAL,
    CORRUPTION,
    DROPOUT,
    HANDWRITING,
    ORDER,
    SLANT,
    SPLIT,
    derived_seed,
    permutation,
    uniform,
)

MASK = (1 << 64) - 1


def splitmix64(state: int) -> int:
    """The published finalizer, in Python integers."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def expected_bits(counter: int, seed: int, stream: int, epoch: int) -> int:
    start = 0
    for word in (seed, stream, epoch):
        start = splitmix64((start + word + 0x9E3779B97F4A7C15) & MASK)
    return splitmix64((counter * 0x9E3779B97F4A7C15 + start) & MASK)


def test_uniform_is_splitmix64() -> None:
    numbers = uniform(3, 7, torch.tensor([0, 41, 59_999]), 4, stream=AUGMENTATION)
    expected = [
        [(expected_bits(4 * index + column, 3, AUGMENTATION, 7) >> 40) / 2**24 for column in range(4)]
        for index in (0, 41, 59_999)
    ]
    assert numbers.tolist() == expected
    assert uniform(3, torch.tensor(7), torch.tensor([0, 41, 59_999]), 4, stream=AUGMENTATION).equal(numbers)


def test_derived_seeds_are_splitmix64_without_its_highest_bit() -> None:
    for index in range(20):
        bits = expected_bits(index, 3, DROPOUT, 7)
        assert derived_seed(3, 7, index, stream=DROPOUT) == bits & (MASK >> 1)


def test_a_permutation_sorts_the_numbers_of_its_key() -> None:
    bits = [expected_bits(index, 5, SPLIT, 2) for index in range(50)]
    signed = [number - (1 << 64) if number >> 63 else number for number in bits]
    assert permutation(5, 2, 50, stream=SPLIT).tolist() == sorted(range(50), key=signed.__getitem__)


def test_stream_numbers_never_change() -> None:
    streams = (ORDER, AUGMENTATION, DROPOUT, SPLIT, CALIBRATION, CONTINENTAL, CORRUPTION, HANDWRITING, SLANT)
    assert streams == (0, 1, 2, 3, 5, 6, 7, 8, 9)  # a renumbered stream would change every trained model


def test_uniform_fills_the_unit_interval_evenly() -> None:
    numbers = uniform(0, 0, torch.arange(100_000), 1, stream=AUGMENTATION).flatten()
    counts = torch.histc(numbers, bins=10, min=0, max=1)
    assert 0 <= numbers.min() < 1e-4 < 1 - 1e-4 < numbers.max() < 1
    assert ((counts - 10_000).square() / 10_000).sum() < 27.9  # χ², 9 degrees of freedom, p = 0.001


@pytest.mark.parametrize(("seed", "epoch", "stream"), [(1, 0, AUGMENTATION), (0, 1, AUGMENTATION), (0, 0, ORDER)])
def test_another_seed_epoch_or_stream_gives_uncorrelated_numbers(seed: int, epoch: int, stream: int) -> None:
    indices = torch.arange(20_000)
    one, other = uniform(0, 0, indices, 1, stream=AUGMENTATION), uniform(seed, epoch, indices, 1, stream=stream)
    assert abs(torch.corrcoef(torch.stack((one.flatten(), other.flatten())))[0, 1]) < 0.03


def test_an_images_numbers_do_not_depend_on_the_other_images() -> None:
    indices = torch.arange(50)
    together = uniform(2, 3, indices, 6, stream=AUGMENTATION)
    parts = [uniform(2, 3, part, 6, stream=AUGMENTATION) for part in torch.split(indices, 7)]
    assert torch.cat(parts).equal(together)


def test_a_permutation_holds_every_index_once_and_depends_on_each_part_of_its_key() -> None:
    shuffled = permutation(1, 2, 100)
    assert shuffled.sort().values.equal(torch.arange(100))
    assert shuffled.equal(permutation(1, 2, 100, stream=ORDER))
    for other in (permutation(0, 2, 100), permutation(1, 0, 100), permutation(1, 2, 100, stream=SPLIT)):
        assert not other.equal(shuffled)
