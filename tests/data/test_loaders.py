"""Order and random numbers are functions of (seed, epoch, index), whoever asks and however often."""

import itertools

import pytest
import torch

from mnist_lit.data.keyed_random import AUGMENTATION, ORDER, permutation, uniform
from mnist_lit.data.loaders import Batch, EvalLoader, TrainLoader, shard

MASK = (1 << 64) - 1


def splitmix64(state: int) -> int:
    """The published finalizer, in Python's own integers."""
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def expected(seed: int, epoch: int, index: int, place: int, count: int, stream: int) -> float:
    start = 0
    for word in (seed, stream, epoch):
        start = splitmix64((start + word + 0x9E3779B97F4A7C15) & MASK)
    return (splitmix64(((index * count + place) * 0x9E3779B97F4A7C15 + start) & MASK) >> 40) / 2**24


def loader(rank: int = 0, world_size: int = 1, *, size: int = 103, batch_size: int = 17, seed: int = 5) -> TrainLoader:
    images = torch.arange(size * 784).view(size, 28, 28).to(torch.uint8)
    labels = torch.arange(size) % 10
    return TrainLoader(images, labels, torch.arange(size), batch_size, seed=seed, rank=rank, world_size=world_size)


def orders(batches: list[Batch]) -> list[list[int]]:
    return [batch.indices.tolist() for batch in batches]


def test_uniform_is_splitmix64() -> None:
    numbers = uniform(3, 7, torch.tensor([0, 41, 59_999]), 4, stream=AUGMENTATION)
    by_hand = [[expected(3, 7, index, place, 4, AUGMENTATION) for place in range(4)] for index in (0, 41, 59_999)]
    assert numbers.tolist() == by_hand


def test_uniform_fills_the_unit_interval_evenly() -> None:
    numbers = uniform(0, 0, torch.arange(100_000), 1, stream=AUGMENTATION).flatten()
    counts = torch.histc(numbers, bins=10, min=0, max=1)
    assert 0 <= numbers.min() < 1e-4 < 1 - 1e-4 < numbers.max() < 1
    assert ((counts - 10_000).square() / 10_000).sum() < 27.9  # χ², 9 degrees of freedom, p = 0.001


@pytest.mark.parametrize(("seed", "epoch", "stream"), [(1, 0, AUGMENTATION), (0, 1, AUGMENTATION), (0, 0, ORDER)])
def test_another_seed_epoch_or_use_gives_unrelated_numbers(seed: int, epoch: int, stream: int) -> None:
    indices = torch.arange(20_000)
    one, other = uniform(0, 0, indices, 1, stream=AUGMENTATION), uniform(seed, epoch, indices, 1, stream=stream)
    assert abs(torch.corrcoef(torch.stack((one.flatten(), other.flatten())))[0, 1]) < 0.03


def test_each_images_numbers_do_not_depend_on_its_neighbours() -> None:
    indices = torch.arange(50)
    whole = uniform(2, 3, indices, 6, stream=AUGMENTATION)
    assert torch.cat([uniform(2, 3, part, 6, stream=AUGMENTATION) for part in torch.split(indices, 7)]).equal(whole)


def test_an_epoch_hands_out_every_image_once_and_another_epoch_in_another_order() -> None:
    train = loader()
    first = torch.cat([batch.indices for batch in train])
    train.set_epoch(1)
    second = torch.cat([batch.indices for batch in train])
    assert first.sort().values.equal(torch.arange(103))
    assert second.sort().values.equal(torch.arange(103))
    assert not first.equal(second)
    assert first.equal(permutation(5, 0, 103))


def test_images_and_labels_belong_to_their_indices() -> None:
    train = loader()
    for batch in train:
        assert batch.images.equal(train.images[batch.indices])
        assert batch.labels.equal(train.labels[batch.indices])


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 18])
def test_shards_tile_each_step_on_any_number_of_devices(world_size: int) -> None:
    alone = orders(list(loader()))
    shards = [orders(list(loader(rank, world_size))) for rank in range(world_size)]
    assert [list(itertools.chain(*step)) for step in zip(*shards, strict=True)] == alone
    assert all(batch.size == len(step) for batch, step in zip(loader(0, world_size), alone, strict=True))


def test_shards_differ_by_one_at_most() -> None:
    for size in range(20):
        slices = [shard(size, rank, 4) for rank in range(4)]
        lengths = [part.stop - part.start for part in slices]
        assert sum(lengths) == size
        assert max(lengths) - min(lengths) <= 1


def test_a_saved_position_continues_where_it_stood() -> None:
    train = loader()
    train.set_epoch(4)
    whole = orders(list(train))
    walk = iter(train)
    for _ in range(3):
        next(walk)
    resumed = loader()
    resumed.load_state_dict(train.state_dict())
    resumed.set_epoch(4)
    assert orders(list(resumed)) == whole[3:]
    assert orders(list(resumed)) == whole  # once only


def test_a_saved_position_is_of_its_epoch_only() -> None:
    train = loader()
    walk = iter(train)
    next(walk)
    resumed = loader()
    resumed.load_state_dict(train.state_dict())
    resumed.set_epoch(1)
    assert len(list(resumed)) == len(resumed)


def test_an_abandoned_walk_leaves_no_trace() -> None:
    train = loader()
    next(iter(train))
    assert len(list(train)) == len(train) == 7


def test_without_shuffling_each_epoch_repeats_the_first() -> None:
    train = loader()
    first = orders(list(train))
    train.shuffle = False
    train.set_epoch(9)
    assert orders(list(train)) == first


def test_evaluation_is_in_the_datasets_order_and_unpadded() -> None:
    train = loader()
    for world_size in (1, 2, 3):
        parts = [
            EvalLoader(train.images, train.labels, train.indices, 10, rank=r, world_size=world_size)
            for r in range(world_size)
        ]
        seen = [batch.indices for step in zip(*parts, strict=True) for batch in step]
        assert torch.cat(seen).equal(torch.arange(103))
        assert all(batch.epoch is None for part in parts for batch in part)


def test_batches_are_made_where_the_images_are() -> None:
    train = loader()
    train.images, train.labels = train.images.to("meta"), train.labels.to("meta")
    evaluation = EvalLoader(train.images, train.labels, train.indices, 10)
    for batch in (*train, *evaluation):
        assert {batch.images.device.type, batch.labels.device.type, batch.indices.device.type} == {"meta"}
