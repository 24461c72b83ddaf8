"""Loaders hand out every image once, in an order that depends on (seed, epoch) and not on the number of processes."""

import dataclasses
import itertools
import math
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.apply_func import move_data_to_device
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from mnist_lit.data.keyed_random import permutation
from mnist_lit.data.loaders import (
    Batch,
    DeferredBatch,
    EvalLoader,
    TrainLoader,
    check_batch_norm,
    loss_scale,
    shard,
)
from mnist_lit.errors import InputError
from mnist_lit.model import STD, standardize

APART = 2**20  # positions from one batch of another loader to the next


def loader(rank: int = 0, world_size: int = 1, *, size: int = 103, batch_size: int = 17, seed: int = 5) -> TrainLoader:
    images = torch.arange(size * 784).view(size, 28, 28).to(torch.uint8)
    labels = torch.arange(size) % 10
    where: Any = {"rank_and_world_size": lambda: (rank, world_size)}
    return TrainLoader(images, labels, torch.arange(size), batch_size, seed=seed, **where)


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
        x, y = batch
        assert x.equal(standardize(train.images[batch.indices]))
        assert batch.images.equal(train.images[batch.indices])
        assert y.equal(train.labels[batch.indices])


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


def test_a_batch_that_was_yielded_but_not_trained_is_not_counted() -> None:
    train = loader()
    batches = iter(train)
    for done in range(3):
        next(batches)
        train.trained = lambda done=done: done
        assert train.state_dict() == {"epoch": 0, "position": done, "batch_size": 17}
        train.trained = lambda done=done: done + 1
        assert train.state_dict() == {"epoch": 0, "position": done + 1, "batch_size": 17}


def test_a_position_is_kept_until_the_resumed_epoch_begins() -> None:
    train = loader()
    train.load_state_dict({"epoch": 1, "position": 3, "batch_size": 17})
    assert train.state_dict() == {"epoch": 1, "position": 3, "batch_size": 17}
    train.set_epoch(1)
    assert train.state_dict() == {"epoch": 1, "position": 3, "batch_size": 17}
    assert len(list(train)) == 4
    train.set_epoch(2)
    assert train.state_dict() == {"epoch": 2, "position": 0, "batch_size": 17}


def test_an_epoch_is_continued_with_the_same_batch_size_only() -> None:
    train = loader(batch_size=10)
    train.load_state_dict({"epoch": 0, "position": 3, "batch_size": 17})
    with pytest.raises(InputError, match=r"^data\.batch_size: expected 17, to continue within an epoch, got 10$"):
        next(iter(train))
    train.load_state_dict({"epoch": 1, "position": 0, "batch_size": 17})
    train.set_epoch(1)
    assert len(list(train)) == 11


def test_without_shuffling_every_epoch_repeats_the_first() -> None:
    train = loader()
    first = indices_of(list(train))
    train.shuffle = False
    train.set_epoch(9)
    assert indices_of(list(train)) == first


def test_evaluation_keeps_the_datasets_order_and_pads_nothing() -> None:
    for world_size in (1, 2, 3):
        wholes = [loader(rank, world_size) for rank in range(world_size)]
        parts = [
            EvalLoader(one.images, one.labels, one.indices, 10, rank_and_world_size=one.rank_and_world_size)
            for one in wholes
        ]
        seen = [batch.indices for step in zip(*parts, strict=True) for batch in step]
        assert torch.cat(seen).equal(torch.arange(103))
        assert all(batch.epoch is None for part in parts for batch in part)


def test_batches_are_on_the_device_of_the_images() -> None:
    train = loader()
    train.images, train.labels = train.images.to("meta"), train.labels.to("meta")
    evaluation = EvalLoader(train.images, train.labels, train.indices, 10)
    for batch in (*train, *evaluation):
        x, y = batch
        assert {x.device.type, batch.images.device.type, y.device.type, batch.indices.device.type} == {"meta"}


def test_training_batches_are_augmented() -> None:
    calls: list[tuple[list[int], list[int], int | Tensor]] = []

    def inverted(images: Tensor, labels: Tensor, indices: Tensor, epoch: int | Tensor) -> Tensor:
        assert images.equal(plain.images[indices])
        calls.append((labels.tolist(), indices.tolist(), epoch))
        return 255 - images

    plain = loader()
    train = dataclasses.replace(plain, augment=inverted)
    train.set_epoch(3)
    seen = list(train)
    assert calls == [(batch.labels.tolist(), batch.indices.tolist(), 3) for batch in seen]
    for batch in seen:
        assert batch.inputs.equal(standardize(255 - plain.images[batch.indices]))
        assert batch.images.equal(255 - plain.images[batch.indices])
        assert batch.epoch == 3
    assert plain.images.equal(loader().images)  # the images in memory are left alone


def batch_of(size: int = 4) -> Batch:
    images = torch.arange(size * 784).view(size, 28, 28).to(torch.uint8)
    return Batch(standardize(images), torch.arange(size) % 10, torch.arange(size) + 7, size * 2, 5)


