"""PLP in JAX: a compiled training loop with optax, accumulation, and a resume in mid-cycle."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

from paramcast.integrations.optax import plp

digits = load_digits()
images = jnp.asarray(digits.data / 16, jnp.float32)
labels = jnp.asarray(digits.target)
train, test = slice(0, 1200), slice(1200, None)


def logits(params, x):
    hidden = jax.nn.relu(x @ params["w1"] + params["b1"])
    return hidden @ params["w2"] + params["b2"]


def loss_fn(params, batch):
    scores = logits(params, images[batch])
    return optax.softmax_cross_entropy_with_integer_labels(scores, labels[batch]).mean()


def new_params():
    first, second = jax.random.split(jax.random.key(0))
    return {
        "w1": jax.random.normal(first, (64, 64)) / 8,
        "b1": jnp.zeros(64),
        "w2": jax.random.normal(second, (64, 10)) / 8,
        "b2": jnp.zeros(10),
    }


schedule = optax.cosine_decay_schedule(0.1, 5 * 38)
base = optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(schedule, momentum=0.9))
optimizer = plp(base)  # the one line; it stays the last transformation


@jax.jit
def step(params, state, batch):
    loss, gradients = jax.value_and_grad(loss_fn)(params, batch)
    updates, state = optimizer.update(gradients, state, params)  # params are needed
    return optax.apply_updates(params, updates), state, loss


params = new_params()
state = optimizer.init(params)
order = np.random.default_rng(0)
for epoch in range(5):
    for batch in np.array_split(order.permutation(1200), 38):
        params, state, loss = step(params, state, batch)
    accuracy = (logits(params, images[test]).argmax(1) == labels[test]).mean()
    print(f"epoch {epoch + 1}: test accuracy {100 * accuracy:.2f} %")

# The state is a pytree of arrays: it is saved as the parameters are, the running cycle included.
file = io.BytesIO()
np.savez(file, *jax.tree.leaves((params, state)))
file.seek(0)
with np.load(file) as saved:
    leaves = [jnp.asarray(saved[name]) for name in saved.files]
blank = new_params()
params, state = jax.tree.unflatten(jax.tree.structure((blank, optimizer.init(blank))), leaves)
print("resumed", int(state.done), "steps into a cycle of 3")

# Accumulation goes outside: four micro-batches are one step of the base, and of the cycle.
accumulating = optax.MultiSteps(plp(base), every_k_schedule=4)
print("accumulating:", type(accumulating.init(new_params())).__name__)
