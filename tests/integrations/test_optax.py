"""PLP for JAX: against the torch version, compiled, scanned, accumulated, resumed, refused."""

from __future__ import annotations

import doctest
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")
jnp = jax.numpy

import paramcast as pc  # noqa: E402
import paramcast.integrations.optax as po  # noqa: E402

SHAPES = {"matrix": (3, 4), "scalar": (), "vector": (4,)}  # in JAX's order: by name
READINGS = [
    {},
    {"horizon": 1.5},
    {"horizon": 0.0},  # theta_1 has no weight
    {"horizon": -0.4, "every": 5},
    {"horizon": 1.0, "start": "last"},
    {"horizon": 0.0, "start": "last"},  # nothing at all
    {"horizon": 0.7, "start": "mean"},
    {"horizon": 2 / 3, "start": "mean"},  # theta_1 has no weight
    {"horizon": 2.0, "start": "mean", "every": 4},
    {"horizon": -4 / 3, "start": "mean"},  # theta_3 keeps its weight 1
]
BASES: dict[str, tuple[Callable[..., Any], Callable[[], Any]]] = {
    "sgd": (lambda ps: torch.optim.SGD(ps, lr=0.1), lambda: optax.sgd(0.1)),
    "momentum": (
        lambda ps: torch.optim.SGD(ps, lr=0.02, momentum=0.9),
        lambda: optax.sgd(0.02, momentum=0.9),
    ),
    "adam": (lambda ps: torch.optim.Adam(ps, lr=0.02), lambda: optax.adam(0.02)),
}


@pytest.fixture(scope="module", autouse=True)
def _compiled_once(shared_folder: Path) -> None:
    """Each test makes functions of its own, and most of them compile to the same."""
    jax.config.update("jax_compilation_cache_dir", str(shared_folder / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


@pytest.fixture(autouse=True)
def _double_precision() -> Iterator[None]:
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", before)


def start(dtype: Any = np.float64) -> dict[str, Any]:
    draw = np.random.default_rng(0)
    return {name: jnp.asarray(draw.normal(size=shape), dtype) for name, shape in SHAPES.items()}


def gradient(p: np.ndarray, t: int, i: int) -> np.ndarray:
    """A pull towards zero and a push that changes with the step: nothing settles."""
    phase = np.arange(p.size, dtype=np.float64).reshape(p.shape) + 1.7 * i + 0.9 * t
    return 0.5 * p + np.sin(phase)


def gradients(params: dict[str, Any], t: Any) -> dict[str, Any]:
    """The same in JAX, for loops that are compiled."""
    result = {}
    for i, name in enumerate(SHAPES):
        p = params[name]
        phase = jnp.arange(p.size, dtype=jnp.float64).reshape(p.shape) + 1.7 * i + 0.9 * t
        result[name] = (0.5 * p + jnp.sin(phase)).astype(p.dtype)
    return result


def hand_out(ps: list[torch.nn.Parameter], t: int) -> dict[str, np.ndarray]:
    """Give the torch parameters their gradients; return them for the other side."""
    known = {}
    for i, (name, p) in enumerate(zip(SHAPES, ps, strict=True)):
        known[name] = gradient(p.detach().numpy(), t, i)
        p.grad = torch.tensor(known[name], dtype=torch.float64)
    return known


def stepper(optimizer: Any) -> Callable[..., Any]:
    @jax.jit
    def step(params: Any, state: Any, t: Any) -> Any:
        updates, state = optimizer.update(gradients(params, t), state, params)
        return optax.apply_updates(params, updates), state

    return step


def run(optimizer: Any, params: Any, steps: int) -> tuple[Any, Any]:
    step, state = stepper(optimizer), optimizer.init(params)
    for t in range(steps):
        params, state = step(params, state, t)
    return params, state


def bits(tree: Any) -> list[Any]:
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return [(leaf.dtype, leaf.shape, leaf.tobytes()) for leaf in leaves]


def close(left: Any, right: Any, **tolerance: float) -> None:
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), **tolerance)


def pencil(optimizer: Any, *gradients: float) -> list[float]:
    weight, path = jnp.zeros(1), []
    state = optimizer.init(weight)
    for value in gradients:
        updates, state = optimizer.update(jnp.array([value]), state, weight)
        weight = optax.apply_updates(weight, updates)
        path.append(weight.item())
    return path


