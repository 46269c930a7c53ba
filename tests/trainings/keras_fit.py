"""A Keras 3 model on the torch back end: `compile`, `fit`, `evaluate`."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import torch
from sklearn.datasets import load_digits

from paramcast.integrations.keras import TorchOptimizer

metric = "accuracy"
lr_range = (0.01, 0.3)


def train(trial):
    keras.utils.set_random_seed(trial.seed)
    model = keras.Sequential(
        [keras.Input((64,)), keras.layers.Dense(32, "relu"), keras.layers.Dense(10)]
    )

    def optimizer(parameters):
        return trial.wrap(torch.optim.SGD(parameters, lr=0.1, momentum=0.9))

    model.compile(
        optimizer=TorchOptimizer(optimizer, learning_rate=trial.lr),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype("float32")
    model.fit(x[:900], y[:900], batch_size=32, epochs=round(4 * trial.share), verbose=0)
    with trial.eval_weights():
        loss, _ = model.evaluate(x[900:1300], y[900:1300], verbose=0)
        _, accuracy = model.evaluate(x[1300:], y[1300:], verbose=0)
    return {"validation_loss": loss, "accuracy": accuracy}
