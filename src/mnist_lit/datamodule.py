"""The LightningDataModule: download, split, load and augment. Images stay in memory as uint8.

`prepare_data` downloads, `setup` reads and splits, and the loaders yield whole batches `x, y` on the device that uses
them: standardized float32 (B, 1, 28, 28), augmented during training, and int64 labels (B,).
"""

import math
from functools import cached_property
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from mnist_lit.data.augmentation import DRAWS, RandomAffine, annealed_strength
from mnist_lit.data.datasets import DatasetName, check_options, class_names, load_dataset
from mnist_lit.data.download import DEFAULT_TIMEOUT, IDX_DATASETS, TORCHVISION_DATASETS, download_dataset
from mnist_lit.data.handwriting import HandwritingStyles
from mnist_lit.data.image_folder import validation_size
from mnist_lit.data.in_memory import InMemoryDataset, chosen_classes, only_classes, split_indices
from mnist_lit.data.keyed_random import AUGMENTATION, uniform
from mnist_lit.data.loaders import EvalLoader, TrainLoader
from mnist_lit.data.torchvision_datasets import EmnistSplit, download_from_torchvision
from mnist_lit.errors import InputError
from mnist_lit.hyperparameters import check_arguments, global_seed, hyperparameters_of, plain_numbers, record_seed


