"""Methods by name: reading them, refusing nonsense, and what each does to the base."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from paramcast.errors import StudyError
from paramcast.study.tasks.task import Prepared
from paramcast.study.training.build import build, check_methods
from paramcast.study.training.loop import adjusted
from paramcast.study.training.methods import METHODS, knobs, parse_methods
from paramcast.study.training.muon import Muon
from paramcast.study.training.noise import GradientNoise

# --- reading ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("  plp ,demon  ", ["plp", "demon"]),
        ("plp()", ["plp"]),
        ("plp(start='last',horizon=1)", ["plp(horizon=1, start='last')"]),
        ('plp( start = "last" )', ["plp(start='last')"]),
        ("lookahead(every=5, alpha=0.8), plp", ["lookahead(alpha=0.8, every=5)", "plp"]),
        ("plp, plp(horizon=0.5)", ["plp", "plp(horizon=0.5)"]),
        ("least-squares(window=4, every=None)", ["least-squares(every=None, window=4)"]),
    ],
)
def test_labels(text: str, labels: list[str]) -> None:
    methods = parse_methods(text)
    assert [method.label for method in methods] == labels
    assert parse_methods(", ".join(labels)) == methods


@pytest.mark.parametrize("name", METHODS)
def test_every_method_reads_by_its_name(name: str) -> None:
    assert parse_methods(name)[0].kind is METHODS[name]


def test_knobs_are_those_of_the_predictor() -> None:
    assert knobs("plp") == ["horizon", "start", "every", "on_drift"]
    assert knobs("lookahead") == ["every", "alpha", "momentum", "on_drift"]
    assert knobs("demon") == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no method was named; choose from plp"),
        ("plpp", "unknown method 'plpp'; choose from plp"),
        ("sgd", "unknown method 'sgd'.*always run"),
        ("plp plp", "cannot be read at 'plp plp'"),
        ("plp(horizon=1", "cannot be read at"),
        ("plp, plp", "plp is named twice"),
        ("plp, plp()", "plp is named twice"),
        ("plp(horizn=1)", "plp has no knob 'horizn'; it has horizon, start, every"),
        ("plp(1)", "plp has no knob '1'"),
        ("demon(beta=1)", "demon has no knob 'beta'; it has none"),
        ("plp(horizon=)", "knob horizon of plp must be a number"),
        ("plp(horizon='1')", "horizon must be a finite number, got '1'"),
        ("plp(horizon=1e999)", "horizon must be a finite number, got inf"),
        ("plp(every=2)", "every must be >= 3"),
        ("plp(start='end')", "start must be one of"),
        ("plp(horizon=0.5, horizon=0.7)", "horizon"),  # which of the two?
        ("perturbed(share=1.5)", r"perturbed.*share must be in \[0, 1\], got 1.5"),
        ("perturbed(draw=-1)", r"perturbed.*draw must be >= 0, got -1"),
        ("gradient-noise(share=-1)", r"gradient-noise.*share must be in"),
    ],
)
def test_unreadable_methods_are_refused(text: str, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        parse_methods(text)


@pytest.mark.parametrize(
    "text",
    [
        "plp(horizon=__import__('os').system('touch owned'))",
        "plp(horizon=open)",
        "plp(horizon=9**9)",
        "plp(horizon=\0)",
        "plp(start={})",
        "plp(horizon=" + "9" * 5000 + ")",
        "plp(horizon=" + "[" * 300 + ")",
        "plp; import os",
    ],
    ids=lambda text: text[:24],
)
def test_hostile_text_is_refused(
    text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StudyError):
        parse_methods(text)
    assert not list(tmp_path.iterdir())


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    for attempt in (text, f"plp({text})", f"demon, plp(horizon='{text}')"):
        try:
            assert parse_methods(attempt)
        except StudyError:
            continue


# --- building -----------------------------------------------------------------------------------

STEPS = 6


def built(prepared: Prepared, method: str, base: str = "sgd", noise_seed: int = 0) -> Any:
    torch.manual_seed(0)
    model = prepared.task.model()
    return model, build(prepared.task, base, method, model, 0.1, STEPS, noise_seed)


def after_one_cycle(prepared: Prepared, method: str, noise_seed: int = 0) -> list[torch.Tensor]:
    """The parameters after three steps whose gradients depend on nothing but the step."""
    model, optimizer = built(prepared, method, noise_seed=noise_seed)
    for t in range(1, 4):
        for p in model.parameters():
            p.grad = torch.sin(t + torch.arange(p.numel(), dtype=p.dtype)).reshape(p.shape)
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def jumps(prepared: Prepared, method: str, noise_seed: int = 0) -> list[torch.Tensor]:
    """What a method adds to three steps of the base, tensor by tensor."""
    with_it = after_one_cycle(prepared, method, noise_seed)
    return [a - b for a, b in zip(with_it, after_one_cycle(prepared, "base"), strict=True)]


@pytest.fixture
def task(prepared: Callable[..., Prepared]) -> Prepared:
    return prepared()


def test_random_jump_keeps_only_the_length_of_each_tensors_jump(task: Prepared) -> None:
    forward, one, two = (
        jumps(task, method, noise_seed)
        for method, noise_seed in (("plp", 0), ("random-jump:plp", 1), ("random-jump:plp", 2))
    )
    for there, a, b in zip(forward, one, two, strict=True):
        for other in (a, b):
            assert float(other.norm()) == pytest.approx(float(there.norm()), rel=1e-3)
        if there.numel() > 4:
            assert not torch.allclose(a, b, rtol=0.1)
            for other in (a, b):
                assert abs(torch.cosine_similarity(there.flatten(), other.flatten(), 0)) < 0.95
    again = jumps(task, "random-jump:plp", 1)  # it repeats with its seed
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))


def test_sign_flipped_is_the_jump_backward_of_a_predictor_with_its_knobs(task: Prepared) -> None:
    label = "plp(horizon=1.5, start='last')"
    forward, backward = jumps(task, label), jumps(task, f"sign-flipped:{label}")
    assert float(forward[0].norm()) > 1.2 * float(jumps(task, "plp")[0].norm()) > 1e-3
    for there, back in zip(forward, backward, strict=True):
        torch.testing.assert_close(back, -there, rtol=1e-4, atol=1e-6)


def test_demons_momentum_falls_to_zero_at_the_end(task: Prepared) -> None:
    _, optimizer = built(task, "demon")
    momenta = [optimizer.param_groups[0]["momentum"]]
    for _ in range(STEPS):
        optimizer.step()
        momenta.append(optimizer.param_groups[0]["momentum"])
    left = [0.9 * (1 - t / STEPS) for t in range(STEPS + 1)]
    assert momenta == pytest.approx([x / (0.1 + x) for x in left])
    assert (momenta[0], momenta[-1]) == (0.9, 0.0)
    # of AdamW the first beta
    _, optimizer = built(task, "demon", base="adamw")
    for _ in range(STEPS):
        optimizer.step()
    assert optimizer.param_groups[0]["betas"] == (0.0, 0.999)


@pytest.mark.parametrize(
    ("base", "kind", "settings"),
    [
        ("sgd", torch.optim.SGD, {"momentum": 0.9, "weight_decay": 1e-4, "nesterov": False}),
        ("nesterov", torch.optim.SGD, {"momentum": 0.9, "weight_decay": 1e-4, "nesterov": True}),
        ("adamw", torch.optim.AdamW, {"betas": (0.9, 0.999), "weight_decay": 1e-4}),
        ("muon", Muon, {"momentum": 0.95, "weight_decay": 1e-4}),
    ],
)
def test_bases(task: Prepared, base: str, kind: type, settings: dict[str, Any]) -> None:
    for method in ("base", "plp", "demon", "random-jump:plp"):
        _, optimizer = built(task, method, base=base)
        group = optimizer.param_groups[0]
        assert isinstance(getattr(optimizer, "base", optimizer), kind)
        assert {name: group[name] for name in settings} == settings
        assert group["lr"] == 0.1


@pytest.mark.parametrize(("base", "group"), [("adamw", 0), ("muon", -1)])
def test_beta2_is_the_tasks_unless_a_run_names_its_own(
    task: Prepared, base: str, group: int
) -> None:
    for named, beta2 in ((None, 0.999), (0.95, 0.95)):
        changed = adjusted(task.task, None, None, named)
        optimizer = build(changed, base, "base", changed.model(), 0.1, 10, 0)
        assert optimizer.param_groups[group]["betas"] == (0.9, beta2)


@pytest.mark.parametrize(
    ("base", "kind", "lr"),
    [("sgd", "SGDScheduleFree", 1.0), ("nesterov", "SGDScheduleFree", 1.0),
     ("adamw", "AdamWScheduleFree", 0.1)],
)  # fmt: skip
def test_schedule_free_replaces_the_base_at_its_effective_rate(
    task: Prepared, base: str, kind: str, lr: float
) -> None:
    optimizer = build(task.task, base, "schedule-free", task.task.model(), 0.1, 10, 0)
    group = optimizer.param_groups[0]
    assert type(optimizer).__name__ == kind
    assert group["lr"] == pytest.approx(lr)  # SGD's is lr / (1 - momentum)
    assert group["weight_decay"] == task.task.weight_decay
    assert group["train_mode"]


@pytest.mark.parametrize(
    "method", ["primal-averaging", "random-jump:primal-averaging", "no-momentum"]
)
@pytest.mark.parametrize(
    ("base", "lr", "momentum"),
    [("sgd", 1.0, {"momentum": 0, "nesterov": False}), ("rmsprop", 0.1, {"momentum": 0}),
     ("nesterov", 1.0, {"momentum": 0, "nesterov": False}),
     ("adamw", 0.1, {"betas": (0.0, 0.999)}), ("muon", 0.1, {"momentum": 0, "nesterov": False})],
)  # fmt: skip
def test_the_base_is_left_without_momentum(
    task: Prepared, method: str, base: str, lr: float, momentum: dict[str, object]
) -> None:
    optimizer = build(task.task, base, method, task.task.model(), 0.1, 10, 0)
    group = optimizer.param_groups[0]
    assert group["lr"] == pytest.approx(lr)
    assert group["weight_decay"] == task.task.weight_decay
    assert {name: group[name] for name in momentum} == momentum


def test_frozen_parameters_stay_out(prepared: Callable[..., Prepared]) -> None:
    def model() -> torch.nn.Module:
        net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 3))
        net[0].requires_grad_(False)
        return net

    for method in ("base", "plp"):
        net, optimizer = built(prepared(model=model), method)
        members = {id(p) for p in optimizer.param_groups[0]["params"]}
        assert members == {id(p) for p in net[1].parameters()}


# --- what does not fit the base -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("base", "methods", "message"),
    [
        ("nesterov", "plp, nesterov", "nesterov compares with base sgd"),
        ("own", "demon", "demon does not fit base own: Demon needs a momentum.*--methods"),
    ],
)
def test_methods_that_do_not_fit_are_refused(
    prepared: Callable[..., Prepared], base: str, methods: str, message: str
) -> None:
    own = prepared(base=lambda parameters, lr: torch.optim.Adagrad(parameters, lr=lr))
    with pytest.raises(StudyError, match=message):
        check_methods(own.task, base, parse_methods(methods))


@pytest.mark.parametrize("base", ["sgd", "nesterov", "adamw"])
def test_methods_that_fit_pass(task: Prepared, base: str) -> None:
    every = [name for name in METHODS if name != "nesterov" or base == "sgd"]
    every.remove("state-reset")  # for streams only
    check_methods(task.task, base, parse_methods(", ".join(every)))


# --- gradient noise -----------------------------------------------------------------------------


def test_gradient_noise_has_its_share_of_the_norm_and_comes_again_with_its_seed() -> None:
    def step(seed: int, share: float) -> list[torch.Tensor]:
        parameters = [torch.nn.Parameter(torch.zeros(shape)) for shape in ((40, 50), (30,))]
        sgd = torch.optim.SGD(parameters, lr=1.0)
        GradientNoise(share).attach(sgd, seed)
        for number, p in enumerate(parameters):
            p.grad = torch.full_like(p, 1.0 + number)
        sgd.step()
        return [-p.detach() - (1.0 + number) for number, p in enumerate(parameters)]

    size = (2000 * 1.0 + 30 * 4.0) ** 0.5
    noise = torch.cat([n.reshape(-1) for n in step(1, 0.5)])
    assert float(noise.norm()) == pytest.approx(0.5 * size, rel=1e-4)
    assert abs(float(noise.mean())) < 4 * 0.5 * size / len(noise)  # four standard errors
    again = torch.cat([n.reshape(-1) for n in step(1, 0.5)])
    assert torch.equal(noise, again)
    assert not torch.equal(noise, torch.cat([n.reshape(-1) for n in step(2, 0.5)]))
    assert all(float(n.abs().max()) == 0 for n in step(1, 0.0))


# --- the paired null ----------------------------------------------------------------------------


def start(prepared: Prepared, method: str, base: str = "sgd", seed: int = 0) -> list[torch.Tensor]:
    """The weights from which a run begins."""
    model, _ = built(prepared, method, base, seed)
    return [p.detach().clone() for p in model.parameters()]


@pytest.mark.parametrize("share", [0.001, 0.5])
def test_perturbed_moves_each_tensor_by_its_share(task: Prepared, share: float) -> None:
    at, moved = start(task, "base"), start(task, f"perturbed(share={share})")
    assert any(not p.any() for p in at)  # batch-norm biases start at 0 and stay there
    for p, q in zip(at, moved, strict=True):
        assert float((q - p).norm()) == pytest.approx(share * float(p.norm()), rel=1e-3)


def test_perturbed_comes_again_with_seed_and_draw_only(task: Prepared) -> None:
    def together(method: str, seed: int = 0) -> torch.Tensor:
        return torch.cat([p.reshape(-1) for p in start(task, method, seed=seed)])

    moved = together("perturbed(draw=1)", 7)
    assert torch.equal(moved, together("perturbed(draw=1)", 7))
    moves = [
        together(method, seed) - together("base")
        for method, seed in (("perturbed(draw=1)", 7), ("perturbed(draw=2)", 7), ("perturbed", 70))
    ]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert abs(torch.cosine_similarity(moves[a], moves[b], 0)) < 0.7
    assert torch.equal(together("perturbed(share=0)"), together("base"))
    torch.manual_seed(0)
    task.task.model()
    after = torch.get_rng_state()
    built(task, "perturbed")
    assert torch.equal(torch.get_rng_state(), after)


def test_perturbed_comes_before_the_base_and_leaves_frozen_weights(
    prepared: Callable[..., Prepared],
) -> None:
    def model() -> torch.nn.Module:
        net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 3))
        net[0].requires_grad_(False)
        return net

    net, optimizer = built(prepared(model=model), "perturbed(share=0.5)", base="lookahead")
    torch.manual_seed(0)
    assert torch.equal(net[0].weight, model()[0].weight)
    (hook,) = optimizer._optimizer_step_post_hooks.values()
    assert torch.equal(hook.slow[0], net[1].weight)  # its slow weights begin where the run does
