"""JAX with optax, judged by a pilot: no torch in the loop.

paramcast pilot 16_jax_pilot.py:train --quick
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import paramcast

metric = "accuracy"
lr_range = (0.03, 1.0)
X, Y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)


def logits(params, x):
    return jax.nn.relu(x @ params["w1"] + params["b1"]) @ params["w2"] + params["b2"]


def loss_of(params, x, y):
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, x), y).mean()


def train(trial):
    first, second = jax.random.split(jax.random.key(trial.seed))
    params = {
        "w1": jax.random.normal(first, (64, 32)) / 8, "b1": jnp.zeros(32),
        "w2": jax.random.normal(second, (32, 10)) / 6, "b2": jnp.zeros(10),
    }  # fmt: skip
    steps = trial.steps(120)
    schedule = optax.cosine_decay_schedule(trial.lr, steps)
    optimizer = trial.wrap(optax.sgd(schedule, momentum=0.9))
    state = optimizer.init(params)

    @jax.jit
    def update(params, state, x, y):
        loss, gradients = jax.value_and_grad(loss_of)(params, x, y)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, loss

    rng = np.random.default_rng(trial.seed)
    for step in range(steps):
        batch = rng.integers(0, 900, 32)
        params, state, loss = update(params, state, X[batch], Y[batch])
        if step % 20 == 0:
            trial.report(step, train_loss=loss)
    return {
        "validation_loss": loss_of(params, X[900:1300], Y[900:1300]),
        "accuracy": jnp.mean(logits(params, X[1300:]).argmax(1) == Y[1300:]),
    }


if __name__ == "__main__":
    results = train(paramcast.Trial(lr=0.3))  # outside a pilot: nothing of ours happens
    print({name: float(value) for name, value in results.items()})
