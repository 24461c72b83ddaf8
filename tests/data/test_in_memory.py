"""Parts of a dataset: classes, fractions and a number of images per class."""

import pytest
import torch

from mnist_lit.data.in_memory import InMemoryDataset, chosen_classes, only_classes, subset
from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.errors import InputError


def small_dataset() -> InMemoryDataset:
    """Ten classes in turn, 60 training and 30 test images; an image's pixels are its label."""
    train, test = torch.arange(60) % 10, torch.arange(30) % 10
    images = [labels[:, None, None].expand(-1, 28, 28).to(torch.uint8) for labels in (train, test)]
    files = tuple(f"{n}.png" for n in range(30))
    return InMemoryDataset(images[0], train, images[1], test, val=20, files=files)


def test_only_some_classes_are_kept_and_renumbered() -> None:
    part = only_classes(small_dataset(), ("3", "7"))
    assert part.classes == ("3", "7")
    assert part.train_labels.tolist() == [0, 1] * 6
    assert part.train_images[:, 0, 0].tolist() == [3, 7] * 6
    assert part.test_labels.tolist() == [0, 1] * 3
    assert part.val == 4
    assert part.files == ("3.png", "7.png", "13.png", "17.png", "23.png", "27.png")
    whole = small_dataset()
    assert only_classes(whole, whole.classes) is whole


@pytest.mark.parametrize("given", ["3,7", "7, 3"])
def test_classes_are_sorted_as_in_the_dataset(given: str) -> None:
    assert chosen_classes(given, "0123456789") == ("3", "7")


@pytest.mark.parametrize("given", ["3", "3,3", "3,x", ","])
def test_wrong_classes_are_refused(given: str) -> None:
    with pytest.raises(InputError, match=r"data\.classes: expected"):
        chosen_classes(given, "0123456789")


def test_a_number_per_class_is_exact_seeded_and_nested() -> None:
    labels = torch.cat((torch.zeros(100), torch.ones(50), torch.full((30,), 2))).long()
    five, ten = (subset(labels, 3, 1.0, count, seed=0) for count in (5, 10))
    assert labels[five].bincount().tolist() == [5, 5, 5]
    assert {*five.tolist()} < {*ten.tolist()}
    assert five.equal(subset(labels, 3, 1.0, 5, seed=0))
    assert not five.equal(subset(labels, 3, 1.0, 5, seed=1))
    with pytest.raises(InputError, match=r"data\.per_class: expected at most 30, as many as each class has, got 31"):
        subset(labels, 3, 1.0, 31, seed=0)


def test_a_class_without_images_is_not_skipped() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    with pytest.raises(InputError, match=r"data\.per_class: expected at most 0, as many as each class has, got 1"):
        subset(labels, 3, 1.0, 1, seed=0)


def test_a_fraction_is_stratified_and_the_whole_is_unchanged() -> None:
    labels = torch.cat((torch.zeros(100), torch.ones(50))).long()
    assert labels[subset(labels, 2, 0.1, 0, seed=0)].bincount().tolist() == [10, 5]
    assert subset(labels, 2, 1.0, 0, seed=0).equal(torch.arange(150))


def test_a_subset_leaves_validation_and_test_images_alone() -> None:
    whole, part = (MNISTDataModule(dataset="digits", val_size=180, batch_size=10, per_class=count) for count in (0, 4))
    for data in (whole, part):
        data.setup()
    assert part.train_indices.numel() == 40
    assert {*part.train_indices.tolist()} < {*whole.train_indices.tolist()}
    assert part.val_indices.equal(whole.val_indices)
    assert len(part.test_dataloader().indices) == 360


def test_classes_reach_labels_names_and_fingerprint() -> None:
    data = MNISTDataModule(dataset="digits", val_size=20, batch_size=10, classes="3,7")
    data.setup()
    assert data.classes == ("3", "7")
    assert data.num_classes == 2
    x, y = next(iter(data.train_dataloader()))
    assert x.shape == (10, 1, 28, 28)
    assert {*y.tolist()} <= {0, 1}
    whole = MNISTDataModule(dataset="digits", val_size=20, batch_size=10)
    whole.setup()
    assert data.fingerprint != whole.fingerprint
