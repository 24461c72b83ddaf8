"""The pure warp: (images, draws) → images, in one resampling, on whatever device they are. No random state.

The order of the parts and the meaning of the parameters are torchvision's `affine` (shear along x only), after the
tutorial's CenterCrop(22) and Resize(28), which together are a zoom; then an elastic bend (Simard et al. 2003, "Best
practices for convolutional neural networks", section 2). One resampling keeps strokes sharper than several.
"""

import math
from dataclasses import astuple, dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["BENDS", "DRAWS", "RandomAffine"]

DRAWS = 6  # uniform numbers an image: rotation, scale, shear, shift in x and in y, crop
KNOTS = 6  # along each side: the control points of the bend, nine pixels apart
BENDS = 2 * KNOTS * KNOTS  # uniform numbers more for an image that is bent
CROP_ZOOM = 28 / 22  # CenterCrop(22), then Resize(28)


@dataclass(frozen=True)
class RandomAffine:
    """How far an image may be moved. Each amount is drawn evenly from ± its limit; the default moves nothing.

    >>> images = torch.zeros(2, 28, 28, dtype=torch.uint8)
    >>> RandomAffine(degrees=15)(images, torch.full((2, DRAWS), 0.5)).equal(images)
    True
    """

    degrees: float = 0.0  # rotation
    scale: float = 0.0  # 0.1: from 0.9 to 1.1
    shear: float = 0.0  # degrees, along x
    translate: float = 0.0  # pixels, along x and y
    crop_prob: float = 0.0  # how often the middle 22×22 are blown up to 28×28
    elastic: float = 0.0  # pixels that a control point of the bend moves, along x and y

    def shrunk(self, share: float) -> "RandomAffine":
        """The warp with this share of every limit, and of `crop_prob`.

        >>> RandomAffine(degrees=15, translate=2).shrunk(0.5)
        Warp(degrees=7.5, scale=0.0, shear=0.0, translate=1.0, crop_prob=0.0, elastic=0.0)
        """
        return RandomAffine(*(limit * share for limit in astuple(self)))

    def parameters(self, draws: Tensor) -> dict[str, Tensor]:
        """What each image gets: float32 (B,) per parameter, from uniform numbers (B, DRAWS)."""
        signed = draws * 2 - 1
        return {
            "angle": signed[:, 0] * self.degrees,
            "scale": 1 + signed[:, 1] * self.scale,
            "shear": signed[:, 2] * self.shear,
            "x": signed[:, 3] * self.translate,
            "y": signed[:, 4] * self.translate,
            "zoom": torch.where(draws[:, 5] < self.crop_prob, CROP_ZOOM, 1.0),
        }

    def bend(self, draws: Tensor, side: int = 28) -> Tensor:
        """How far each pixel is read from its place: float32 (2, B, side, side), x first; draws: (B, BENDS).

        Cubic B-splines between control points, so that neighbours move together. The sums are written out: they must
        not depend on how many images a device holds.
        """
        knots = (draws * 2 - 1).view(-1, 2, KNOTS, KNOTS).transpose(0, 1) * self.elastic  # (2, B, KNOTS, KNOTS)
        weights = _spline(side).to(draws.device)  # (side, KNOTS)
        rows = sum(weights[:, n, None] * knots[:, :, n, None, :] for n in range(KNOTS))  # (2, B, side, KNOTS)
        assert isinstance(rows, Tensor)
        whole = sum(rows[..., n, None] * weights[:, n] for n in range(KNOTS))  # (2, B, side, side)
        assert isinstance(whole, Tensor)
        return whole

    def __call__(self, images: Tensor, draws: Tensor, bends: Tensor | None = None) -> Tensor:
        """Warp uint8 images (B, 28, 28) by uniform numbers (B, DRAWS), and (B, BENDS) where `elastic` is above 0.

        Bilinear, paper outside; uint8 again.
        """
        if self == RandomAffine() or len(images) == 0:
            return images
        p = self.parameters(draws)
        angle, shear = torch.deg2rad(p["angle"]), torch.tan(torch.deg2rad(p["shear"]))
        cos, sin = torch.cos(angle), torch.sin(angle)
        # The inverse of translate · rotate · shear · scale · zoom, for sampling backwards. Written out, not a matrix
        # product: its sums must not depend on how many images a device holds.
        size = p["scale"] * p["zoom"]
        rows, columns = images.shape[1:]
        centre = torch.arange(columns, device=images.device) - (columns - 1) / 2  # (28,), pixel centres
        x = (centre - p["x"][:, None])[:, None, :]  # (B, 1, 28)
        y = (centre - p["y"][:, None])[:, :, None]  # (B, 28, 1)
        cos, sin, shear, size = (value[:, None, None] for value in (cos, sin, shear, size))  # (B, 1, 1)
        v = (y * cos - x * sin) / size  # (B, 28, 28), rows to read
        u = (x * cos + y * sin) / size + shear * v  # (B, 28, 28), columns to read
        if self.elastic:
            assert bends is not None
            along_x, along_y = self.bend(bends, columns)
            u, v = u + along_x, v + along_y
        grid = torch.stack((u, v), dim=-1) * torch.tensor([2 / columns, 2 / rows], device=images.device)
        warped = F.grid_sample(images[:, None].float(), grid, padding_mode="zeros", align_corners=False)
        return warped[:, 0].round().to(torch.uint8)

    def __post_init__(self) -> None:
        limits = {
            "degrees": (0 <= self.degrees <= 180, "in [0, 180]"),
            "scale": (0 <= self.scale < 1, "in [0, 1)"),
            "shear": (0 <= self.shear < 90, "degrees in [0, 90)"),
            "translate": (self.translate >= 0 and math.isfinite(self.translate), "0 or more pixels"),
            "crop_prob": (0 <= self.crop_prob <= 1, "in [0, 1]"),
            "elastic": (self.elastic >= 0 and math.isfinite(self.elastic), "0 or more pixels"),
        }
        for name, (holds, wanted) in limits.items():
            if not holds:
                raise ValueError(f"{name}: expected {wanted}, got {getattr(self, name)}")


@cache
def _spline(side: int) -> Tensor:
    """What each control point weighs at each pixel: float32 (side, KNOTS), rows that sum to 1."""
    places = torch.linspace(1, KNOTS - 2, side)  # the outermost control points lie outside the image
    far = (places[:, None] - torch.arange(KNOTS)).abs()  # in steps between control points
    near = (4 - 6 * far**2 + 3 * far**3) / 6
    return torch.where(far < 1, near, (2 - far).clamp(min=0) ** 3 / 6)
