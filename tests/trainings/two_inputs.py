"""A recommender with two inputs, users and items, and ratings in batches of dicts."""

import torch
from torch import nn
from torch.utils.data import DataLoader

metric = "rmse"
lr_range = (0.003, 0.3)
USERS, ITEMS, FACTORS = 60, 40, 6


class TwoTowers(nn.Module):
    def __init__(self):
        super().__init__()
        self.users = nn.Embedding(USERS, FACTORS)
        self.items = nn.Embedding(ITEMS, FACTORS)
        self.bias = nn.Parameter(torch.tensor(3.0))

    def forward(self, *, user, item):
        return self.bias + (self.users(user) * self.items(item)).sum(-1)


def ratings(count, seed):
    generator = torch.Generator().manual_seed(seed)
    user = torch.randint(USERS, (count,), generator=generator)
    item = torch.randint(ITEMS, (count,), generator=generator)
    truth = torch.Generator().manual_seed(0)
    taste, kind = (torch.randn(n, 3, generator=truth) for n in (USERS, ITEMS))
    noise = 0.3 * torch.randn(count, generator=generator)
    rating = 3 + (taste[user] * kind[item]).sum(-1) / 2 + noise
    return [{"user": u, "item": i, "rating": r} for u, i, r in zip(user, item, rating, strict=True)]


def train(trial):
    torch.manual_seed(trial.seed)
    model = TwoTowers()
    optimizer = trial.wrap(torch.optim.Adam(model.parameters(), lr=trial.lr))
    loader = DataLoader(ratings(800, 1), batch_size=40, shuffle=True)
    steps, step = trial.steps(100), 0
    while step < steps:
        for batch in loader:
            rating = batch.pop("rating")
            loss = nn.functional.mse_loss(model(**batch), rating)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            step += 1
            if step % 20 == 0:
                trial.report(step, train_loss=loss)
            if step == steps:
                break

    @torch.no_grad()
    def mse(seed):
        (batch,) = DataLoader(ratings(400, seed), batch_size=400)
        rating = batch.pop("rating")
        return nn.functional.mse_loss(model(**batch), rating).item()

    with trial.eval_weights(model):
        return {"validation_loss": mse(2), "rmse": mse(3) ** 0.5}
