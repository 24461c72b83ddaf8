"""scikit-learn's digits are complete and centered, splits are stratified, and fingerprints cover every bit."""

from typing import get_args

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from mnist_lit.data.datasets import DATASETS, DatasetName, load_dataset
from mnist_lit.data.download import IDX_DATASETS, TORCHVISION_DATASETS
from mnist_lit.data.in_memory import stratified_split


def test_each_scikit_learn_digit_is_there_once() -> None:
    data = load_dataset("digits", "unused")
    _, labels = load_digits(return_X_y=True)
    assert (len(data.train_labels), len(data.test_labels)) == (1437, 360)
    assert torch.cat((data.train_labels, data.test_labels)).bincount().tolist() == np.bincount(labels).tolist()
    images = torch.cat((data.train_images, data.test_images)).flatten(1)
    assert len(torch.unique(images, dim=0)) == len(images)


def test_scikit_learn_digits_fill_the_box_and_are_centered_by_mass() -> None:
    images = load_dataset("digits", "unused").train_images
    for axis in (1, 2):
        filled = images.amax(dim=3 - axis) > 0
        assert int(filled.sum(dim=1).max()) == 20
    mass = images.double().sum(dim=1)
    center = (mass @ (torch.arange(28).double() + 0.5)) / mass.sum(dim=1)
    assert (center - 14).abs().max() <= 0.51


def test_a_split_is_stratified_complete_and_depends_on_the_seed() -> None:
    labels = torch.tensor([0] * 500 + [1] * 300 + [2] * 200)
    rest, chosen = stratified_split(labels, 101, seed=0)
    assert torch.cat((rest, chosen)).sort().values.equal(torch.arange(1000))
    assert len(chosen) == 101
    assert (labels[chosen].bincount() - torch.tensor([50.5, 30.3, 20.2])).abs().max() < 1
    assert chosen.equal(stratified_split(labels, 101, seed=0)[1])
    assert not chosen.equal(stratified_split(labels, 101, seed=1)[1])


@pytest.mark.parametrize("part", ["train_images", "train_labels", "test_images", "test_labels"])
def test_one_changed_number_changes_the_fingerprint(part: str) -> None:
    data = load_dataset("digits", "unused")
    before = data.fingerprint()
    assert before == load_dataset("digits", "unused").fingerprint()
    getattr(data, part).view(-1)[-1] ^= 1
    assert data.fingerprint() != before


def test_every_dataset_is_downloaded_embedded_or_a_folder() -> None:
    assert {*IDX_DATASETS, *TORCHVISION_DATASETS, "digits", "folder"} == {*get_args(DatasetName)}


def test_every_dataset_has_a_title_for_its_report_and_every_archive_its_classes() -> None:
    assert DATASETS.keys() == {*get_args(DatasetName)}
    assert all(dataset.title for dataset in DATASETS.values())
    assert {name for name in DATASETS if DATASETS[name].classes} == {*IDX_DATASETS, "qmnist", "digits"}
