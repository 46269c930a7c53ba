"""PLP under Keras 3 on the torch back end: the torch optimizer does the steps of `fit`."""

import os

os.environ["KERAS_BACKEND"] = "torch"  # before Keras is imported

import keras
import torch
from sklearn.datasets import load_digits

import paramcast
from paramcast.averaging import EMA
from paramcast.integrations.keras import ForecastCallback, TorchOptimizer
from paramcast.predictors import Midline

torch.set_num_threads(1)  # the network is small
keras.utils.set_random_seed(0)
digits = load_digits()
images, labels = (digits.images[..., None] / 16).astype("float32"), digits.target


def optimizer(parameters):
    base = torch.optim.SGD(parameters, lr=0.05, momentum=0.9)
    return paramcast.Forecast(base, Midline(), average=EMA(half_life=30))


model = keras.Sequential(
    [
        keras.layers.Input((8, 8, 1)),
        keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
        keras.layers.MaxPooling2D(),
        keras.layers.Flatten(),
        keras.layers.Dense(10),
    ]
)
model.compile(
    optimizer=TorchOptimizer(optimizer, learning_rate=0.05),
    loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
history = model.fit(
    images[:1200],
    labels[:1200],
    epochs=3,
    batch_size=32,
    validation_data=(images[1200:], labels[1200:]),
    callbacks=[ForecastCallback()],
    verbose=0,
).history

for i in range(3):
    accuracy, jump = history["val_accuracy"][i], history["forecast/jump_norm"][i]
    print(f"epoch {i + 1}: {100 * accuracy:.2f} % with averaged weights, jump {jump:.4f}")
