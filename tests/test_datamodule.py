"""The data module splits, loads and augments; it refuses sizes that do not fit."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mnist_lit.data.augmentation import DRAWS, RandomAffine
from mnist_lit.data.keyed_random import AUGMENTATION, uniform
from mnist_lit.data.loaders import Batch, EvalLoader, TrainLoader, shard
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError
from mnist_lit.model import standardize
from mnist_lit.module import MNISTModule
from plain import trainer


def digits(**options: Any) -> MNISTDataModule:
    data = MNISTDataModule(dataset="digits", **{"val_size": 180, **options})
    data.setup()
    return data


def attach_trainer(data: MNISTDataModule, *, epochs: int | None = None, device: str = "cpu") -> None:
    """What the data module asks of a trainer."""
    strategy = SimpleNamespace(root_device=torch.device(device))
    data.trainer = SimpleNamespace(max_epochs=epochs, strategy=strategy)  # type: ignore[assignment]
    vars(data).update(epochs=epochs, device=torch.device(device))


def batches(data: MNISTDataModule, epoch: int = 0) -> list[Batch]:
    train = data.train_dataloader()
    train.set_epoch(epoch)
    return list(train)


def test_it_prints_what_it_holds() -> None:
    data = MNISTDataModule(dataset="digits", val_size=180)
    assert str(data) == "digits"
    data.setup()
    assert str(data) == "digits, train: 1,257, val: 180, test: 360"


def test_a_folder_of_pictures_is_not_taken_for_the_embedded_digits(tmp_path: Path) -> None:
    MNISTDataModule(str(tmp_path), "digits", val_size=180)
    tmp_path.joinpath("train").mkdir()
    with pytest.raises(InputError, match=f"embedded digits need no folder; to read {tmp_path}, add"):
        MNISTDataModule(str(tmp_path), "digits", val_size=180)


def test_what_a_subclass_passes_on_is_checked_rather_than_its_own_arguments() -> None:
    class Own(MNISTDataModule):
        def __init__(self, split: float = 0.8, batch_size: int = 64) -> None:
            super().__init__(dataset="digits", val_size=180, batch_size=0 if split == 0 else batch_size)

    Own()
    with pytest.raises(InputError, match="batch_size: expected 1 or more, got 0"):
        Own(split=0)


def test_training_and_validation_images_are_disjoint(digits_data: MNISTDataModule) -> None:
    train, val = set(digits_data.train_indices.tolist()), set(digits_data.val_indices.tolist())
    assert len(train) == 1257
    assert len(val) == 180
    assert not train & val


def test_the_split_depends_on_split_seed_alone() -> None:
    splits = [digits(seed=seed, split_seed=split).val_indices for seed, split in ((0, 0), (1, 0), (0, 1))]
    assert splits[0].equal(splits[1])
    assert not splits[0].equal(splits[2])


def test_without_validation_all_images_are_trained_on() -> None:
    data = digits(val_size=0)
    assert sum(batch.size for batch in data.train_dataloader()) == 1437
    assert data.val_dataloader() == []


def test_augmentation_is_keyed_by_seed_epoch_and_image() -> None:
    data = digits(degrees=15, seed=3)
    for epoch in (0, 5):
        batch = batches(data, epoch)[0]
        original = data.in_memory.train_images[batch.indices]
        draws = uniform(3, epoch, batch.indices, DRAWS, stream=AUGMENTATION)
        assert batch.images.equal(RandomAffine(degrees=15)(original, draws))
        assert not batch.images.equal(original)
        assert batch.labels.equal(data.in_memory.train_labels[batch.indices])


def test_an_image_is_augmented_differently_in_each_epoch() -> None:
    data = digits(degrees=15)
    first, second = (
        {int(i): image for b in batches(data, epoch) for i, image in zip(b.indices, b.images, strict=True)}
        for epoch in (0, 1)
    )
    same = sum(first[index].equal(second[index]) for index in first)
    assert same < len(first) * 0.02


def test_annealed_augmentation_shrinks_over_the_second_half_of_a_run() -> None:
    data = digits(degrees=16, translate=2, anneal=0.25, seed=3)
    for epochs, epoch, degrees in ((6, 0, 16), (6, 2, 16), (6, 3, 12), (6, 4, 8), (6, 5, 4), (1, 0, 4)):
        attach_trainer(data, epochs=epochs)
        batch = batches(data, epoch)[0]
        original = data.in_memory.train_images[batch.indices]
        draws = uniform(3, epoch, batch.indices, DRAWS, stream=AUGMENTATION)
        assert batch.images.equal(RandomAffine(degrees=degrees, translate=degrees / 8)(original, draws))
        assert not batch.images.equal(original)


def test_augmentation_annealed_to_zero_ends_on_unchanged_images() -> None:
    data = digits(degrees=16, crop_prob=0.5, anneal=0)
    attach_trainer(data, epochs=2)
    first, last = batches(data, 0)[0], batches(data, 1)[0]
    assert not first.images.equal(data.in_memory.train_images[first.indices])
    assert last.images.equal(data.in_memory.train_images[last.indices])


def test_annealing_needs_a_known_last_epoch() -> None:
    data = digits(degrees=16, anneal=0.25)
    for epochs in (None, -1):
        attach_trainer(data, epochs=epochs)
        with pytest.raises(InputError, match=r"data\.anneal: needs a fixed number of epochs; set trainer\.max_epochs"):
            batches(data)


def test_annealing_needs_a_trainer_that_has_the_data_module() -> None:
    refused: AbstractContextManager[Any] = pytest.raises(InputError, match="give it datamodule=")
    for anneal, refusal in ((1.0, nullcontext()), (0.5, refused)):
        data = digits(degrees=16, anneal=anneal)
        plain = trainer(limit_train_batches=1, limit_val_batches=1)
        with refusal:
            plain.fit(MNISTModule(), data.train_dataloader(), data.val_dataloader())


def test_evaluation_images_are_not_augmented() -> None:
    data = digits(degrees=15)
    val = data.val_dataloader()
    assert isinstance(val, EvalLoader)
    assert torch.cat([batch.images for batch in data.test_dataloader()]).equal(data.in_memory.test_images)
    assert torch.cat([batch.images for batch in val]).equal(data.in_memory.train_images[data.val_indices])


def test_every_loader_gives_the_standardized_images_and_their_labels() -> None:
    data = digits()
    train = data.train_dataloader()
    for loader, images, labels in (
        (train, data.in_memory.train_images, data.in_memory.train_labels),
        (data.val_dataloader(), data.in_memory.train_images, data.in_memory.train_labels),
        (data.test_dataloader(), data.in_memory.test_images, data.in_memory.test_labels),
        (data.predict_dataloader(), data.in_memory.test_images, data.in_memory.test_labels),
    ):
        batch = next(iter(loader))
        assert isinstance(batch, Batch)
        x, y = batch
        assert (x.dtype, y.dtype, tuple(x.shape)) == (torch.float32, torch.int64, (128, 1, 28, 28))
        assert x.equal(standardize(images[batch.indices]))
        assert y.equal(labels[batch.indices])
        assert batch.epoch == (0 if loader is train else None)


def test_an_epoch_does_not_depend_on_the_global_generator() -> None:
    epochs = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        epochs.append(torch.cat([batch.images for batch in batches(digits(degrees=15, translate=2), epoch=2)]))
    assert epochs[0].equal(epochs[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"val_size": -1}, "val_size"),
        ({"degrees": 200.0}, "degrees"),
        ({"anneal": 1.5}, r"data\.anneal: expected a fraction in \[0, 1\], got 1\.5"),
        ({"val_size": 1437}, "expected less than the 1437 images"),
        ({"val_size": 437, "batch_size": 1001}, "no more than the 1000 training images"),
        (
            {"val_size": 180, "fraction": 0.001},
            r"^data\.fraction: expected one that leaves at least data\.batch_size = 128 of the 1257 .* got 0\.001, ",
        ),
        (
            {"val_size": 180, "per_class": 12},
            r"^data\.per_class: expected one that leaves at least .* got 12, which leaves 120$",
        ),
        ({"val_size": 180, "fraction": 0.5, "batch_size": 2000}, r"^data\.batch_size: expected no more than the 628 "),
    ],
)
def test_sizes_that_do_not_fit_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MNISTDataModule(dataset="digits", **options).setup()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "limits",
    [{"degrees": -1.0}, {"scale": 1.0}, {"shear": 90.0}, {"translate": float("nan")}, {"crop_prob": 1.1}],
)
def test_impossible_limits_of_the_augmentation_are_refused(limits: dict[str, float]) -> None:
    ((name, value),) = limits.items()
    with pytest.raises(InputError, match=rf"^data\.{name}: expected .*, got {value}$"):
        MNISTDataModule(dataset="digits", **limits)  # type: ignore[arg-type]


def test_the_training_loader_is_stateful_for_lightning(digits_data: MNISTDataModule) -> None:
    train = digits_data.train_dataloader()
    assert isinstance(train, TrainLoader)
    assert train.sampler is train
    assert train.state_dict() == {"epoch": 0, "position": 0, "batch_size": 128}


def test_loaders_made_before_the_processes_know_each_other_divide_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    data = digits()
    loaders: list[Any] = [data.train_dataloader(), data.val_dataloader(), data.test_dataloader()]
    alone = [next(iter(loader)) for loader in loaders]
    process = SimpleNamespace(is_initialized=lambda: True, get_rank=lambda: 1, get_world_size=lambda: 3)
    monkeypatch.setattr("mnist_lit.system.distributed.dist", process)
    for loader, whole in zip(loaders, alone, strict=True):
        mine = next(iter(loader))
        assert mine.size == whole.size
        assert mine.indices.equal(whole.indices[shard(whole.size, 1, 3)])


def test_all_images_move_to_the_trainers_device_once() -> None:
    data = digits()
    attach_trainer(data, device="meta")
    train, val = data.train_dataloader(), data.val_dataloader()
    assert isinstance(val, EvalLoader)
    assert train.images is val.images
    assert train.images.device.type == data.test_dataloader().images.device.type == "meta"
