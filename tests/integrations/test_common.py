"""What the integrations share, and what each says where its framework is not installed."""

from __future__ import annotations

import doctest
import importlib
import pickle
import subprocess
import sys

import pytest
import torch
from small import averaged, network, primal, sgd, train

import paramcast as pc
from paramcast.errors import ArgumentError
from paramcast.integrations.common import (
    Averaged,
    check_shows_average,
    numbers,
    numbers_of,
    unwrap,
    wrappers,
)

FRAMEWORKS = ("keras", "lightning", "skorch", "transformers")


class Holder:
    """A framework's wrapper: it keeps the optimizer in an attribute."""

    def __init__(self, optimizer: object, name: str = "optimizer") -> None:
        setattr(self, name, optimizer)


def test_the_wrapper_is_found_inside_others() -> None:
    plp = pc.PLP(sgd(network().parameters()))
    assert unwrap(Holder(Holder(plp), "_optimizer")) is plp
    assert wrappers([sgd(network().parameters()), Holder(plp)]) == [plp]


def test_a_wrapper_that_holds_itself_ends_the_search() -> None:
    circle = Holder(None)
    circle.optimizer = circle  # type: ignore[attr-defined]
    with pytest.raises(ArgumentError, match="no paramcast wrapper in Holder"):
        unwrap(circle)
    with pytest.raises(ArgumentError, match=r"is a paramcast wrapper \(there is: none\)"):
        wrappers([])


def test_the_numbers_are_the_numeric_fields_that_are_known(digits: tuple) -> None:
    net = network()
    optimizer = pc.PLP(sgd(net.parameters()))
    assert numbers(optimizer.last_event) == {}
    train(net, optimizer, [digits] * 3)
    found = numbers(optimizer.last_event)
    assert found["forecast/step"] == 3.0
    assert found["forecast/applied"] == 1.0
    assert "forecast/reason" not in found
    assert "forecast/error" not in found
    assert {type(value) for value in found.values()} == {float}
    assert "forecast/1/jump_norm" in numbers_of([optimizer, optimizer])


def test_nothing_opens_before_there_is_an_average(digits: tuple) -> None:
    net = network()
    optimizer, average = averaged(net.parameters()), Averaged()
    assert not average.open([optimizer])
    train(net, optimizer, [digits] * 4)
    live = net[0].weight.detach().clone()
    assert average.open([optimizer])
    assert average.is_open
    assert not torch.equal(net[0].weight, live)
    assert not pickle.loads(pickle.dumps(average)).is_open
    average.close()
    average.close()
    assert torch.equal(net[0].weight, live)
    assert not average.is_open


def test_the_wrapper_says_whether_there_will_be_an_average() -> None:
    parameters = list(network().parameters())
    assert not pc.PLP(sgd(parameters)).averages
    for make in (averaged, primal):
        optimizer = make(parameters)
        assert optimizer.averages
        assert not optimizer.has_average


def test_an_average_that_deepspeed_hides_is_refused() -> None:
    class ZeRO(Holder):
        """An optimizer of DeepSpeed, which is not installed here."""

        __module__ = "deepspeed.runtime.zero"

    parameters = list(network().parameters())
    for make in (averaged, primal):
        with pytest.raises(ArgumentError, match="ZeRO of DeepSpeed keeps the averaged weights"):
            check_shows_average(Holder(ZeRO(make(parameters))))
    check_shows_average(ZeRO(pc.PLP(sgd(parameters))))
    check_shows_average(Holder(averaged(parameters)))


def test_an_average_that_another_left_open_is_closed(digits: tuple) -> None:
    net = network()
    optimizer = averaged(net.parameters())
    train(net, optimizer, [digits] * 4)
    live = net[0].weight.detach().clone()
    failed, next_one = Averaged(), Averaged()
    failed.open([optimizer])
    assert next_one.open([optimizer])
    assert not failed.is_open
    failed.close()
    assert not torch.equal(net[0].weight, live)
    Averaged().close([optimizer])
    assert torch.equal(net[0].weight, live)


@pytest.mark.parametrize("name", ["common", "packing", "skorch"])
def test_the_examples_in_the_docstrings_run(name: str) -> None:
    module = importlib.import_module(f"paramcast.integrations.{name}")
    results = doctest.testmod(module)
    assert results.attempted > 0
    assert results.failed == 0


def test_without_its_framework_an_integration_says_what_to_install() -> None:
    code = f"""
import sys
for name in {FRAMEWORKS}:
    sys.modules[name] = None  # as if it were not installed
for name in {FRAMEWORKS}:
    try:
        __import__("paramcast.integrations." + name)
    except Exception as error:
        print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(FRAMEWORKS)
    for name, line in zip(FRAMEWORKS, lines, strict=True):
        assert line.startswith("ArgumentError")
        assert line.endswith(f"is not installed: pip install 'paramcast[{name}]'")


def test_importing_paramcast_imports_no_framework() -> None:
    code = (
        "import sys, paramcast; paramcast.PLP; import paramcast.integrations\n"
        f"print([n for n in {(*FRAMEWORKS, 'accelerate', 'jax', 'optax')} if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
