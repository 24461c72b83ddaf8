"""The tutorial's network and the scaling of its input. torch only; knows nothing of losses, learning rates or devices.

Source of the architecture: "PyTorch CNN Tutorial for MNIST Digit Classification" (aakashvardhan/s5-pytorch-tutorial,
MIT licence).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["FEATURES", "MEAN", "STD", "TutorialCNN", "he_init", "standardize"]

MEAN, STD = 0.1307, 0.3081  # of MNIST's 60,000 training images, scaled to [0, 1]
FEATURES = 4096  # what the convolutions hand to fc1: 256 × 4 × 4


def standardize(pixels: Tensor) -> Tensor:
    """Scale 8-bit digits to the network's range.

    pixels: uint8 (B, 28, 28), 0 = paper, 255 = ink. Returns float32 (B, 1, 28, 28).
    Raises ValueError on any other shape or dtype: nothing is resized here.

    >>> standardize(torch.zeros(2, 28, 28, dtype=torch.uint8)).shape
    torch.Size([2, 1, 28, 28])
    """
    if pixels.dtype != torch.uint8 or pixels.ndim != 3 or pixels.shape[1:] != (28, 28):
        raise ValueError(f"expected uint8 (B, 28, 28), got {pixels.dtype} {tuple(pixels.shape)}")
    return (pixels.float().div(255).sub(MEAN).div(STD)).unsqueeze(1)


class TutorialCNN(nn.Module):
    """Four 3×3 convolutions without padding, two poolings, two fully connected layers: 593,200 parameters.

    Input: float32 (B, 1, 28, 28), standardized. Output: log-probabilities, float32 (B, num_classes).
    The tutorial's prose says that conv1 keeps 28×28 and that pooling gives 13×13. Without padding it is 26 and 12; with
    it fc1 would get its 4096 inputs as well, since pooling drops what is left over of 9×9.

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
        self.fc1 = nn.Linear(FEATURES, 50)
        self.fc2 = nn.Linear(50, num_classes)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-probabilities of standardized images (B, 1, 28, 28).

        mask: (B, 4096), multiplied onto the convolutions' features. Dropout is the caller's: it draws the mask.
        """
        return self.classify(self.features(x), mask)

    def features(self, x: Tensor) -> Tensor:
        """What the convolutions see in standardized images (B, 1, 28, 28): (B, 256, 4, 4)."""
        x = F.relu(self.conv1(x))  # (B, 32, 26, 26)
        x = self.pool(F.relu(self.conv2(x)))  # (B, 64, 24, 24) → (B, 64, 12, 12)
        x = F.relu(self.conv3(x))  # (B, 128, 10, 10)
        return self.pool(F.relu(self.conv4(x)))  # type: ignore[no-any-return]  # (B, 256, 8, 8) → (B, 256, 4, 4)

    def classify(self, features: Tensor, mask: Tensor | None = None) -> Tensor:
        """Log-probabilities (B, 10) of the convolutions' features (B, 256, 4, 4); for the mask see `forward`."""
        x = features.flatten(1)  # (B, 4096)
        if mask is not None:
            x = x * mask
        x = F.relu(self.fc1(x))  # (B, 50)
        return F.log_softmax(self.fc2(x), dim=1)  # (B, 10)


def he_init(network: nn.Module) -> None:
    """Kaiming-normal weights for ReLU, zero biases (He et al. 2015, "Delving Deep into Rectifiers", section 2.2).

    Draws from torch's global generator; the caller seeds it.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
