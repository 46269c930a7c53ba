"""A script for `accelerate launch`, with arguments of its own."""

import argparse

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

import paramcast

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.1)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()

trial = paramcast.trial()
accelerator = Accelerator(cpu=True)
set_seed(args.seed)
x, y = load_digits(return_X_y=True)
order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
x, y = torch.tensor(x / 16, dtype=torch.float32)[order], torch.tensor(y)[order]

model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
optimizer = trial.wrap(torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9))
loader = DataLoader(TensorDataset(x[:900], y[:900]), batch_size=32, shuffle=True)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

step, steps = 0, trial.steps(80)
while step < steps:
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(inputs), targets)
        accelerator.backward(loss)
        optimizer.step()
        step += 1
        if step == steps:
            break

model.eval()
with trial.eval_weights(accelerator.unwrap_model(model)), torch.no_grad():
    loss = torch.nn.functional.cross_entropy(model(x[900:1300]), y[900:1300])
    accuracy = (model(x[1300:]).argmax(1) == y[1300:]).float().mean()
accelerator.print(f"accuracy {accuracy:.4f}")
trial.done(validation_loss=loss, accuracy=accuracy)
