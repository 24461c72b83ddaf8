"""The data module splits, shares and warps; it refuses sizes that do not fit."""

import pytest
import torch

from mnist_lit.data.augmentation import DRAWS, RandomAffine
from mnist_lit.data.keyed_random import AUGMENTATION, uniform
from mnist_lit.data.loaders import Batch, EvalLoader, TrainLoader
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError


def batches(data: MNISTDataModule, epoch: int = 0) -> list[Batch]:
    train = data.train_dataloader()
    train.set_epoch(epoch)
    return [data.on_after_batch_transfer(batch, 0) for batch in train]


def test_train_and_validation_never_meet(digits_data: MNISTDataModule) -> None:
    train, val = set(digits_data.train_indices.tolist()), set(digits_data.val_indices.tolist())
    assert len(train) == 1257
    assert len(val) == 180
    assert not train & val


def test_the_split_does_not_follow_the_training_seed() -> None:
    splits = []
    for seed, split_seed in ((0, 0), (1, 0), (0, 1)):
        data = MNISTDataModule(dataset="digits", val_size=180, seed=seed, split_seed=split_seed)
        data.setup()
        splits.append(data.val_indices)
    assert splits[0].equal(splits[1])
    assert not splits[0].equal(splits[2])


def test_without_validation_all_images_train() -> None:
    data = MNISTDataModule(dataset="digits", val_size=0)
    data.setup()
    assert sum(batch.size for batch in data.train_dataloader()) == 1437
    assert data.val_dataloader() == []


def test_a_training_batch_is_warped_by_its_own_numbers(digits_data: MNISTDataModule) -> None:
    data = MNISTDataModule(dataset="digits", val_size=180, degrees=15, seed=3)
    data.setup()
    assert data.digits is not None
    for epoch in (0, 5):
        batch = batches(data, epoch)[0]
        original = data.digits.train_images[batch.indices]
        numbers = uniform(3, epoch, batch.indices, DRAWS, stream=AUGMENTATION)
        assert batch.images.equal(data.warp(original, numbers))
        assert not batch.images.equal(original)
        assert batch.labels.equal(data.digits.train_labels[batch.indices])


def test_an_image_is_warped_anew_each_epoch() -> None:
    data = MNISTDataModule(dataset="digits", val_size=180, degrees=15)
    data.setup()
    first, second = (
        {int(i): image for b in batches(data, epoch) for i, image in zip(b.indices, b.images, strict=True)}
        for epoch in (0, 1)
    )
    same = sum(first[index].equal(second[index]) for index in first)
    assert same < len(first) * 0.02


def test_warps_shrink_over_the_second_half_of_a_run_to_what_is_left_at_its_end() -> None:
    data = MNISTDataModule(dataset="digits", val_size=180, degrees=16, translate=2, anneal=0.25, seed=3)
    data.setup()
    assert data.digits is not None
    for epochs, epoch, degrees in ((6, 0, 16), (6, 2, 16), (6, 3, 12), (6, 4, 8), (6, 5, 4), (1, 0, 4)):
        data.epochs = epochs
        batch = batches(data, epoch)[0]
        original = data.digits.train_images[batch.indices]
        numbers = uniform(3, epoch, batch.indices, DRAWS, stream=AUGMENTATION)
        assert batch.images.equal(RandomAffine(degrees=degrees, translate=degrees / 8)(original, numbers))
        assert not batch.images.equal(original)


def test_a_run_annealed_to_nothing_ends_on_the_images_as_they_are() -> None:
    data = MNISTDataModule(dataset="digits", val_size=180, degrees=16, crop_prob=0.5, elastic=2, anneal=0)
    data.setup()
    data.epochs = 2
    assert data.digits is not None
    first, last = batches(data, 0)[0], batches(data, 1)[0]
    assert not first.images.equal(data.digits.train_images[first.indices])
    assert last.images.equal(data.digits.train_images[last.indices])


def test_warps_shrink_towards_an_end_that_is_known() -> None:
    data = MNISTDataModule(dataset="digits", val_size=180, degrees=16, anneal=0.25)
    data.setup()
    for epochs in (None, -1):
        data.epochs = epochs
        with pytest.raises(InputError, match=r"data\.anneal: needs an end in epochs; set trainer\.max_epochs"):
            batches(data)


def test_evaluation_sees_the_images_as_they_are() -> None:
    data = MNISTDataModule(dataset="digits", val_size=180, degrees=15)
    data.setup()
    assert data.digits is not None
    seen = [data.on_after_batch_transfer(batch, 0).images for batch in data.test_dataloader()]
    assert torch.cat(seen).equal(data.digits.test_images)


def test_whole_epochs_are_pure(digits_data: MNISTDataModule) -> None:
    made = []
    for _ in range(2):
        torch.manual_seed(torch.seed() % 2**31)  # the global generator is nobody's business
        data = MNISTDataModule(dataset="digits", val_size=180, degrees=15, translate=2)
        data.setup()
        made.append(torch.cat([batch.images for batch in batches(data, 2)]))
    assert made[0].equal(made[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"val_size": -1}, "val_size"),
        ({"degrees": 200.0}, "degrees"),
        ({"anneal": 1.5}, r"data\.anneal: expected a share in \[0, 1\], got 1\.5"),
        ({"val_size": 1437}, "expected less than the 1437 images"),
        ({"val_size": 437, "batch_size": 1001}, "no more than the 1000 training images"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MNISTDataModule(dataset="digits", **options).setup()  # type: ignore[arg-type]


def test_the_loader_is_stateful_for_lightning(digits_data: MNISTDataModule) -> None:
    train = digits_data.train_dataloader()
    assert isinstance(train, TrainLoader)
    assert train.sampler is train
    assert train.state_dict() == {"epoch": 0, "position": 0}


def test_the_images_are_moved_to_the_device_once() -> None:
    data = MNISTDataModule(dataset="digits", val_size=180)
    data.setup()
    data.device = torch.device("meta")
    train, val = data.train_dataloader(), data.val_dataloader()
    assert isinstance(val, EvalLoader)
    assert train.images is val.images
    assert train.images.device.type == data.test_dataloader().images.device.type == "meta"