def attributes(batch: Batch) -> dict[str, Any]:
    """Everything a batch holds, as plain values."""
    fields = {field.name: getattr(batch, field.name) for field in dataclasses.fields(batch)}
    return {name: value.tolist() if isinstance(value, Tensor) else value for name, value in fields.items()}


def test_a_batch_unpacks_to_inputs_and_labels() -> None:
    batch = batch_of()
    x, y = batch
    assert x is batch.inputs is batch[0]
    assert y is batch.labels is batch[1] is batch[-1]
    assert len(batch) == 2
    with pytest.raises(IndexError):
        batch[2]


def test_images_are_the_exact_inverse_of_standardize_for_every_pixel_value() -> None:
    pixels = torch.arange(256).to(torch.uint8).view(256, 1, 1).expand(256, 28, 28)
    batch = Batch(standardize(pixels), torch.zeros(256, dtype=torch.long), torch.arange(256), 256)
    assert batch.images.dtype == torch.uint8
    assert batch.images.equal(pixels)
    batch.inputs = batch.inputs - 0.6 / 255 / STD  # more than half a step: the control
    assert not batch.images[1:].eq(pixels[1:]).any()


def test_images_stay_within_8_bits_whatever_the_inputs() -> None:
    inputs = torch.tensor([-100.0, 100.0]).view(2, 1, 1, 1).expand(2, 1, 28, 28)
    batch = Batch(inputs, torch.zeros(2, dtype=torch.long), torch.arange(2), 2)
    assert batch.images.flatten(1).tolist() == [[0] * 784, [255] * 784]


def test_unstandardized_inputs_are_their_own_images() -> None:
    images = torch.randint(256, (3, 28, 28), dtype=torch.uint8)
    assert Batch.of((images, torch.zeros(3, dtype=torch.long))).images.equal(images)


@pytest.mark.parametrize(
    ("batch", "kinds"),
    [({"x": 1, "y": 2}, "a dict of str, str"), ([torch.zeros(2)] * 3, "a list of Tensor, Tensor, Tensor")],
)
def test_any_other_batch_is_refused_by_what_it_is(batch: Any, kinds: str) -> None:
    with pytest.raises(TypeError, match=f"expected a batch x, y of images and labels, got {kinds}"):
        Batch.of(batch)


def test_a_batch_moves_with_everything_it_holds() -> None:
    batch = batch_of()
    moved = batch.to("meta")
    assert {moved.inputs.device.type, moved.labels.device.type, moved.indices.device.type} == {"meta"}
    assert (moved.size, moved.epoch) == (8, 5)
    assert batch.inputs.device.type == "cpu"
    assert batch.to("cpu") is batch.to(torch.device("cpu")) is batch


def test_a_batch_survives_lightnings_move_to_a_device() -> None:
    batch = batch_of()
    for device in ("cpu", torch.device("meta")):
        moved, (listed,) = move_data_to_device(batch, device), move_data_to_device([batch], device)
        for found in (moved, listed):
            assert type(found) is Batch
            assert {found.inputs.device, found.labels.device, found.indices.device} == {torch.device(device)}
            assert (found.size, found.epoch) == (8, 5)
    assert attributes(move_data_to_device(batch, "cpu")) == attributes(batch_of())


def test_a_batch_survives_lightnings_function_on_every_tensor() -> None:
    batch = batch_of()
    cast = apply_to_collection(batch, Tensor, lambda t: t.double() if t.is_floating_point() else t)
    assert type(cast) is Batch
    assert (cast.inputs.dtype, cast.labels.dtype, cast.indices.dtype) == (torch.float64, torch.int64, torch.int64)
    assert attributes(cast) == attributes(batch) == attributes(batch_of())
    assert cast.images.equal(batch.images)
    assert batch.inputs.dtype == torch.float32  # the original is left alone
    negated = apply_to_collection(batch, Tensor, torch.neg)
    assert negated.inputs.equal(-batch.inputs)
    assert negated.labels.equal(-batch.labels)


def test_any_loaders_inputs_and_labels_become_a_batch_with_positions_of_their_own() -> None:
    x, y = torch.randn(4, 1, 28, 28), torch.arange(4)
    for pair in ((x, y), [x, y]):
        batch = Batch.of(pair, 6, 3)
        assert batch.inputs is x
        assert batch.labels is y
        assert (batch.indices.tolist(), batch.size, batch.epoch) == ([3 * APART + n for n in range(4)], 4, 6)
    first, second = Batch.of((x, y)), Batch.of((x, y), batch_idx=1)
    assert first.epoch is None
    assert not {*first.indices.tolist()} & {*second.indices.tolist()}


def test_processes_with_any_loader_count_positions_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, positions = torch.randn(4, 1, 28, 28), torch.arange(4), []
    for batch_idx, rank in itertools.product(range(2), range(3)):
        monkeypatch.setattr("mnist_lit.data.loaders.rank_and_world_size", lambda rank=rank: (rank, 3))
        batch = Batch.of((x, y), 0, batch_idx)
        positions += batch.indices.tolist()
        assert batch.size == 12
    assert positions == [part * APART + n for part in range(6) for n in range(4)]