# --- the rule -----------------------------------------------------------------------------------


def test_plp_by_pencil() -> None:
    path = pencil(po.plp(optax.sgd(1.0)), 1.0, 2.0, 4.0, 1.0, 1.0, 3.0)
    assert path == [-1.0, -3.0, -8.0, -9.0, -10.0, -13.5]


@pytest.mark.compat(stack="JAX (optax)", feature="train")
@pytest.mark.parametrize(
    ("name", "reading"),
    [*(("momentum", reading) for reading in READINGS), ("sgd", {}), ("adam", {"horizon": 1.5})],
    ids=str,
)
def test_50_steps_agree_with_the_torch_version_at_every_step(name: str, reading: dict) -> None:
    make_torch, make_optax = BASES[name]
    params = start()
    ps = [torch.nn.Parameter(torch.tensor(np.asarray(params[key]))) for key in SHAPES]
    ours, theirs = po.plp(make_optax(), **reading), pc.PLP(make_torch(ps), **reading)
    state = ours.init(params)
    update = jax.jit(ours.update)
    for t in range(50):
        known = hand_out(ps, t)
        theirs.step()
        updates, state = update(jax.tree.map(jnp.asarray, known), state, params)
        params = optax.apply_updates(params, updates)
        expected = {key: p.detach().numpy() for key, p in zip(params, ps, strict=True)}
        close(params, expected, rtol=1e-12, atol=1e-13)


def test_a_horizon_where_nothing_is_predicted_is_the_base_bitwise() -> None:
    bare = run(optax.sgd(0.1, momentum=0.9), start(), 9)
    idle = run(po.plp(optax.sgd(0.1, momentum=0.9), 0.0, start="last"), start(), 9)
    assert bits(idle[0]) == bits(bare[0])
    assert bits(idle[1].base) == bits(bare[1])


@pytest.mark.parametrize("reading", [READINGS[i] for i in (0, 1, 2, 5, 6, 9)], ids=str)  # all folds
def test_elements_that_never_moved_stay_bitwise(reading: dict) -> None:
    params = {"weight": jnp.asarray(np.random.default_rng(1).normal(size=50), jnp.float32)}
    moving = jnp.arange(50) % 2
    optimizer = po.plp(optax.sgd(0.1, momentum=0.9), **reading)
    state, now, update = optimizer.init(params), params, jax.jit(optimizer.update)
    for t in range(15):
        grads = {"weight": moving * jnp.sin(jnp.arange(50.0) + t).astype(jnp.float32)}
        updates, state = update(grads, state, now)
        now = optax.apply_updates(now, updates)
    assert bits(now["weight"][::2]) == bits(params["weight"][::2])
    assert not np.any(np.asarray(now["weight"][1::2]) == np.asarray(params["weight"][1::2]))


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_jump_that_is_not_finite_is_not_written(bad: float) -> None:
    optimizer = po.plp(optax.sgd(1.0))
    weight, state = jnp.zeros(2), optimizer.init(jnp.zeros(2))
    for t in range(3):
        updates, state = optimizer.update(jnp.ones(2), state, weight)
        weight = optax.apply_updates(weight, updates)
        if t == 0:  # the point is spoilt, and repaired from outside
            weight = weight.at[0].set(bad)
        if t == 1:
            weight = weight.at[0].set(-2.0)
    assert weight.tolist() == [-3.0, -3.0]
    assert int(state.done) == 0


def test_an_element_that_would_overflow_is_left_where_the_base_put_it() -> None:
    optimizer = po.plp(optax.sgd(1.0))
    weight = jnp.asarray([60000.0, 0.0], jnp.float16)
    state = optimizer.init(weight)
    for value in (1000.0, 4000.0, 64.0):
        grads = jnp.asarray([-value, -1.0], jnp.float16)
        updates, state = optimizer.update(grads, state, weight)
        weight = optax.apply_updates(weight, updates)
    assert weight.tolist() == [65056.0, 3.5]  # 65056 + 2000 is beyond 65504


# --- together with JAX and optax ------------------------------------------------------------------


