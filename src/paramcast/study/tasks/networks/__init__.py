"""Networks for the built-in tasks and for data that come without one."""

from .small import mlp, small_cnn, strided_cnn

__all__ = ["mlp", "small_cnn", "strided_cnn"]
