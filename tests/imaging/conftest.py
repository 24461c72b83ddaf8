import numpy as np
import pytest
from numpy.typing import NDArray

from imaging.drawing import page, write_seven
from mnist_lit.imaging.find_digits import center_digit


@pytest.fixture(scope="session")
def seven() -> NDArray[np.uint8]:
    """A 7 on clean paper, uint8 (28, 28)."""
    return center_digit(write_seven(page(), 70, 50))
