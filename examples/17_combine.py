"""Average and extrapolate the checkpoints of a training that is over.

Run it as a script, which trains first, or combine what it saved with the command line:

    python 17_combine.py checkpoints
    paramcast combine checkpoints/*.pt --eval 17_combine.py:evaluate --test 17_combine.py:test \
        --metric loss -o best.pt
"""

import sys
import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_digits
from torch.nn import functional

import paramcast

x, y = (torch.tensor(each) for each in load_digits(return_X_y=True))
order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
x, y = x[order].float() / 16, y[order]
net = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))


def train(folder: Path) -> list[Path]:
    """A constant rate and no average: a checkpoint after each of 20 epochs."""
    torch.manual_seed(0)
    for layer in net[::2]:
        layer.reset_parameters()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(1, 21):
        for batch in torch.randperm(800).split(16):
            optimizer.zero_grad()
            functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
        torch.save({"model": net.state_dict(), "epoch": epoch}, folder / f"ckpt_{epoch}.pt")
    return list(folder.glob("*.pt"))


def results(state, first: int, last: int) -> dict[str, torch.Tensor]:
    net.load_state_dict(state)
    with torch.no_grad():
        outputs, labels = net(x[first:last]), y[first:last]
    right = (outputs.argmax(1) == labels).float().mean()
    return {"loss": functional.cross_entropy(outputs, labels), "accuracy": right}


def evaluate(state):
    """What chooses: validation data."""
    return results(state, 800, 1300)


def test(state):
    """What has chosen nothing."""
    return results(state, 1300, 1797)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        Path(sys.argv[1]).mkdir()
        print(*train(Path(sys.argv[1])))
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = paramcast.combine(
                train(Path(folder)), evaluate=evaluate, test=test, metric="loss"
            )
            print(found)
            best = found.state_dict()
