"""Loaders hand out every image once, in an order that depends on (seed, epoch) and not on the number of processes."""

import itertools

import pytest
import torch

from mnist_lit.data.keyed_random import permutation
from mnist_lit.data.loaders import Batch, EvalLoader, TrainLoader, shard


def loader(rank: int = 0, world_size: int = 1, *, size: int = 103, batch_size: int = 17, seed: int = 5) -> TrainLoader:
    images = torch.arange(size * 784).view(size, 28, 28).to(torch.uint8)
    labels = torch.arange(size) % 10
    return TrainLoader(images, labels, torch.arange(size), batch_size, seed=seed, rank=rank, world_size=world_size)


def indices_of(batches: list[Batch]) -> list[list[int]]:
    return [batch.indices.tolist() for batch in batches]


def test_each_epoch_hands_out_every_image_once_in_its_own_order() -> None:
    train = loader()
    first = torch.cat([batch.indices for batch in train])
    train.set_epoch(1)
    second = torch.cat([batch.indices for batch in train])
    assert first.sort().values.equal(torch.arange(103))
    assert second.sort().values.equal(torch.arange(103))
    assert not first.equal(second)
    assert first.equal(permutation(5, 0, 103))


def test_images_and_labels_match_their_indices() -> None:
    train = loader()
    for batch in train:
        assert batch.images.equal(train.images[batch.indices])
        assert batch.labels.equal(train.labels[batch.indices])


@pytest.mark.parametrize("world_size", [1, 2, 3, 4, 18])
def test_shards_tile_each_batch_for_any_number_of_processes(world_size: int) -> None:
    single = indices_of(list(loader()))
    shards = [indices_of(list(loader(rank, world_size))) for rank in range(world_size)]
    assert [list(itertools.chain(*step)) for step in zip(*shards, strict=True)] == single
    assert all(batch.size == len(step) for batch, step in zip(loader(0, world_size), single, strict=True))


def test_shard_sizes_differ_by_at_most_one() -> None:
    for size in range(20):
        slices = [shard(size, rank, 4) for rank in range(4)]
        lengths = [part.stop - part.start for part in slices]
        assert sum(lengths) == size
        assert max(lengths) - min(lengths) <= 1


def test_a_saved_position_resumes_within_its_epoch() -> None:
    train = loader()
    train.set_epoch(4)
    complete = indices_of(list(train))
    iterator = iter(train)
    for _ in range(3):
        next(iterator)
    resumed = loader()
    resumed.load_state_dict(train.state_dict())
    resumed.set_epoch(4)
    assert indices_of(list(resumed)) == complete[3:]
    assert indices_of(list(resumed)) == complete  # the saved position is used once


def test_a_saved_position_does_not_apply_to_another_epoch() -> None:
    train = loader()
    next(iter(train))
    resumed = loader()
    resumed.load_state_dict(train.state_dict())
    resumed.set_epoch(1)
    assert len(list(resumed)) == len(resumed)


def test_an_abandoned_iteration_does_not_affect_the_next() -> None:
    train = loader()
    next(iter(train))
    assert len(list(train)) == len(train) == 7


def test_without_shuffling_every_epoch_repeats_the_first() -> None:
    train = loader()
    first = indices_of(list(train))
    train.shuffle = False
    train.set_epoch(9)
    assert indices_of(list(train)) == first


def test_evaluation_keeps_the_datasets_order_and_pads_nothing() -> None:
    train = loader()
    for world_size in (1, 2, 3):
        parts = [
            EvalLoader(train.images, train.labels, train.indices, 10, rank=r, world_size=world_size)
            for r in range(world_size)
        ]
        seen = [batch.indices for step in zip(*parts, strict=True) for batch in step]
        assert torch.cat(seen).equal(torch.arange(103))
        assert all(batch.epoch is None for part in parts for batch in part)


def test_batches_are_on_the_device_of_the_images() -> None:
    train = loader()
    train.images, train.labels = train.images.to("meta"), train.labels.to("meta")
    evaluation = EvalLoader(train.images, train.labels, train.indices, 10)
    for batch in (*train, *evaluation):
        assert {batch.images.device.type, batch.labels.device.type, batch.indices.device.type} == {"meta"}
