"""Each corruption does what SciPy does, and depends only on the image's index."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage

from mnist_lit.data.keyed_random import CORRUPTION, uniform
from mnist_lit.evaluation.report.robustness import CORRUPTIONS


@pytest.mark.parametrize(
    ("name", "amount", "oracle"),
    [
        ("rotation", 30, lambda image: ndimage.rotate(image, -30, reshape=False, order=1, mode="grid-constant")),
        ("rotation", -45, lambda image: ndimage.rotate(image, 45, reshape=False, order=1, mode="grid-constant")),
        ("scale", 0.5, lambda image: ndimage.affine_transform(image, [2, 2], -13.5, order=1, mode="grid-constant")),
        ("blur", 1.5, lambda image: ndimage.gaussian_filter(image, 1.5, mode="constant", truncate=4)),
        ("contrast", 0.4, lambda image: image * 0.4),
    ],
)
def test_a_corruption_agrees_with_scipy(
    images: torch.Tensor, name: str, amount: float, oracle: Callable[..., Any]
) -> None:
    ours = CORRUPTIONS[name].apply(images, torch.arange(len(images)), amount).numpy()
    expected = np.stack([oracle(image.astype(float)) for image in images.numpy()])
    assert np.abs(ours - expected).max() <= 1
    assert np.abs(images.numpy() - expected).max() > 50  # the control


def test_shifts_go_in_all_four_directions(images: torch.Tensor) -> None:
    indices = torch.arange(len(images))
    shifted = CORRUPTIONS["shift"].apply(images, indices, 2)
    directions = (uniform(0, 0, indices, 1, stream=CORRUPTION)[:, 0] * 4).long().tolist()
    assert {*directions} == {0, 1, 2, 3}
    for image, found, direction in zip(images, shifted, directions, strict=True):
        shift = 2 if direction % 2 else -2
        expected = ndimage.shift(image.numpy(), (0, shift) if direction < 2 else (shift, 0), order=0)
        assert np.array_equal(found.numpy(), expected)


def test_noise_is_normal_and_belongs_to_the_image() -> None:
    gray, indices = torch.full((20, 28, 28), 128, dtype=torch.uint8), torch.arange(20)
    noisy = CORRUPTIONS["noise"].apply(gray, indices, 0.1)
    assert float(noisy.float().mean()) == pytest.approx(128, abs=1)
    assert float(noisy.float().std()) == pytest.approx(25.5, rel=0.03)
    assert torch.equal(CORRUPTIONS["noise"].apply(gray[5:6], indices[5:6], 0.1), noisy[5:6])
    assert not torch.equal(noisy[0], noisy[1])


def test_the_neutral_amount_scores_as_the_unchanged_images(numbers: dict[str, Any]) -> None:
    found = numbers["robustness"]
    assert found["images"] == 40
    for name, corruption in CORRUPTIONS.items():
        points = found["changes"][name]["points"]
        assert [point["amount"] for point in points] == list(corruption.amounts)
        assert points[corruption.amounts.index(corruption.neutral)]["right"] == found["right"]
    assert found["changes"]["noise"]["points"][-1]["right"] < found["right"]
