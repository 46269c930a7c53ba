"""A small task that a test writes to a file of its own."""

BLOBS = """
import torch
from paramcast.study import Task

def blobs(count, seed, classes=3):
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(count) % classes
    centres = torch.randn(classes, 4, generator=torch.Generator().manual_seed(0))
    return centres[y] + torch.randn(count, 4, generator=g), y

def make_model():
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))

def task():
    settings = dict(
        name="blobs", model=make_model, epochs=2, batch_size=8, lr_range=(0.01, 0.3),
        train=blobs(40, 1), validation=blobs(40, 2), test=blobs(60, 3),
    )
    settings.update(changes())
    return Task(**settings)

def changes():
    return {}
"""
"""Three clouds of points: five steps an epoch, a few milliseconds a run."""
