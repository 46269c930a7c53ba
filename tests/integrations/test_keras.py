"""Keras 3 on the torch back end, the real one: fit with a torch optimizer, saving, callbacks."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("keras")
import keras
from small import Averaging, adamw, averaged, each_average, loss_of, plp, sgd

import paramcast as pc
from paramcast.errors import ArgumentError, CheckpointError
from paramcast.integrations.keras import ForecastCallback, TorchOptimizer
from paramcast.integrations.packing import pack, unpack

# Keras 3.15 hands its variables to NumPy 2 in the old way.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
EPOCH = 20  # batches of 32: two steps into a cycle of three


@keras.saving.register_keras_serializable("tests")
def registered(parameters: Any) -> pc.PLP:
    return pc.PLP(adamw(parameters))


def plp_of(base: Any, parameters: Any) -> pc.PLP:
    return pc.PLP(base(parameters, lr=0.1))


def model(make: Any = None, learning_rate: Any = 0.1, seed: int = 0, **options: Any) -> Any:
    keras.utils.set_random_seed(seed)
    net = keras.Sequential(
        [
            keras.layers.Input((64,)),
            keras.layers.Dense(16, activation="relu"),
            keras.layers.Dense(10),
        ]
    )
    net.compile(
        optimizer=TorchOptimizer(plp(sgd) if make is None else make, learning_rate),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        **options,
    )
    return net


def fit(net: Any, data: Any, epochs: int, first: int = 0, **options: Any) -> Any:
    return net.fit(
        *data, batch_size=32, epochs=epochs, initial_epoch=first, shuffle=False, verbose=0,
        **options,
    )  # fmt: skip


def weights(net: Any) -> list[Tensor]:
    return [v.value.detach().clone() for v in net.trainable_variables]


def equal(a: Any, b: Any) -> bool:
    return all(torch.equal(x, y) for x, y in zip(weights(a), weights(b), strict=True))


class AsTorch(nn.Module):
    """The same network with the same weights, without Keras."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.ps = nn.ParameterList(weights(net))

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.ps[0] + self.ps[1]).relu() @ self.ps[2] + self.ps[3]


@pytest.mark.compat(stack="Keras 3 (torch)", feature="train")
@pytest.mark.parametrize("base", [sgd, adamw])
def test_fit_equals_the_plain_loop(digits: Any, base: Any) -> None:
    net = model(plp(base), learning_rate=0.01)
    plain = AsTorch(net)
    optimizer = plp(base)(plain.parameters())
    optimizer.param_groups[0]["lr"] = 0.01
    fit(net, digits, 1)
    for batch in zip(digits[0].split(32), digits[1].split(32), strict=True):
        optimizer.zero_grad()
        loss_of(plain, batch).backward()
        optimizer.step()
    assert net.optimizer.inner.state_dict()["paramcast"]["steps"] == EPOCH
    for ours, theirs in zip(weights(net), plain.ps, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.compat(stack="Keras 3 (torch)", feature="train")
def test_keras_schedules_and_callbacks_rule_the_learning_rate(digits: Any) -> None:
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, EPOCH, 0.5, staircase=True)
    net = model(learning_rate=schedule)
    fit(net, digits, 2)
    assert net.optimizer.inner.param_groups[0]["lr"] == pytest.approx(0.05)

    net = model()
    half = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    fit(net, digits, 2, callbacks=[half])
    assert net.optimizer.inner.param_groups[0]["lr"] == pytest.approx(0.025)


# --- resuming -------------------------------------------------------------------------------------


@pytest.mark.compat(stack="Keras 3 (torch)", feature="resume in mid-cycle")
@pytest.mark.parametrize("base", [sgd, adamw])
def test_saved_weights_resume_bitwise(digits: Any, base: Any, tmp_path: Path) -> None:
    undisturbed, resumed = model(plp(base), 0.01), model(plp(base), 0.5, seed=1)
    fit(undisturbed, digits, 1)
    assert undisturbed.optimizer.inner.state_dict()["paramcast"]["cycle"]["done"] == 2
    undisturbed.save_weights(tmp_path / "run.weights.h5")
    resumed.load_weights(tmp_path / "run.weights.h5")
    for net in (undisturbed, resumed):
        fit(net, digits, 2, first=1)
    assert equal(resumed, undisturbed)


@pytest.mark.compat(stack="Keras 3 (torch)", feature="resume in mid-cycle")
def test_a_saved_model_resumes_bitwise(digits: Any, tmp_path: Path) -> None:
    undisturbed = model(registered, 0.01)
    fit(undisturbed, digits, 1)
    undisturbed.save(tmp_path / "run.keras")
    resumed = keras.saving.load_model(tmp_path / "run.keras")
    for net in (undisturbed, resumed):
        fit(net, digits, 2, first=1)
    assert equal(resumed, undisturbed)


@pytest.mark.compat(stack="Keras 3 (torch)", feature="resume in mid-cycle")
def test_backup_and_restore_resumes_bitwise(digits: Any, tmp_path: Path) -> None:
    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 1:
                raise KeyboardInterrupt

    def backup() -> Any:
        return keras.callbacks.BackupAndRestore(tmp_path / "backup")

    undisturbed, interrupted, resumed = model(), model(), model(seed=1)
    fit(undisturbed, digits, 3)
    with pytest.raises(KeyboardInterrupt):
        fit(interrupted, digits, 3, callbacks=[backup(), Stop()])
    fit(resumed, digits, 3, callbacks=[backup()])
    assert equal(resumed, undisturbed)