class MNISTDataModule(pl.LightningDataModule):
    """MNIST, datasets of the same format, or a folder of pictures.

    Args:
        data_dir: folder of the dataset's files; downloads go there.
        dataset: `mnist`, `fashion_mnist`, `kmnist`, `qmnist`, `emnist`; `digits`, scikit-learn's 1,797 small
            ones, which need no download; or `folder`, pictures in `data_dir/{train,val,test}/<class>/`.
        split: which part of `emnist`: `balanced` (47 classes), `letters` or `digits`.
        classes: train and test on these classes only, such as `3,7`; they get the labels 0, 1 and so on.
        batch_size: images per training step over all devices.
        val_size: images held out from training for validation, stratified by class; 0 trains on all. A folder with
            a `val` subfolder uses its pictures instead.
        split_seed: seed of the validation split, and of the subset that `fraction` or `per_class` selects. Separate
            from the training seed, so that runs with different seeds use the same images.
        fraction: train on this fraction of the training images, stratified by class; below 1 for learning curves.
        per_class: train on this many images of each class; 0 for all.
        degrees: rotate by up to ± this many degrees.
        scale: scale by up to ± this fraction.
        shear: shear by up to ± this many degrees.
        translate: shift by up to ± this many pixels.
        crop_prob: probability of zooming in on the middle 22×22 pixels, as in the tutorial.
        anneal: fraction of the five limits above that remains in the last epoch. They shrink linearly over the second
            half of `trainer.max_epochs`, so that training ends on images like the test images; 1 keeps them constant.
        continental: fraction of ones that get an upstroke and of sevens that get a bar, before the augmentation.
        handwriting: fraction of digits that are redrawn in other styles, such as looped fours, before the augmentation.
        seed: seed of the images' order and augmentation; by default that of Lightning's `seed_everything`, or 0.
        mirrors: addresses to download from instead of the usual ones, a list or comma-separated; tried in turn.
        timeout: seconds a mirror may take per file.
    """

    def __init__(
        self,
        data_dir: str = "data",
        dataset: DatasetName = "mnist",
        batch_size: int = 128,
        val_size: int = 5000,
        split_seed: int = 0,
        degrees: float = 0.0,
        scale: float = 0.0,
        shear: float = 0.0,
        translate: float = 0.0,
        crop_prob: float = 0.0,
        anneal: float = 1.0,
        continental: float = 0.0,
        seed: int | None = None,
        mirrors: list[str] | str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        *,
        split: EmnistSplit = "balanced",
        classes: str = "",
        fraction: float = 1.0,
        per_class: int = 0,
        handwriting: float = 0.0,
    ) -> None:
        seed = global_seed() if seed is None else seed
        check_arguments("data", MNISTDataModule, locals())
        super().__init__()
        check_options(locals())  # the arguments; `hparams` may hold those of a subclass
        data_dir = str(data_dir)
        # Not logged: Lightning refuses to fit if one has another value than a module's hyperparameter of that name.
        self.save_hyperparameters(logger=False, ignore=["mirrors", "timeout"])
        self.hparams.update(plain_numbers(self.hparams))
        record_seed(self.hparams, seed)
        self.augmentation = RandomAffine(degrees, scale, shear, translate, crop_prob)
        self.data_dir, self.dataset, self.batch_size = data_dir, dataset, batch_size
        self.anneal, self.styles = anneal, HandwritingStyles(continental, handwriting)
        self.split_seed, self.seed = split_seed, seed
        self.mirrors, self.timeout = mirrors, timeout
        self.split, self.fraction, self.per_class = split, fraction, per_class
        self.classes = chosen_classes(classes, class_names(dataset, data_dir, split))
        self.num_classes = len(self.classes)
        self.val_size = (validation_size(data_dir, self.classes) if dataset == "folder" else 0) or val_size
        self._loaded: InMemoryDataset | None = None
        self._on_device: dict[tuple[str, torch.device], tuple[Tensor, Tensor]] = {}

    def __str__(self) -> str:
        """The dataset and, once `setup` has read it, how many images each part has. Lightning expects `DataLoader`s."""
        parts = {name: getattr(self, f"{name}_indices", ()) for name in ("train", "val")}
        parts["test"] = self._loaded.test_labels if self._loaded else ()
        return ", ".join([self.dataset, *(f"{name}: {len(part):,}" for name, part in parts.items() if len(part))])

    def prepare_data(self) -> None:
        """Download what is missing or damaged. Lightning calls this once per machine."""
        if self._loaded is None and self.dataset in IDX_DATASETS:
            download_dataset(self.dataset, Path(self.data_dir), self.mirrors, self.timeout)
        elif self._loaded is None and self.dataset in TORCHVISION_DATASETS:
            download_from_torchvision(self.dataset, self.split, self.data_dir)

    def setup(self, stage: str | None = None) -> None:
        """Read and split. Raises InputError if options do not fit the data, unless the stage is "test" or "predict"."""
        if self._loaded is None:
            data = load_dataset(self.dataset, self.data_dir, self.split)
            self._loaded = only_classes(data, self.classes)
        if hasattr(self, "train_indices"):
            return
        try:
            self.styles.check_classes(self.classes)
            self.train_indices, self.val_indices = split_indices(
                self._loaded,
                self.data_dir if self.dataset == "folder" else self.dataset,
                val_size=self.val_size,
                seed=self.split_seed,
                batch_size=self.batch_size,
                fraction=self.fraction,
                per_class=self.per_class,
            )
        except InputError:
            if stage not in ("test", "predict"):
                raise

    def train_dataloader(self) -> TrainLoader:
        """Steps of `batch_size` images, divided among the devices."""
        images, labels = self._tensors("train")
        shuffle = not getattr(self.trainer, "overfit_batches", 0)
        plain = self.styles == HandwritingStyles() and type(self).augment is MNISTDataModule.augment
        return TrainLoader(
            images,
            labels,
            self.train_indices,
            self.batch_size,
            seed=self.seed,
            shuffle=shuffle,
            augment=self.augment,
            capturable=plain,
            trained=self._trained,
        )

    def val_dataloader(self) -> EvalLoader | list[EvalLoader]:
        """The images held out for validation; an empty list if `val_size` is 0."""
        images, labels = self._tensors("train")
        return EvalLoader(images, labels, self.val_indices, self.batch_size) if self.val_size else []

    def test_dataloader(self) -> EvalLoader:
        """The official test images, all of them. Raises InputError if a folder has none."""
        images, labels = self._tensors("test")
        if not len(labels):
            raise InputError(f"expected pictures in {self.data_dir}/test/CLASS/, got none")
        return EvalLoader(images, labels, torch.arange(len(labels)), self.batch_size)

    def predict_dataloader(self) -> EvalLoader:
        """The test images: `trainer.predict` gives their probabilities."""
        return self.test_dataloader()

    @property
    def in_memory(self) -> InMemoryDataset:
        """The whole dataset, before the split. Raises RuntimeError before `setup`."""
        if self._loaded is None:
            raise RuntimeError("call setup() first")
        return self._loaded

    @cached_property
    def fingerprint(self) -> str:
        """md5 of the dataset's bytes."""
        return self.in_memory.fingerprint()

    def checkpoint_metadata(self) -> dict[str, Any]:
        """What a checkpoint records about its data: settings, fingerprint, class names."""
        settings = hyperparameters_of(MNISTDataModule, self.hparams)
        return {"settings": settings, "fingerprint": self.fingerprint if self._loaded else "", "classes": self.classes}

    def augment(self, images: Tensor, labels: Tensor, indices: Tensor, epoch: int | Tensor) -> Tensor:
        """Augment a training batch, uint8 (B, 28, 28); each image's (seed, epoch, index) determines how."""
        images = self.styles(images, labels, indices, self.seed, epoch)
        draws = uniform(self.seed, epoch, indices, DRAWS, stream=AUGMENTATION)  # (B, 6)
        if self.anneal < 1 and self.trainer is None:
            raise InputError("data.anneal: needs a trainer's max_epochs; give it datamodule=… instead of loaders")
        epochs = self.trainer.max_epochs if self.trainer else None
        return self.augmentation(images, draws, annealed_strength(self.anneal, epoch, epochs))

    def _trained(self) -> float:
        """How many batches of its epoch a running fit has trained; the loader may have yielded one more."""
        progress: Any = self.trainer and self.trainer.fit_loop.epoch_loop.batch_progress.current
        return float(progress.processed) if self.trainer and self.trainer.training else math.inf

    def _tensors(self, part: str) -> tuple[Tensor, Tensor]:
        """All images and labels of `train` or `test`, moved to the trainer's device once so that no step copies any."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        data = self.in_memory
        if (part, device) not in self._on_device:
            images, labels = getattr(data, f"{part}_images"), getattr(data, f"{part}_labels")
            self._on_device[part, device] = images.to(device), labels.to(device)
        return self._on_device[part, device]