def test_a_scanned_run_equals_one_step_at_a_time() -> None:
    optimizer = po.plp(optax.adam(0.02), 1.5)
    looped = run(optimizer, start(), 20)

    def step(carry: Any, t: Any) -> Any:
        params, state = carry
        updates, state = optimizer.update(gradients(params, t), state, params)
        return (optax.apply_updates(params, updates), state), None

    params = start()
    scanned, _ = jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(20))
    close(scanned, looped, rtol=1e-12, atol=1e-13)
    assert jax.tree.structure(scanned) == jax.tree.structure(looped)


def test_members_of_an_ensemble_are_predicted_each_for_itself() -> None:
    optimizer = po.plp(optax.sgd(0.1, momentum=0.9))
    members = [jax.tree.map(lambda p, k=k: p + k, start()) for k in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    state = jax.vmap(optimizer.init)(stacked)
    each = jax.jit(jax.vmap(stepper(optimizer), in_axes=(0, 0, None)))
    for t in range(7):
        stacked, state = each(stacked, state, t)
    for k, member in enumerate(members):
        alone, _ = run(optimizer, member, 7)
        close(jax.tree.map(lambda p, k=k: p[k], stacked), alone, rtol=1e-12, atol=1e-13)


def test_the_learning_rate_of_an_injected_base_can_be_set() -> None:
    optimizer = po.plp(optax.inject_hyperparams(optax.sgd)(learning_rate=1.0))
    weight, path = jnp.zeros(1), []
    state = optimizer.init(weight)
    for rate in (1.0, 0.5, 0.25):
        state.base.hyperparams["learning_rate"] = jnp.asarray(rate)
        updates, state = optimizer.update(jnp.ones(1), state, weight)
        weight = optax.apply_updates(weight, updates)
        path.append(weight.item())
    assert path == [-1.0, -1.5, -1.75 - 0.25]


def test_extra_arguments_reach_the_base() -> None:
    base = optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau(factor=0.5, patience=1))
    optimizer = po.plp(base)
    params = start()
    state, update = optimizer.init(params), jax.jit(optimizer.update)
    for t in range(8):  # the value never falls
        updates, state = update(gradients(params, t), state, params, value=1.0)
        params = optax.apply_updates(params, updates)
    assert float(optax.tree_utils.tree_get(state, "scale")) < 1.0


def test_accumulated_micro_batches_are_one_step() -> None:
    steps = optax.MultiSteps(po.plp(optax.sgd(0.1, momentum=0.9)), every_k_schedule=4)
    accumulated, plain = start(), start()
    optimizer = po.plp(optax.sgd(0.1, momentum=0.9))
    outer, state = steps.init(accumulated), optimizer.init(plain)
    one_micro_batch, one_step = jax.jit(steps.update), jax.jit(optimizer.update)
    for t in range(7):
        grads = gradients(plain, t)
        updates, state = one_step(grads, state, plain)
        plain = optax.apply_updates(plain, updates)
        for share in (0.5, 1.5, 0.25, 1.75):  # they average to 1
            micro = jax.tree.map(lambda g, s=share: s * g, grads)
            updates, outer = one_micro_batch(micro, outer, accumulated)
            accumulated = optax.apply_updates(accumulated, updates)
    close(accumulated, plain, rtol=1e-6, atol=1e-7)  # optax accumulates in float32
    assert int(outer.inner_opt_state.done) == int(state.done) == 1


def test_a_step_that_apply_if_finite_skips_is_not_counted() -> None:
    guarded = optax.apply_if_finite(po.plp(optax.sgd(1.0)), max_consecutive_errors=3)
    path = pencil(guarded, 1.0, float("nan"), 2.0, float("inf"), 4.0)
    assert path == [-1.0, -1.0, -3.0, -3.0, -8.0]


@pytest.mark.parametrize(
    ("dtype", "reading"),
    [
        (jnp.bfloat16, {}), (jnp.bfloat16, {"horizon": 1.5}), (jnp.float16, {}),
        (jnp.float32, {"horizon": 1.5}), (jnp.complex64, {}),
    ],
    ids=str,
)  # fmt: skip
def test_updates_and_parameters_keep_their_dtype(dtype: Any, reading: dict) -> None:
    params, state = run(po.plp(optax.sgd(0.1, momentum=0.9), **reading), start(dtype), 7)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(dtype)}
    wide = jnp.promote_types(dtype, jnp.float32)
    expected = jnp.dtype(dtype) if not reading else wide
    assert {leaf.dtype for leaf in jax.tree.leaves(state.buffer)} == {expected}
    exact, _ = run(po.plp(optax.sgd(0.1, momentum=0.9), **reading), start(), 7)
    error = {jnp.dtype(jnp.bfloat16): 0.1, jnp.dtype(jnp.float16): 0.01}.get(jnp.dtype(dtype), 1e-5)
    close(jax.tree.map(lambda p: p.real.astype(jnp.float64), params), exact, rtol=error, atol=error)