def test_a_batch_stays_itself() -> None:
    batch = batch_of()
    assert Batch.of(batch, 1, 9) is batch
    assert (batch.epoch, batch.indices.tolist()) == (5, [7, 8, 9, 10])


def test_a_training_batch_without_an_epoch_gets_one() -> None:
    batch = dataclasses.replace(batch_of(), epoch=None)
    assert Batch.of(batch) is batch
    given = Batch.of(batch, 4)
    assert (given.epoch, batch.epoch) == (4, None)
    assert given.inputs is batch.inputs


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_images_are_counted_over_all_processes(world_size: int) -> None:
    train = loader(0, world_size)  # 6 batches of 17 and one of 1
    assert [train.images_in(n, n + 1) for n in range(7)] == [17] * 6 + [1]
    assert (train.images_in(0, 7), train.images_in(4, 7), train.images_in(2, 4)) == (103, 35, 34)


@pytest.mark.parametrize("accumulated", [1, 2, 4])
@pytest.mark.parametrize("world_size", [1, 3])
def test_scaled_losses_add_up_to_the_mean_over_the_images_of_a_step(accumulated: int, world_size: int) -> None:
    shards = [loader(rank, world_size) for rank in range(world_size)]
    values = torch.arange(103, dtype=torch.float64).square()  # each image's loss
    steps: dict[int, float] = {}
    for train in shards:
        trainer = SimpleNamespace(
            accumulate_grad_batches=accumulated, train_dataloader=train, world_size=world_size, num_training_batches=7
        )
        for batch_idx, batch in enumerate(train):
            loss = float(values[batch.indices].sum()) * loss_scale(trainer, batch, batch_idx)
            # Lightning divides by the number of accumulated batches, DDP by the number of processes
            step = batch_idx // accumulated
            steps[step] = steps.get(step, 0.0) + loss / accumulated / world_size
    order = permutation(5, 0, 103)
    expected = [float(values[part].mean()) for part in torch.split(order, 17 * accumulated)]
    assert list(steps.values()) == pytest.approx(expected)


def test_other_loaders_losses_are_divided_by_their_batch() -> None:
    trainer = SimpleNamespace(accumulate_grad_batches=4, train_dataloader=[], world_size=3, num_training_batches=7)
    assert loss_scale(trainer, batch_of(), 0) == 3 / 8


@pytest.mark.parametrize(("size", "batch_size", "world_size", "fits"), [
    (103, 17, 1, False), (102, 17, 1, True), (104, 17, 1, True), (104, 17, 2, False), (106, 17, 2, True),
    (3, 4, 2, False), (4, 4, 2, True), (8, 1, 1, False),
])  # fmt: skip
def test_batch_normalization_needs_two_images_on_every_device(
    size: int, batch_size: int, world_size: int, fits: bool
) -> None:
    train = loader(0, world_size, size=size, batch_size=batch_size)
    trainer = SimpleNamespace(
        accumulate_grad_batches=1,
        train_dataloader=train,
        num_training_batches=len(train),
        estimated_stepping_batches=math.inf,
    )
    for network in (nn.BatchNorm2d(3), nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))):
        with (
            nullcontext()
            if fits
            else pytest.raises(InputError, match=r"data\.batch_size: expected one large enough for two images")
        ):
            check_batch_norm(network, trainer)
    check_batch_norm(nn.Linear(1, 1), trainer)
    check_batch_norm(nn.BatchNorm2d(3), SimpleNamespace(accumulate_grad_batches=1, train_dataloader=[]))


def test_a_deferred_batch_is_made_when_it_is_asked_for() -> None:
    calls: list[list[int]] = []

    def inverted(images: Tensor, labels: Tensor, indices: Tensor, epoch: int | Tensor) -> Tensor:
        calls.append(indices.tolist())
        return 255 - images

    train = dataclasses.replace(loader(), augment=inverted)
    train.set_epoch(2)
    expected = list(train)
    calls.clear()
    train.deferred = True
    batches = list(train)
    assert [type(batch) for batch in batches] == [DeferredBatch] * 6 + [Batch]
    assert calls == [expected[6].indices.tolist()]
    for deferred, batch in zip(batches, expected, strict=True):
        assert deferred.labels.equal(batch.labels)
        assert deferred.indices.equal(batch.indices)
        assert deferred.inputs.equal(batch.inputs)
        assert (deferred.size, deferred.epoch) == (batch.size, 2)
    shard_of_two = loader(0, 2)
    shard_of_two.deferred = True
    assert {type(batch) for batch in shard_of_two} == {Batch}  # no shard is a full batch


def test_the_position_counts_the_batches_that_were_handed_out() -> None:
    train = loader()
    assert train.state_dict() == {"epoch": 0, "position": 0, "batch_size": 17}
    train.set_epoch(2)
    for number, _ in enumerate(train, 1):
        assert train.state_dict() == {"epoch": 2, "position": number, "batch_size": 17}
    assert train.sampler is train
