"""The tutorial's network and its input normalization. torch only: no losses, learning rates or devices.

Architecture: "PyTorch CNN Tutorial for MNIST Digit Classification" (aakashvardhan/s5-pytorch-tutorial, MIT license).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEAN, STD = 0.1307, 0.3081  # of MNIST's 60,000 training images, scaled to [0, 1]
FEATURES = 4096  # inputs of fc1: 256 channels × 4 × 4 pixels


def standardize(pixels: Tensor) -> Tensor:
    """Scale 8-bit images to the network's input: uint8 (B, 28, 28), 0 = paper, 255 = ink → float32 (B, 1, 28, 28).

    Raises ValueError for any other shape or dtype: nothing is resized here.

    >>> standardize(torch.zeros(2, 28, 28, dtype=torch.uint8)).shape
    torch.Size([2, 1, 28, 28])
    """
    if pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.shape[1:] != (28, 28):
        raise ValueError(f"expected uint8 (B, 28, 28), got {pixels.dtype} {tuple(pixels.shape)}")
    return (pixels.float().div(255).sub(MEAN).div(STD)).unsqueeze(1)


class MaskedDropout(nn.Module):
    """Dropout whose mask the caller sets and removes: a factor per feature, 0 or 1 / (1 - p). Without one it is
    `nn.Dropout`."""

    mask: Tensor | None

    def __init__(self, p: float = 0.0) -> None:
        super().__init__()
        self.p, self.mask = p, None

    def forward(self, x: Tensor) -> Tensor:
        mask = self.mask
        if mask is None or not self.training:
            return F.dropout(x, self.p, self.training)
        return x * mask


class TutorialCNN(nn.Module):
    """Four 3×3 convolutions without padding, two poolings, two fully connected layers: 593,200 parameters.

    Input: standardized float32 (B, 1, 28, 28). Output: log-probabilities, float32 (B, num_classes).
    The tutorial's text says that conv1 keeps 28×28 and that pooling gives 13×13. Without padding they give 26 and 12.
    Either way fc1 gets 4096 inputs, because pooling 9×9 drops the last row and column.

    >>> sum(p.numel() for p in TutorialCNN().parameters())
    593200
    """

    def __init__(self, num_classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, kernel_size=3)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=3)
        self.conv3 = nn.Conv2d(64, 128, kernel_size=3)
        self.conv4 = nn.Conv2d(128, 256, kernel_size=3)
        self.pool = nn.MaxPool2d(2)
        self.dropout = MaskedDropout()
        self.fc1 = nn.Linear(FEATURES, 50)
        self.fc2 = nn.Linear(50, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Log-probabilities of standardized images."""
        return self.classify(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """The convolutions' output, (B, 256, 4, 4), for standardized images (B, 1, 28, 28)."""
        x = F.relu(self.conv1(x))  # (B, 32, 26, 26)
        x = self.pool(F.relu(self.conv2(x)))  # (B, 64, 24, 24) → (B, 64, 12, 12)
        x = F.relu(self.conv3(x))  # (B, 128, 10, 10)
        x = self.pool(F.relu(self.conv4(x)))  # (B, 256, 8, 8) → (B, 256, 4, 4)
        return x

    def classify(self, features: Tensor) -> Tensor:
        """Log-probabilities (B, num_classes) of features (B, 256, 4, 4)."""
        x = self.dropout(features.flatten(1))  # (B, 4096)
        x = F.relu(self.fc1(x))  # (B, 50)
        return F.log_softmax(self.fc2(x), dim=1)  # (B, num_classes)
