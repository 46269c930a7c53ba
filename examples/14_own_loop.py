"""A training loop of your own that a pilot can judge: dict batches, two inputs, a mask.

paramcast pilot 14_own_loop.py:train --quick
"""

import torch
from torch import nn
from torch.utils.data import DataLoader

import paramcast

metric = "rmse"  # judged, on the test split
tune_by = "validation_loss"  # chooses the learning rates
lr_range = (0.01, 0.3)
USERS, ITEMS, FACTORS = 60, 40, 6


class TwoTowers(nn.Module):
    """Who likes what: a rating is the product of what a user and an item are like."""

    def __init__(self):
        super().__init__()
        self.users = nn.Embedding(USERS, FACTORS)
        self.items = nn.Embedding(ITEMS, FACTORS)
        self.mean = nn.Parameter(torch.tensor(3.0))

    def forward(self, *, user, item):
        return self.mean + (self.users(user) * self.items(item)).sum(-1)


def ratings(count, seed):
    """Ratings that two hidden factors make, with noise; every tenth is missing."""
    truth, generator = (torch.Generator().manual_seed(s) for s in (0, seed))
    taste, kind = (torch.randn(n, 2, generator=truth) for n in (USERS, ITEMS))
    user = torch.randint(USERS, (count,), generator=generator)
    item = torch.randint(ITEMS, (count,), generator=generator)
    noise = 0.3 * torch.randn(count, generator=generator)
    columns = {
        "user": user,
        "item": item,
        "rating": 3 + (taste[user] * kind[item]).sum(-1) + noise,
        "known": torch.rand(count, generator=generator) > 0.1,
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def loss_of(model, batch):
    predicted = model(user=batch["user"], item=batch["item"])
    return (predicted - batch["rating"])[batch["known"]].square().mean()


def train(trial):
    torch.manual_seed(trial.seed)
    model = TwoTowers()
    steps = trial.steps(200)
    optimizer = trial.wrap(torch.optim.Adam(model.parameters(), lr=trial.lr))
    loader = DataLoader(ratings(1500, 1), batch_size=64, shuffle=True)
    step = 0
    while step < steps:
        for batch in loader:
            loss = loss_of(model, batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step % 20 == 0:
                trial.report(step, train_loss=loss)
            if step == steps:
                break
    (validation,), (test,) = (DataLoader(ratings(600, seed), batch_size=600) for seed in (2, 3))
    with trial.eval_weights(model), torch.no_grad():
        return {
            "validation_loss": loss_of(model, validation).item(),
            "rmse": loss_of(model, test).sqrt().item(),
        }


if __name__ == "__main__":
    print(train(paramcast.Trial(lr=0.1)))  # outside a pilot: nothing of ours happens
