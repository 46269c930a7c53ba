"""The plain loop of 00_plain_loop.py as a script that a pilot can call: four lines are new.

paramcast pilot --metric accuracy --lr-range 0.01:0.5 -- \\
    python 18_plain_pilot.py --lr {lr} --seed {seed}
"""

import argparse

import torch
from sklearn.datasets import load_digits

import paramcast

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.05)
parser.add_argument("--seed", type=int, default=0)
arguments = parser.parse_args()
trial = paramcast.trial()  # new; neutral outside a pilot

torch.set_num_threads(1)  # the network is small
torch.manual_seed(arguments.seed)
digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
labels = torch.tensor(digits.target)
train, validation, test = slice(0, 800), slice(800, 1200), slice(1200, None)

model = torch.nn.Sequential(
    torch.nn.Conv2d(1, 8, 3, padding=1),
    torch.nn.ReLU(),
    torch.nn.MaxPool2d(2),
    torch.nn.Flatten(),
    torch.nn.Linear(8 * 4 * 4, 10),
)
optimizer = torch.optim.SGD(model.parameters(), lr=arguments.lr, momentum=0.9)
steps = trial.steps(8 * 25)  # new; fewer where the speed is judged
optimizer = trial.wrap(optimizer)  # new; PLP, another method or nothing
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)

step = 0
while step < steps:
    for batch in torch.randperm(800).split(32):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(images[batch]), labels[batch])
        loss.backward()
        optimizer.step()
        scheduler.step()
        step += 1
        if step == steps:
            break

with torch.no_grad(), trial.eval_weights(model):
    loss = torch.nn.functional.cross_entropy(model(images[validation]), labels[validation])
    accuracy = (model(images[test]).argmax(1) == labels[test]).float().mean()
print(f"test accuracy {100 * accuracy:.2f} %")
trial.done(validation_loss=loss, accuracy=accuracy)  # new
