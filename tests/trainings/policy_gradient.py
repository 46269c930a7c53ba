"""REINFORCE on a corridor: a noisy return, and seeds that give up at high learning rates."""

import torch
from torch import nn
from torch.distributions import Categorical

metric = tune_by = "episode_return"
lr_range = (0.03, 1.0)
margin = 0.5
LENGTH, TURNS = 6, 30


def play(policy, episodes, generator_seed):
    """Walk right to the goal on a slippery floor; each turn costs, but little at the wall."""
    torch.manual_seed(generator_seed)
    place = torch.zeros(episodes, dtype=torch.long)
    returns, logs = torch.zeros(episodes), torch.zeros(episodes)
    for _ in range(TURNS):
        inside = (place < LENGTH).float()
        seen = nn.functional.one_hot(place.clamp(max=LENGTH - 1), LENGTH).float()
        choice = Categorical(logits=policy(seen), validate_args=False)
        action = choice.sample()
        logs = logs + choice.log_prob(action) * inside
        slips = torch.rand(episodes) < 0.25
        step = torch.where(slips, -1, 2 * action - 1)
        place = torch.where(inside.bool(), (place + step).clamp(min=0), place)
        cost = torch.where(place == 0, 0.6, 1.0)
        returns = returns - cost * inside + 10.0 * inside * (place == LENGTH)
    return returns, logs


def train(trial):
    torch.manual_seed(trial.seed)
    policy = nn.Sequential(nn.Linear(LENGTH, 16), nn.Tanh(), nn.Linear(16, 2))
    optimizer = trial.wrap(torch.optim.SGD(policy.parameters(), lr=trial.lr))
    for step in range(trial.steps(25)):
        returns, logs = play(policy, 16, 1000 * trial.seed + step)
        loss = -(logs * (returns - returns.mean())).mean() / 10
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 5 == 0:
            trial.report(step, policy_loss=loss, episode_return=returns.mean())
    with trial.eval_weights(policy), torch.no_grad():
        returns, _ = play(policy, 64, 10**9 + trial.seed)
    return {"episode_return": returns.mean(), "solved": (returns > 0).float().mean()}