def test_memory_is_one_buffer_of_the_parameters_size() -> None:
    params = start(np.float32)
    state = po.plp(optax.sgd(0.1)).init(params)
    size = sum(p.nbytes for p in params.values())
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(state)) == size + 4  # and one counter


def test_buffers_follow_the_parameters_over_several_devices(tmp_path: Any) -> None:
    code = """
import jax, jax.numpy as jnp, numpy as np, optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from paramcast.integrations.optax import plp
assert len(jax.devices()) == 2
mesh = Mesh(np.array(jax.devices()), ("data",))
sharding = NamedSharding(mesh, PartitionSpec("data"))
optimizer = plp(optax.sgd(0.1, momentum=0.9), 1.5)
def train(weight):
    state = optimizer.init(weight)
    step = jax.jit(lambda w, s, t: optimizer.update(0.5 * w + jnp.sin(t + jnp.arange(8.0)), s, w))
    for t in range(7):
        updates, state = step(weight, state, t)
        weight = optax.apply_updates(weight, updates)
    return weight, state
whole, _ = train(jnp.ones(8))
split, state = train(jax.device_put(jnp.ones(8), sharding))
assert state.buffer.sharding.is_equivalent_to(sharding, 1), state.buffer.sharding
np.testing.assert_allclose(whole, split, rtol=1e-6)
"""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**__import__("os").environ, **flags},
    )
    assert done.returncode == 0, done.stderr


# --- saving ---------------------------------------------------------------------------------------


@pytest.mark.compat(stack="JAX (optax)", feature="resume in mid-cycle")
@pytest.mark.parametrize(
    ("name", "reading"),
    [("sgd", {}), ("momentum", {"horizon": 1.5, "every": 4}), ("adam", {})],
    ids=str,
)
def test_a_resume_at_every_cut_is_bitwise(name: str, reading: dict, tmp_path: Any) -> None:
    def fresh() -> Any:
        return po.plp(BASES[name][1](), **reading)

    optimizer, params = fresh(), start(np.float32)
    step, state = stepper(optimizer), optimizer.init(params)
    whole = [(params, state)]
    for t in range(9):
        whole.append(step(*whole[-1], t))
    other = fresh()
    resumed = stepper(other)
    for cut in range(9):
        file = tmp_path / f"{cut}.npz"
        np.savez(file, *[np.asarray(leaf) for leaf in jax.tree.leaves(whole[cut])])
        with np.load(file, allow_pickle=False) as saved:
            leaves = [jnp.asarray(saved[key]) for key in saved.files]
        blank = jax.tree.map(jnp.zeros_like, start(np.float32))
        structure = jax.tree.structure((blank, other.init(blank)))
        params, state = jax.tree.unflatten(structure, leaves)
        for t in range(cut, 9):
            params, state = resumed(params, state, t)
        assert bits((params, state)) == bits(whole[9])


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_restart_begins_a_new_cycle_with_the_next_step(after: int) -> None:
    optimizer = po.plp(optax.sgd(1.0))
    weight = jnp.zeros(1)
    state = optimizer.init(weight)
    for _ in range(after):
        updates, state = optimizer.update(jnp.ones(1), state, weight)
        weight = optax.apply_updates(weight, updates)
    weight, state = jnp.array([100.0]), po.restart_cycle(state)
    for value in (1.0, 2.0, 4.0):
        updates, state = optimizer.update(jnp.array([value]), state, weight)
        weight = optax.apply_updates(weight, updates)
    assert weight.item() == 92.0


# --- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("horizon", [float("nan"), float("inf"), 1e7, "1", None, True, len])
def test_a_bad_horizon_is_refused(horizon: Any) -> None:
    with pytest.raises(pc.errors.ArgumentError, match="horizon must be a finite number"):
        po.plp(optax.sgd(0.1), horizon)


