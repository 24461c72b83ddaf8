"""Random affine warps as a pure function: (images, draws) → images, in one resampling, on any device. Steps and
parameters follow torchvision's `affine` (shear along x only), after the tutorial's CenterCrop(22) and Resize(28)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from mnist_lit.errors import InputError, require

DRAWS = 6  # uniform numbers per image: rotation, scale, shear, shift in x, shift in y, crop
CROP_ZOOM = 28 / 22  # CenterCrop(22), then Resize(28)


def annealed_strength(last: float, epoch: int | Tensor, epochs: int | None) -> float | Tensor:
    """The fraction of a warp's limits that an epoch uses: 1, then falling linearly to `last` over the second half.

    epoch: counted from 0; an int64 scalar tensor gives a float64 one, without waiting for its device. Raises
    InputError if the run has no last epoch.

    >>> [annealed_strength(0.5, epoch, 4) for epoch in range(4)]
    [1.0, 1.0, 0.75, 0.5]
    """
    if last == 1:
        return 1.0
    if epochs is None or epochs < 1:
        raise InputError("data.anneal: needs a fixed number of epochs; set trainer.max_epochs")
    if isinstance(epoch, Tensor):
        return 1 - (2 * (epoch.double() + 1) / epochs - 1).clamp(0, 1) * (1 - last)
    done = min(max(2 * (epoch + 1) / epochs - 1, 0), 1)  # fraction of the second half that is over after this epoch
    return 1 - done * (1 - last)


@dataclass(frozen=True)
class RandomAffine:
    """Limits of a random warp: each amount is drawn uniformly from ± its limit. The default changes nothing. Raises
    InputError for a limit out of range.

    >>> images = torch.zeros(2, 28, 28, dtype=torch.uint8)
    >>> RandomAffine(degrees=15)(images, torch.full((2, DRAWS), 0.5)).equal(images)
    True
    """

    degrees: float = 0.0  # rotation
    scale: float = 0.0  # 0.1: from 0.9 to 1.1
    shear: float = 0.0  # degrees, along x
    translate: float = 0.0  # pixels, along x and y
    crop_prob: float = 0.0  # probability of zooming the central 22×22 pixels to 28×28

    def __post_init__(self) -> None:
        for name, valid, expected in (
            ("degrees", 0 <= self.degrees <= 180, "in [0, 180]"),
            ("scale", 0 <= self.scale < 1, "in [0, 1)"),
            ("shear", 0 <= self.shear < 90, "degrees in [0, 90)"),
            ("translate", 0 <= self.translate < torch.inf, "0 or more pixels"),
            ("crop_prob", 0 <= self.crop_prob <= 1, "in [0, 1]"),
        ):
            require(f"data.{name}", getattr(self, name), expected, valid)

    def parameters(self, draws: Tensor, strength: float | Tensor = 1.0) -> dict[str, Tensor]:
        """Each image's warp from uniform numbers (B, DRAWS): float32 (B,) per parameter; `strength` as in a call."""
        signed, cropped = draws * 2 - 1, draws[:, 5] < self.crop_prob * strength
        return {
            "angle": signed[:, 0] * (self.degrees * strength),
            "scale": 1 + signed[:, 1] * (self.scale * strength),
            "shear": signed[:, 2] * (self.shear * strength),
            "x": signed[:, 3] * (self.translate * strength),
            "y": signed[:, 4] * (self.translate * strength),
            "zoom": torch.ones_like(draws[:, 5]).masked_fill(cropped, CROP_ZOOM),
        }

    # The warp runs backwards: every output pixel looks up the input point that lands on it, so none stays empty. For a
    # point p measured from the image center, the forward map is p ↦ R·K·s·p + t: scale by s = scale·zoom, shear by
    # K = [1 −tan φ; 0 1], rotate by R, shift by t. The inverse is p ↦ K⁻¹·R⁻¹·(p − t) / s, where R⁻¹ is R transposed
    # and K⁻¹ only flips the sign of tan φ; torchvision's `_get_inverse_affine_matrix` builds the same matrix. All steps
    # share one bilinear resampling, which blurs strokes less than one per step. The products are written out per pixel
    # because the order in which a matrix product sums may depend on the batch size; written out, an image gets the
    # same bits in any shard, on any number of devices.
    def __call__(self, images: Tensor, draws: Tensor, strength: float | Tensor = 1.0) -> Tensor:
        """Warp uint8 images (B, 28, 28) by uniform numbers (B, DRAWS): uint8 (B, 28, 28), paper outside the input.

        strength: a factor on every limit and on `crop_prob`, see `annealed_strength`.
        """
        if self == RandomAffine() or len(images) == 0:
            return images
        p = self.parameters(draws, strength)
        angle, shear = torch.deg2rad(p["angle"]), torch.tan(torch.deg2rad(p["shear"]))
        size = p["scale"] * p["zoom"]
        cos, sin, shear, size = (value[:, None, None] for value in (angle.cos(), angle.sin(), shear, size))  # (B, 1, 1)
        center = torch.arange(28, device=images.device) - 27 / 2  # (28,), pixel centers
        x = (center - p["x"][:, None])[:, None, :]  # (B, 1, 28)
        y = (center - p["y"][:, None])[:, :, None]  # (B, 28, 1)
        v = (y * cos - x * sin) / size  # (B, 28, 28), the rows to read
        u = (x * cos + y * sin) / size + shear * v  # (B, 28, 28), the columns to read
        grid = torch.stack((u, v), dim=-1) * (2 / 28)  # (B, 28, 28, 2), from -1 to 1
        warped = F.grid_sample(images[:, None].float(), grid, padding_mode="zeros", align_corners=False)
        return warped[:, 0].round().to(torch.uint8)
