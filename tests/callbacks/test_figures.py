"""TensorBoard's figures show the right images and do not change training."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from mnist_lit.datamodule import MNISTDataModule
from mnist_lit.evaluation import figures
from mnist_lit.module import MNISTModule

Cli = Callable[..., tuple[int, str, str]]

pytestmark = pytest.mark.usefixtures("small_calibration")


def image_steps(run: str) -> dict[str, list[int]]:
    """The steps at which each image was added to a run's TensorBoard."""
    events = EventAccumulator(run, size_guidance={"images": 0}).Reload()
    return {tag: [event.step for event in events.Images(tag)] for tag in events.Tags()["images"]}


def test_figures_are_drawn_and_do_not_change_training(cli: Cli, tiny_fit: tuple[str, ...]) -> None:
    for drawn in ("true", "false"):
        assert cli(*tiny_fit, "--trainer.max_epochs", "2", "--figures", drawn)[0] == 0
    assert image_steps("lightning_logs/version_0") == {
        "training images": [0],
        "validation/confusion matrix": [2, 4],
        "validation/worst mistakes": [2, 4],
    }
    assert image_steps("lightning_logs/version_1") == {}
    one, two = (torch.load(f"lightning_logs/version_{n}/checkpoints/last.ckpt")["state_dict"] for n in range(2))
    assert all(one[name].equal(two[name]) for name in one)


def test_the_worst_mistakes_and_the_confusion_are_those_of_the_validation(
    cli: Cli, tiny_fit: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    galleries: list[tuple[np.ndarray, list[str]]] = []
    gallery = figures.gallery

    def recording_gallery(images: np.ndarray, captions: list[str], *, columns: int) -> np.ndarray:
        galleries.append((images, captions))
        return gallery(images, captions, columns=columns)

    confusions: list[np.ndarray] = []
    matrix = figures.confusion_matrix

    def recording_matrix(confusion: np.ndarray, classes: tuple[str, ...]) -> np.ndarray:
        confusions.append(confusion)
        return matrix(confusion, classes)

    monkeypatch.setattr("mnist_lit.evaluation.figures.gallery", recording_gallery)
    monkeypatch.setattr("mnist_lit.evaluation.figures.confusion_matrix", recording_matrix)
    assert cli(*tiny_fit, "--trainer.max_epochs", "1")[0] == 0
    data, module = MNISTDataModule(dataset="digits", val_size=64, batch_size=32), MNISTModule()
    data.setup()
    module.load_state_dict(torch.load("lightning_logs/version_0/checkpoints/best.ckpt")["state_dict"])
    with torch.no_grad():
        log_probs = module.eval()(data.in_memory.train_images[data.val_indices])
    labels = data.in_memory.train_labels[data.val_indices]
    loss = -log_probs[torch.arange(len(labels)), labels].double()
    loss[log_probs.argmax(dim=1) == labels] = -1
    expected = np.zeros((10, 10), int)
    np.add.at(expected, (labels.numpy(), log_probs.argmax(dim=1).numpy()), 1)  # a row per true class
    assert (expected != expected.T).any()
    assert np.array_equal(confusions[-1], expected)
    worst = loss.argsort(descending=True)[:9]
    images, captions = galleries[-1]
    assert len(captions) == 9
    assert torch.from_numpy(images).equal(data.in_memory.train_images[data.val_indices[worst]])
    for position, caption in zip(worst, captions, strict=True):
        predicted, prob = int(log_probs[position].argmax()), float(log_probs[position].exp().max())
        assert f"true {labels[position]}, " in caption
        assert f" {predicted}\n{prob:.1%}  #{data.val_indices[position]}" in caption