@pytest.mark.parametrize("every", [2, 0, -3, 3.0, True, "3"])
def test_a_bad_cycle_is_refused(every: Any) -> None:
    with pytest.raises(pc.errors.ArgumentError, match="every must be a whole number >= 3"):
        po.plp(optax.sgd(0.1), every=every)


def test_an_unknown_start_is_refused() -> None:
    with pytest.raises(pc.errors.ArgumentError, match="start must be one of midpoint, last, mean"):
        po.plp(optax.sgd(0.1), start="first")


def test_an_update_without_parameters_is_refused() -> None:
    optimizer = po.plp(optax.sgd(0.1))
    state = optimizer.init(jnp.zeros(1))
    with pytest.raises(pc.errors.ArgumentError, match=r"call update\(gradients, state, params\)"):
        optimizer.update(jnp.ones(1), state)


NO_BASES: dict[str, tuple[Callable[[], Any], str]] = {
    "a function": (lambda: optax.sgd, "construct one first"),
    "MultiSteps": (lambda: optax.MultiSteps(optax.sgd(0.1), 2), "put it outside"),
}
WRAPPED: dict[str, tuple[Callable[[], Any], str]] = {
    "twice": (lambda: po.plp(optax.sgd(0.1)), "already predicts"),
    "twice, deep in a chain": (
        lambda: optax.chain(optax.clip(1.0), po.plp(optax.sgd(0.1))),
        "already predicts",
    ),
    "accumulation inside": (
        lambda: optax.MultiSteps(optax.sgd(0.1), 2).gradient_transformation(),
        "counts micro-batches",
    ),
    "apply_if_finite inside": (lambda: optax.apply_if_finite(optax.sgd(0.1), 3), "skipped steps"),
    "conditionally_mask inside": (
        lambda: optax.conditionally_mask(optax.sgd(0.1), lambda step: step % 2 == 0),
        "skipped steps",
    ),
    "lookahead inside": (lambda: optax.lookahead(optax.sgd(0.1), 5, 0.5), "two sets"),
    "schedule-free": (lambda: optax.contrib.schedule_free_sgd(0.1), "two sequences"),
    "MADGRAD": (lambda: optax.chain(optax.contrib.scale_by_madgrad(0.1)), "a jump is undone"),
    "COCOB": (lambda: optax.contrib.cocob(), "a jump is undone"),
    "mechanize": (lambda: optax.contrib.mechanize(optax.sgd(0.1)), "a jump is undone"),
    "SAM": (lambda: optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.1)), "goes back to a point"),
    "L-BFGS": (lambda: optax.lbfgs(), "curvature"),
    "backtracking": (
        lambda: optax.chain(optax.sgd(0.1), optax.scale_by_backtracking_linesearch(5)),
        "the loss of the point",
    ),
}


@pytest.mark.parametrize("name", NO_BASES)
def test_what_is_no_transformation_is_refused(name: str) -> None:
    make, reason = NO_BASES[name]
    with pytest.raises(pc.errors.BaseOptimizerError, match=reason):
        po.plp(make())


@pytest.mark.parametrize("name", WRAPPED)
def test_a_base_that_cannot_be_wrapped_is_refused_with_the_reason(name: str) -> None:
    make, reason = WRAPPED[name]
    params = {"weight": jnp.zeros(2)}
    if name == "lookahead inside":
        params = optax.LookaheadParams.init_synced(params)
    with pytest.raises(pc.errors.BaseOptimizerError, match=reason):
        po.plp(make()).init(params)


def test_sam_in_one_update_can_be_wrapped() -> None:
    ascent = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
    base = optax.contrib.sam(optax.sgd(0.1), ascent, opaque_mode=True)
    assert po.plp(base).init(jnp.zeros(2)).done == 0


# --- the module -----------------------------------------------------------------------------------


def test_it_imports_no_torch() -> None:
    code = "import sys; from paramcast.integrations import optax; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_without_optax_the_error_says_what_to_install() -> None:
    code = "import sys; sys.modules['optax'] = None; import paramcast.integrations.optax"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "pip install 'paramcast[jax]'" in done.stderr


def test_the_examples_in_the_docstrings_run() -> None:
    results = doctest.testmod(po)
    assert results.attempted > 0
    assert results.failed == 0
