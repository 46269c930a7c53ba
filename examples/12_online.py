"""An online loop of your own: test, then train; drift is noticed, and PLP starts a new cycle.

Digits arrive in batches of 20. After 60 batches the labels change places, as if somebody had
swapped the keys; after 120 they change back.
"""

import torch
from sklearn.datasets import load_digits

import paramcast
from paramcast.study.training.online.drift import PageHinkley

BATCH, CHANGES = 20, (60, 120)

torch.manual_seed(0)
digits = load_digits()
images = torch.tensor(digits.data, dtype=torch.float32) / 16
labels = torch.tensor(digits.target)

model = torch.nn.Sequential(torch.nn.Linear(64, 100), torch.nn.ReLU(), torch.nn.Linear(100, 10))
optimizer = paramcast.PLP(torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9))
drift = PageHinkley()  # fed with shares of errors, for which its defaults are made

hits, alarms = [], []
for step in range(180):
    batch = torch.randint(len(labels), (BATCH,))
    inputs, targets = images[batch], labels[batch]
    if CHANGES[0] <= step < CHANGES[1]:
        targets = targets ^ 1  # 0 and 1, 2 and 3, ... change places

    outputs = model(inputs)
    accuracy = (outputs.argmax(1) == targets).float().mean().item()  # before the step: a test
    hits.append(accuracy)
    if drift.update(1 - accuracy):
        alarms.append(step)
        optimizer.restart_cycle()  # points from before the change say nothing about what follows
    optimizer.zero_grad()
    torch.nn.functional.cross_entropy(outputs, targets).backward()
    optimizer.step()

print(f"prequential accuracy {100 * sum(hits) / len(hits):.1f} %")
for start in (0, *CHANGES):
    part = hits[start : start + 60]
    print(f"batches {start} to {start + 59}: first ten {100 * sum(part[:10]) / 10:.1f} %, "
          f"last ten {100 * sum(part[-10:]) / 10:.1f} %")  # fmt: skip
print(f"changes at {CHANGES}, noticed at {alarms}")
