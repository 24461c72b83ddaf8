"""Files → splits → loaders, and the warp once a batch is on its device.

The trainer is not asked for anything: a batch says itself whether it is for training.
"""

from functools import cached_property
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import Tensor

from mnist_lit.data.augmentation import BENDS, DRAWS, RandomAffine
from mnist_lit.data.continental import CONTINENTAL_DRAWS, add_continental_strokes
from mnist_lit.data.datasets import CLASS_NAMES, DIGITS, DatasetName, InMemoryDataset, load_dataset, stratified_split
from mnist_lit.data.download import DEFAULT_TIMEOUT, TORCHVISION_CLASSES, download_dataset
from mnist_lit.data.image_folder import folder_classes, load_image_folder, validation_size
from mnist_lit.data.keyed_random import AUGMENTATION, CONTINENTAL, ELASTIC, uniform
from mnist_lit.data.loaders import Batch, EvalLoader, TrainLoader
from mnist_lit.errors import InputError
from mnist_lit.system.distributed import rank_and_world_size

__all__ = ["MNISTDataModule"]


class MNISTDataModule(pl.LightningDataModule):
    """MNIST and its kin, or pictures of your own, in memory.

    Args:
        data_dir: the folder of the dataset's files; downloads go there.
        dataset: `mnist`, `fashion_mnist`, `kmnist`; `digits`, 1,797 small ones that need no download; or `folder`,
            your own pictures in `data_dir/{train,val,test}/<class>/`.
        batch_size: images of a training step over all devices.
        val_size: images set aside from training for validation, each class in proportion; 0 trains on all. Where a
            folder has a `val`, its pictures are those.
        split_seed: which images those are. It is not the training seed, so that runs of many seeds choose on the
            same images.
        degrees: rotate by up to ± this.
        scale: grow or shrink by up to ± this share.
        shear: slant by up to ± this many degrees.
        translate: shift by up to ± this many pixels.
        crop_prob: how often the middle 22×22 pixels fill the image, as in the tutorial.
        elastic: bend by moving control points, nine pixels apart, by up to ± this many pixels.
        anneal: share of `degrees` to `elastic` that is left in the last of `trainer.max_epochs`, in Python of
            `self.epochs`. They shrink epoch by epoch over the second half, so that a run ends on images like those
            it is tested on; 1 keeps them. Where `max_steps` ends a run sooner, they are larger there.
        continental: share of the ones that get an upstroke, and of the sevens that get a bar, before the warp.
        seed: of the order and the warps; the command line sets it from `seed_everything`.
        mirrors: addresses to download from in the place of the usual ones, a list or parted by commas; tried in turn.
        timeout: seconds a mirror may take for a file.
        shuffle: False repeats the first epoch's order; the command line sets it for `overfit_batches`.
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
        elastic: float = 0.0,
        anneal: float = 1.0,
        continental: float = 0.0,
        seed: int = 0,
        mirrors: list[str] | str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        *,
        shuffle: bool = True,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise InputError(f"data.batch_size: expected 1 or more, got {batch_size}")
        if val_size < 0:
            raise InputError(f"data.val_size: expected 0 or more, got {val_size}")
        for name, share in (("anneal", anneal), ("continental", continental)):
            if not 0 <= share <= 1:
                raise InputError(f"data.{name}: expected a share in [0, 1], got {share}")
        try:
            self.warp = RandomAffine(degrees, scale, shear, translate, crop_prob, elastic)
        except ValueError as error:
            raise InputError(f"data.{error}") from error
        self.save_hyperparameters(logger=False, ignore=["mirrors", "timeout"])
        self.data_dir, self.dataset, self.continental = data_dir, dataset, continental
        self.anneal = anneal
        self.batch_size, self.split_seed = batch_size, split_seed
        self.val_size = (validation_size(data_dir) if dataset == "folder" else 0) or val_size
        self.seed, self.shuffle = seed, shuffle
        self.mirrors, self.timeout = mirrors, timeout
        self.classes = folder_classes(data_dir) if dataset == "folder" else CLASS_NAMES[dataset]
        self.num_classes = len(self.classes)
        if continental and self.classes != DIGITS:
            raise InputError("data.continental: expected 0 for what is no digit")
        self.digits: InMemoryDataset | None = None
        self.device = torch.device("cpu")  # where the loaders keep the images; the command line says which
        self.epochs: int | None = None  # of the run; the command line takes `trainer.max_epochs`
        self._moved: dict[tuple[str, torch.device], tuple[Tensor, Tensor]] = {}

    def prepare_data(self) -> None:
        """Download what is missing or altered. Lightning calls it once a machine."""
        if self.dataset in TORCHVISION_CLASSES and self.digits is None:
            download_dataset(self.dataset, Path(self.data_dir), self.mirrors, self.timeout)

    def setup(self, stage: str | None = None) -> None:
        """Read and split. Raises InputError if the sizes do not fit the data."""
        if self.digits is not None:
            return
        own = self.dataset == "folder"
        data = load_image_folder(self.data_dir) if own else load_dataset(self.dataset, self.data_dir)
        total = len(data.train_labels)
        if self.val_size >= total:
            source = self.data_dir if own else self.dataset
            raise InputError(f"data.val_size: expected less than the {total} images of {source}, got {self.val_size}")
        if self.batch_size > total - self.val_size:
            left = f"the {total - self.val_size} training images"
            raise InputError(f"data.batch_size: expected no more than {left}, got {self.batch_size}")
        if data.val:
            self.train_indices, self.val_indices = torch.arange(total).tensor_split([total - data.val])
        else:
            self.train_indices, self.val_indices = stratified_split(data.train_labels, self.val_size, self.split_seed)
        self.digits = data

    def train_dataloader(self) -> TrainLoader:
        """Steps of `batch_size` images, shared among the devices."""
        images, labels = self._resident("train")
        return TrainLoader(
            images,
            labels,
            self.train_indices,
            self.batch_size,
            seed=self.seed,
            shuffle=self.shuffle,
            **_place(),
        )

    def val_dataloader(self) -> EvalLoader | list[EvalLoader]:
        """The images set aside; nothing where `val_size` is 0."""
        self._data()
        if self.val_size == 0:
            return []
        images, labels = self._resident("train")
        return EvalLoader(images, labels, self.val_indices, self.batch_size, **_place())

    def test_dataloader(self) -> EvalLoader:
        """The official test images, whole. Raises InputError where a folder has none."""
        images, labels = self._resident("test")
        if not len(labels):
            raise InputError(f"expected pictures in {self.data_dir}/test/CLASS/, got none")
        return EvalLoader(images, labels, torch.arange(len(labels)), self.batch_size, **_place())

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Alter a training batch where it now lies."""
        if batch.epoch is None:
            return batch
        images = batch.images
        if self.continental:
            draws = uniform(self.seed, batch.epoch, batch.indices, CONTINENTAL_DRAWS, stream=CONTINENTAL)
            images = add_continental_strokes(images, batch.labels, draws, self.continental)
        draws = uniform(self.seed, batch.epoch, batch.indices, DRAWS, stream=AUGMENTATION)
        bends = uniform(self.seed, batch.epoch, batch.indices, BENDS, stream=ELASTIC) if self.warp.elastic else None
        return batch._replace(images=self._warp(batch.epoch)(images, draws, bends))

    def _warp(self, epoch: int) -> RandomAffine:
        """An epoch's warp. Raises InputError where the limits shrink towards an end that is not set."""
        if self.anneal == 1:
            return self.warp
        if self.epochs is None or self.epochs < 1:
            raise InputError(
                "data.anneal: needs an end in epochs; set trainer.max_epochs (in Python: datamodule.epochs)"
            )
        done = min(max(2 * (epoch + 1) / self.epochs - 1, 0), 1)  # of the second half, once the epoch ends
        return self.warp.shrunk(1 - done * (1 - self.anneal))

    @cached_property
    def fingerprint(self) -> str:
        """md5 of the dataset's bytes."""
        return self._data().fingerprint()

    def _resident(self, part: str) -> tuple[Tensor, Tensor]:
        """The images and labels of `train` or `test`, whole, moved to the device once: no step has to send any."""
        data = self._data()
        if (part, self.device) not in self._moved:
            images, labels = getattr(data, f"{part}_images"), getattr(data, f"{part}_labels")
            self._moved[part, self.device] = images.to(self.device), labels.to(self.device)
        return self._moved[part, self.device]

    def _data(self) -> InMemoryDataset:
        if self.digits is None:
            raise RuntimeError("call setup() first")
        return self.digits


def _place() -> dict[str, int]:
    rank, world_size = rank_and_world_size()
    return {"rank": rank, "world_size": world_size}
