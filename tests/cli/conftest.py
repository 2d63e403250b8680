"""What the tests of commands are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def right(home) -> Path:
    """A colour image whose right half is bright, of another size than the bundle ``sides`` takes."""
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, 20:] = 255
    Image.fromarray(pixels).save(home / "right.png")
    return home / "right.png"
