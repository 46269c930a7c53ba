"""Real data for all frameworks: scikit-learn's digits, small enough for seconds."""

from __future__ import annotations

import os

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

os.environ.setdefault("KERAS_BACKEND", "torch")  # before anybody imports Keras


@pytest.fixture(scope="session")
def digits() -> tuple[Tensor, Tensor]:
    """The first 640 images, shape (640, 64) in [0, 1], and their labels."""
    data = load_digits()
    return torch.tensor(data.data[:640] / 16, dtype=torch.float32), torch.tensor(data.target[:640])
