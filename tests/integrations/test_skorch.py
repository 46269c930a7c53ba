"""skorch, the real one: PLP within scikit-learn's grid search, clones, pickles, resuming."""

from __future__ import annotations

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("skorch")
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, Checkpoint, EarlyStopping
from skorch.dataset import ValidSplit
from small import Averaging, averaged, each_average, ema_of, same, spoiled, train

import paramcast as pc
from paramcast.averaging import EMA
from paramcast.errors import ArgumentError
from paramcast.integrations.skorch import ForecastCallback, plp


class Net(nn.Module):
    """A small network; a class, as skorch asks."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


@pytest.fixture
def data(digits: tuple[Tensor, Tensor]) -> tuple[Any, Any]:
    return digits[0].numpy(), digits[1].numpy()


def classifier(optimizer: Any = None, **options: Any) -> NeuralNetClassifier:
    torch.manual_seed(0)
    settings = {
        "criterion": nn.CrossEntropyLoss,
        "optimizer": partial(plp, torch.optim.SGD) if optimizer is None else optimizer,
        "optimizer__momentum": 0.9,
        "lr": 0.1,
        "batch_size": 32,
        "max_epochs": 2,
        "train_split": None,
        "verbose": 0,
        **options,
    }
    return NeuralNetClassifier(Net, **settings)


@pytest.mark.compat(stack="skorch", feature="train")
def test_training_equals_the_plain_loop(
    data: tuple[Any, Any], digits: tuple[Tensor, Tensor]
) -> None:
    net = classifier(optimizer__horizon=1.5).fit(*data)
    torch.manual_seed(0)
    plain = Net()
    optimizer = pc.PLP(torch.optim.SGD(plain.parameters(), lr=0.1, momentum=0.9), horizon=1.5)
    batches = list(zip(digits[0].split(32), digits[1].split(32), strict=True))
    train(plain, optimizer, batches * 2)
    assert same(net.module_, plain)


@pytest.mark.compat(stack="skorch", feature="train")
def test_a_grid_search_compares_plp_with_its_base(data: tuple[Any, Any]) -> None:
    grid = {
        "optimizer": [torch.optim.SGD, partial(plp, torch.optim.SGD)],
        "lr": [0.01, 0.1],
    }
    search = GridSearchCV(classifier(max_epochs=3), grid, cv=2, scoring="accuracy")
    search.fit(*data)
    tried = [(type(p["optimizer"]).__name__, p["lr"]) for p in search.cv_results_["params"]]
    scores = dict(zip(tried, search.cv_results_["mean_test_score"], strict=True))
    assert len(scores) == 4
    assert search.best_score_ > 0.7
    assert scores["partial", 0.01] != scores["type", 0.01]
    horizons = {"optimizer__horizon": [0.5, 1.0]}
    GridSearchCV(classifier(), horizons, cv=2, error_score="raise").fit(*data)


@pytest.mark.compat(stack="skorch", feature="train")
def test_clones_train_alike(data: tuple[Any, Any]) -> None:
    original = classifier(optimizer__average=EMA(decay=0.9), callbacks=[ForecastCallback()])
    first = clone(original)
    torch.manual_seed(0)
    first.fit(*data)
    torch.manual_seed(0)
    second = clone(first).fit(*data)
    assert same(first.module_, second.module_)


# 20 batches an epoch: the first one ends two steps into a cycle of three.


@pytest.mark.compat(stack="skorch", feature="resume in mid-cycle")
def test_a_pickled_net_trains_on_bitwise(data: tuple[Any, Any]) -> None:
    net = classifier(max_epochs=1, callbacks=[ForecastCallback()]).fit(*data)
    assert net.optimizer_.state_dict()["paramcast"]["cycle"]["done"] == 2
    copy = pickle.loads(pickle.dumps(net))
    net.partial_fit(*data)
    copy.partial_fit(*data)
    assert same(copy.module_, net.module_)


@pytest.mark.compat(stack="skorch", feature="resume in mid-cycle")
def test_saved_parameters_resume_bitwise(data: tuple[Any, Any], tmp_path: Path) -> None:
    net = classifier(max_epochs=1).fit(*data)
    files = {"f_params": tmp_path / "net.pt", "f_optimizer": tmp_path / "optimizer.pt"}
    net.save_params(**files)
    resumed = classifier(max_epochs=1).initialize()
    spoiled(resumed.module_)
    resumed.load_params(**files)
    net.partial_fit(*data)
    resumed.partial_fit(*data)
    assert same(resumed.module_, net.module_)


class Watcher(Callback):
    """The first weight when training and when validating."""

    def initialize(self) -> Watcher:
        self.points_: list[Tensor] = []
        self.validated_: list[Tensor] = []
        return self

    def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        seen = self.points_ if training else self.validated_
        seen.append(net.module_.layers[0].weight.detach().clone())


def with_average(kind: Averaging, *callbacks: Any, **options: Any) -> NeuralNetClassifier:
    """A net whose optimizer averages, with a validation split."""
    return classifier(
        lambda parameters, **_: kind.make(parameters),
        callbacks=[("watcher", Watcher()), *callbacks],
        train_split=ValidSplit(5),
        **options,
    )


def weight(net: NeuralNetClassifier) -> Tensor:
    return net.module_.layers[0].weight.detach()


@pytest.mark.compat(stack="skorch", feature="averaged evaluation")
@each_average
@pytest.mark.parametrize("keep", [False, True])
def test_validation_sees_the_average(data: tuple[Any, Any], kind: Averaging, keep: bool) -> None:
    net = with_average(kind, ForecastCallback(keep=keep), max_epochs=1).fit(*data)
    watcher = dict(net.callbacks_)["watcher"]
    torch.testing.assert_close(watcher.validated_[0], kind.of(watcher.points_))
    assert torch.equal(weight(net), watcher.validated_[0] if keep else watcher.points_[-1])
    assert not torch.equal(watcher.validated_[0], watcher.points_[-1])


@pytest.mark.compat(stack="skorch", feature="averaged evaluation")
@each_average
def test_what_is_listed_first_takes_the_weights_that_were_evaluated(
    data: tuple[Any, Any], kind: Averaging, tmp_path: Path
) -> None:
    def saving(name: str) -> Checkpoint:
        files = dict.fromkeys(("f_optimizer", "f_criterion", "f_history"))
        return Checkpoint(None, dirname=tmp_path, f_params=name, **files)

    order = [("best", saving("best.pt")), ForecastCallback(), ("live", saving("live.pt"))]
    net = with_average(kind, *order, max_epochs=1).fit(*data)
    watcher = dict(net.callbacks_)["watcher"]
    for name, seen in (("best", watcher.validated_), ("live", watcher.points_)):
        saved = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        assert torch.equal(saved["layers.0.weight"], seen[-1])


def test_early_stopping_ends_with_the_weights_that_were_evaluated_best(
    data: tuple[Any, Any],
) -> None:
    stop = EarlyStopping("train_loss", lower_is_better=False, patience=2, load_best=True)
    net = with_average(
        Averaging(averaged, ema_of), ("stop", stop), ForecastCallback(), max_epochs=9
    ).fit(*data)
    watcher = dict(net.callbacks_)["watcher"]
    batches = len(watcher.validated_) // len(net.history)
    assert len(net.history) == 3  # the loss falls: the first epoch is the "best"
    assert torch.equal(weight(net), watcher.validated_[batches - 1])


def test_training_goes_on_live_after_a_validation_that_failed(data: tuple[Any, Any]) -> None:
    class Failing(Callback):
        def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
            if not training:
                raise RuntimeError("no disk")

    net = with_average(Averaging(averaged, ema_of), ForecastCallback(), Failing(), max_epochs=1)
    with pytest.raises(RuntimeError, match="no disk"):
        net.fit(*data)
    watcher = dict(net.callbacks_)["watcher"]
    assert not torch.equal(weight(net), watcher.points_[-1])
    net.callbacks_ = [(name, c) for name, c in net.callbacks_ if name != "Failing"]
    before = watcher.points_[-1]
    net.partial_fit(*data)
    assert torch.equal(weight(net), watcher.points_[-1])
    assert not torch.equal(weight(net), before)


@pytest.mark.compat(stack="skorch", feature="metrics")
def test_the_history_has_the_numbers_of_the_events(data: tuple[Any, Any]) -> None:
    net = classifier(callbacks=[ForecastCallback()]).fit(*data)
    assert net.history[:, "forecast/step"] == [18, 39]
    assert min(net.history[:, "forecast/jump_norm"]) > 0


def test_the_callback_needs_a_wrapper(data: tuple[Any, Any]) -> None:
    with pytest.raises(ArgumentError, match="no paramcast wrapper in SGD"):
        classifier(torch.optim.SGD, callbacks=[ForecastCallback()]).fit(*data)
