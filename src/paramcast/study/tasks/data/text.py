"""Texts as numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def encode(text: str) -> tuple[npt.NDArray[np.int64], str]:
    """Characters as numbers, and the alphabet: the text's characters in the order of their codes.

    Example:
        >>> encode("banana")
        (array([1, 0, 2, 0, 2, 0]), 'abn')
    """
    alphabet = "".join(sorted(set(text)))
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    places = np.searchsorted(np.array([ord(c) for c in alphabet]), codes)
    return places.astype(np.int64), alphabet