def test_a_file_of_another_optimizer_starts_a_new_state(digits: Any, tmp_path: Path) -> None:
    other = model()
    other.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    fit(other, digits, 1)
    other.save_weights(tmp_path / "sgd.weights.h5")
    net = model()
    with pytest.warns(UserWarning, match="no state of a torch optimizer"):
        net.load_weights(tmp_path / "sgd.weights.h5")
    assert equal(net, other)


@pytest.mark.parametrize("make", [plp(sgd), partial(plp_of, torch.optim.SGD)])
def test_a_nameless_factory_cannot_be_saved_with_the_model(make: Any, tmp_path: Path) -> None:
    net = model(make)
    with pytest.raises(ArgumentError, match="register_keras_serializable"):
        net.save(tmp_path / "run.keras")


def test_a_damaged_state_is_refused() -> None:
    packed = pack({"state": {0: torch.ones(3)}, "tuple": (1, None)})
    assert unpack(packed)["tuple"] == (1, None)
    with pytest.raises(CheckpointError, match="is damaged"):
        unpack(packed[:-50])
    with pytest.raises(CheckpointError, match="the optimizer's state cannot be saved here"):
        pack({"odd": print})


# --- averaged evaluation and metrics --------------------------------------------------------------


class Watcher(keras.callbacks.Callback):
    """The first weights after each training and validation batch."""

    def __init__(self) -> None:
        super().__init__()
        self.points: list[Tensor] = []
        self.tested: list[Tensor] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.points.append(weights(self.model)[0])

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self.tested.append(weights(self.model)[0])


@pytest.mark.compat(stack="Keras 3 (torch)", feature="averaged evaluation")
@each_average
def test_validation_sees_the_average_and_training_goes_on_live(
    digits: Any, kind: Averaging, tmp_path: Path
) -> None:
    net, watcher = model(kind.make), Watcher()
    history = fit(net, digits, 1, validation_data=digits, callbacks=[watcher, ForecastCallback()])
    average = kind.of(watcher.points)
    torch.testing.assert_close(watcher.tested[0], average)
    assert not torch.equal(watcher.tested[0], watcher.points[-1])
    assert torch.equal(weights(net)[0], watcher.points[-1])
    again = net.evaluate(*digits, verbose=0, callbacks=[ForecastCallback()], return_dict=True)
    assert again["loss"] == pytest.approx(history.history["val_loss"][0])

    net.save_weights(tmp_path / "run.weights.h5")
    loaded = model(kind.make, seed=1)
    loaded.load_weights(tmp_path / "run.weights.h5")
    assert equal(loaded, net)
    loaded.optimizer.build(loaded.trainable_variables)
    with loaded.optimizer.inner.eval_weights():
        torch.testing.assert_close(weights(loaded)[0], average)


def test_training_goes_on_live_after_a_validation_that_failed(digits: Any) -> None:
    class Interrupted(keras.callbacks.Callback):
        def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
            raise KeyboardInterrupt

    net, undisturbed, callback = model(averaged), model(averaged), ForecastCallback()
    with pytest.raises(KeyboardInterrupt):
        fit(net, digits, 1, validation_data=digits, callbacks=[callback, Interrupted()])
    fit(net, digits, 1, callbacks=[ForecastCallback()])
    for _ in range(2):
        fit(undisturbed, digits, 1)
    assert equal(net, undisturbed)


@pytest.mark.compat(stack="Keras 3 (torch)", feature="metrics")
def test_the_history_has_the_numbers_of_the_events(digits: Any) -> None:
    history = fit(model(), digits, 2, callbacks=[ForecastCallback()]).history
    assert history["forecast/step"] == [18, 39]
    assert min(history["forecast/jump_norm"]) > 0


# --- bad input ------------------------------------------------------------------------------------


def test_what_makes_no_optimizer_is_refused(digits: Any) -> None:
    with pytest.raises(ArgumentError, match=r"must return a torch.optim.Optimizer, got list"):
        fit(model(list), digits, 1)


def test_a_constraint_is_refused() -> None:
    layer = keras.layers.Dense(2, kernel_constraint="non_neg")
    layer.build((None, 3))
    with pytest.raises(ArgumentError, match="kernel has a constraint"):
        TorchOptimizer(sgd).build(layer.trainable_variables)


def test_other_variables_than_the_optimizer_was_built_for_are_refused(digits: Any) -> None:
    net = model()
    net.layers[0].trainable = False
    fit(net, digits, 1)
    net.layers[0].trainable = True
    with pytest.raises(ArgumentError, match="compile the model with a new TorchOptimizer"):
        fit(net, digits, 1)


def test_the_callback_needs_a_wrapper(digits: Any) -> None:
    with pytest.raises(ArgumentError, match="no paramcast wrapper in SGD"):
        fit(model(sgd), digits, 1, callbacks=[ForecastCallback()])


@pytest.mark.compat(
    stack="Keras 3 (other back ends)",
    feature="train",
    no="PLP is a torch optimizer; JAX has paramcast.integrations.optax",
)
def test_another_back_end_is_refused() -> None:
    code = "import paramcast.integrations.keras"
    environment = {**os.environ, "KERAS_BACKEND": "numpy"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert "Keras runs on numpy, but PLP needs torch; set KERAS_BACKEND=torch" in done.stderr
