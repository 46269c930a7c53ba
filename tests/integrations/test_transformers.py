"""Hugging Face Trainer, the real one: a small GPT-2 and a small ViT from scratch, and resuming."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers")
pytest.importorskip("accelerate")
from accelerate.state import AcceleratorState
from small import Averaging, averaged, cosine, each_average, plp, same, spoiled
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
)

import paramcast as pc
from paramcast.averaging import SWA
from paramcast.errors import ArgumentError
from paramcast.integrations.common import unwrap
from paramcast.integrations.transformers import ForecastCallback


def adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=0.005)


Fresh = Callable[[], tuple[Any, list[dict[str, Tensor]]]]


@pytest.fixture(autouse=True)
def _own_accelerator() -> Iterator[None]:
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def text() -> tuple[Any, list[dict[str, Tensor]]]:
    """A GPT-2 of two layers that reads a docstring, letter by letter."""
    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=128, n_positions=32, n_embd=16, n_layer=2, n_head=2,
            bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip
    letters = torch.tensor([min(ord(c), 127) for c in str(pc.Forecast.__doc__)[: 32 * 32]])
    return model, [{"input_ids": row, "labels": row} for row in letters.view(32, 32)]


def images(digits: tuple[Tensor, Tensor]) -> tuple[Any, list[dict[str, Tensor]]]:
    """A ViT of one layer that reads digits in patches of 2 x 2."""
    torch.manual_seed(0)
    model = ViTForImageClassification(
        ViTConfig(
            image_size=8, patch_size=2, num_channels=1, hidden_size=16, num_hidden_layers=1,
            num_attention_heads=2, intermediate_size=32, num_labels=10,
        )
    )  # fmt: skip
    x, y = digits
    pairs = zip(x.view(-1, 1, 8, 8)[:128], y[:128], strict=True)
    return model, [{"pixel_values": image, "labels": label} for image, label in pairs]


@pytest.fixture(params=["GPT-2", "ViT"])
def fresh(request: pytest.FixtureRequest, digits: tuple[Tensor, Tensor]) -> Fresh:
    return text if request.param == "GPT-2" else lambda: images(digits)


def trainer(
    fresh: Fresh,
    make: Any,
    folder: Path,
    callbacks: Any = (),
    evaluate: Any = None,
    **options: Any,
) -> Trainer:
    model, data = fresh()
    optimizer = make(model.parameters())
    args = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=8,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **{"max_steps": 10, "logging_steps": 3, "save_strategy": "no", **options},
    )
    return Trainer(
        model,
        args,
        train_dataset=data,
        eval_dataset=data[:16] if evaluate is None else evaluate(data),
        optimizers=(optimizer, cosine(optimizer)),
        callbacks=list(callbacks),
    )


class Watcher(TrainerCallback):
    """The first parameter at each evaluated batch, and after each step."""

    def __init__(self) -> None:
        self.evaluated: list[Tensor] = []
        self.points: list[Tensor] = []

    def on_prediction_step(self, *_: Any, model: Any, **kwargs: Any) -> None:
        self.evaluated.append(next(model.parameters()).detach().clone())

    def on_step_end(self, *_: Any, model: Any, **kwargs: Any) -> None:
        self.points.append(next(model.parameters()).detach().clone())


# --- training and resuming ------------------------------------------------------------------------


@pytest.mark.compat(stack="Hugging Face Trainer", feature="train")
def test_the_third_step_ends_at_the_prediction(fresh: Fresh, tmp_path: Path) -> None:
    points = {}
    for name, make in (("bare", adamw), ("plp", plp(adamw))):
        watcher = Watcher()
        trainer(fresh, make, tmp_path, [watcher], max_steps=3).train()
        points[name] = watcher.points
    first, second, third = points["bare"]
    assert torch.equal(points["plp"][1], second)
    torch.testing.assert_close(points["plp"][2], third + (second - first) / 2)
    assert not torch.equal(points["plp"][2], third)


@pytest.mark.compat(stack="Hugging Face Trainer", feature="train")
def test_an_accumulated_micro_batch_is_no_step(tmp_path: Path) -> None:
    run = trainer(text, plp(adamw), tmp_path, gradient_accumulation_steps=2, max_steps=7)
    run.train()
    assert unwrap(run.optimizer).state_dict()["paramcast"]["steps"] == 7


@pytest.mark.compat(stack="Hugging Face Trainer", feature="resume in mid-cycle")
@pytest.mark.parametrize(
    ("make", "cut"), [(adamw, 4), (plp(adamw), 4), (plp(adamw), 5)], ids=["bare", "plp-4", "plp-5"]
)
def test_resuming_is_bitwise_the_undisturbed_run(
    fresh: Fresh, make: Any, cut: int, tmp_path: Path
) -> None:
    saving = {"save_strategy": "steps", "save_steps": cut}
    undisturbed = trainer(fresh, make, tmp_path, **saving)
    undisturbed.train()
    checkpoint = tmp_path / f"checkpoint-{cut}"

    def from_checkpoint() -> Any:
        model, data = fresh()
        if isinstance(model, ViTForImageClassification):
            # Transformers 5 saves a ViT under its old names, which the Trainer does not read back.
            return ViTForImageClassification.from_pretrained(checkpoint), data
        return spoiled(model), data

    resumed = trainer(from_checkpoint, make, tmp_path, **saving)
    resumed.train(resume_from_checkpoint=str(checkpoint))
    assert same(resumed.model, undisturbed.model)


# --- averaged evaluation --------------------------------------------------------------------------


@pytest.mark.compat(stack="Hugging Face Trainer", feature="averaged evaluation")
@each_average
def test_evaluation_sees_the_average_and_training_goes_on_live(
    kind: Averaging, tmp_path: Path
) -> None:
    watcher = Watcher()
    options = {"eval_strategy": "steps", "eval_steps": 7, "max_steps": 7}
    run = trainer(text, kind.make, tmp_path, [watcher, ForecastCallback()], **options)
    run.train()
    torch.testing.assert_close(watcher.evaluated[-1], kind.of(watcher.points))
    assert not torch.equal(watcher.evaluated[-1], watcher.points[-1])
    assert torch.equal(next(run.model.parameters()), watcher.points[-1])

    undisturbed = trainer(text, kind.make, tmp_path, max_steps=7)
    undisturbed.train()
    assert same(run.model, undisturbed.model)


@pytest.mark.compat(stack="Hugging Face Trainer", feature="averaged evaluation")
@each_average
def test_each_of_several_evaluation_sets_sees_the_average(kind: Averaging, tmp_path: Path) -> None:
    watcher = Watcher()
    run = trainer(
        text,
        kind.make,
        tmp_path,
        [watcher, ForecastCallback()],
        evaluate=lambda data: {"a": data[:8], "b": data[8:16]},
        eval_strategy="steps",
        eval_steps=4,
        max_steps=4,
    )
    run.train()
    run.predict(run.eval_dataset["a"])
    assert len(watcher.evaluated) == 3
    for seen in watcher.evaluated:
        torch.testing.assert_close(seen, kind.of(watcher.points))
    assert torch.equal(next(run.model.parameters()), watcher.points[-1])


@pytest.mark.compat(stack="Hugging Face Trainer", feature="averaged evaluation")
@each_average
def test_a_checkpoint_resumes_live_and_has_the_average_beside_it(
    kind: Averaging, tmp_path: Path
) -> None:
    options = {
        "eval_strategy": "steps", "eval_steps": 5, "save_strategy": "steps", "save_steps": 5,
    }  # fmt: skip
    watcher = Watcher()
    undisturbed = trainer(text, kind.make, tmp_path, [watcher, ForecastCallback()], **options)
    undisturbed.train()
    saved = GPT2LMHeadModel.from_pretrained(tmp_path / "checkpoint-5" / "averaged")
    assert torch.equal(next(saved.parameters()), watcher.evaluated[0])
    live = GPT2LMHeadModel.from_pretrained(tmp_path / "checkpoint-5")
    assert torch.equal(next(live.parameters()), watcher.points[4])

    resumed = trainer(text, kind.make, tmp_path, [ForecastCallback()], **options)
    spoiled(resumed.model)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert same(resumed.model, undisturbed.model)


# --- the best model at the end --------------------------------------------------------------------


def best(first: bool = True, **options: Any) -> dict[str, Any]:
    """Evaluate and save after 4, 8 and 12 steps; the best is the first, or the last."""
    return {
        "max_steps": 12,
        "eval_strategy": "steps",
        "eval_steps": 4,
        "save_strategy": "steps",
        "save_steps": 4,
        "load_best_model_at_end": True,
        "metric_for_best_model": "loss",
        "greater_is_better": first,  # the loss falls
        **options,
    }


def assert_holds(run: Trainer, weights: Tensor) -> None:
    """The model has the weights with this first parameter, and is evaluated as it is."""
    assert torch.equal(next(run.model.parameters()), weights)
    assert run.evaluate()["eval_loss"] == pytest.approx(run.state.best_metric, rel=1e-6)
    assert torch.equal(next(run.model.parameters()), weights)


@pytest.mark.compat(stack="Hugging Face Trainer", feature="averaged evaluation")
@each_average
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_the_model_ends_with_the_weights_that_were_evaluated_best(
    kind: Averaging, first: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "paramcast")
    watcher = Watcher()
    options = best(first, save_only_model=first)
    run = trainer(text, kind.make, tmp_path, [watcher, ForecastCallback()], **options)
    run.train()
    seen = watcher.evaluated[0] if first else watcher.evaluated[-1]
    assert not torch.equal(seen, watcher.points[3 if first else -1])
    assert_holds(run, seen)
    assert "the model has the best averaged weights, of " in caplog.text
    run.save_model(str(tmp_path / "final"))
    final = GPT2LMHeadModel.from_pretrained(tmp_path / "final")
    assert torch.equal(next(final.parameters()), seen)


class Line(torch.nn.Module):
    """A model that is not one of Transformers'."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)

    def forward(self, x: Tensor, labels: Tensor) -> dict[str, Tensor]:
        y = self.layer(x)
        return {"loss": (y - labels).square().mean(), "y": y}


def line() -> tuple[Any, list[dict[str, Tensor]]]:
    torch.manual_seed(0)
    return Line(), [{"x": x, "labels": x.sum()[None]} for x in torch.randn(32, 4)]


@pytest.mark.parametrize("other", ["ViT", "Line"])
def test_the_best_is_loaded_into_other_models_too(
    other: str, digits: tuple[Tensor, Tensor], tmp_path: Path
) -> None:
    watcher = Watcher()
    fresh = line if other == "Line" else lambda: images(digits)
    run = trainer(fresh, averaged, tmp_path, [watcher, ForecastCallback()], **best())
    run.train()
    batches = len(watcher.evaluated) // 3
    assert_holds(run, watcher.evaluated[batches * run.state.best_global_step // 4 - 1])


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft 0.21
def test_the_best_is_loaded_into_an_adapter_of_peft(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")

    def adapted() -> tuple[Any, list[dict[str, Tensor]]]:
        model, data = text()
        lora = peft.LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True)
        return peft.get_peft_model(model, lora), data

    def of_adapter(parameters: Any) -> pc.Forecast:
        return averaged([p for p in parameters if p.requires_grad])

    class Adapter(TrainerCallback):
        def __init__(self) -> None:
            self.evaluated: list[Tensor] = []

        def on_prediction_step(self, *_: Any, model: Any, **kwargs: Any) -> None:
            self.evaluated.append(flat(model))

    def flat(model: Any) -> Tensor:
        return torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])

    adapter = Adapter()
    run = trainer(adapted, of_adapter, tmp_path, [adapter, ForecastCallback()], **best())
    run.train()
    assert run.state.best_global_step == 4
    assert torch.equal(flat(run.model), adapter.evaluated[0])


def test_a_resumed_run_ends_with_the_best_of_the_whole(tmp_path: Path) -> None:
    watcher = Watcher()
    first = trainer(text, averaged, tmp_path, [watcher, ForecastCallback()], **best(max_steps=8))
    first.train()
    resumed = trainer(text, averaged, tmp_path, [ForecastCallback()], **best())
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    assert resumed.state.best_global_step == 4
    assert_holds(resumed, watcher.evaluated[0])


def test_the_best_before_the_average_began_is_live(tmp_path: Path) -> None:
    def late(parameters: Any) -> pc.Forecast:
        return pc.Forecast(adamw(parameters), average=SWA(start=6))

    stale = tmp_path / "checkpoint-4" / "averaged"  # of an earlier run
    stale.mkdir(parents=True)
    watcher = Watcher()
    run = trainer(text, late, tmp_path, [watcher, ForecastCallback()], **best())
    run.train()
    assert not stale.exists()
    assert torch.equal(watcher.evaluated[0], watcher.points[3])
    assert not torch.equal(watcher.evaluated[-1], watcher.points[-1])
    assert_holds(run, watcher.points[3])


@pytest.mark.slow  # two processes that import Transformers
def test_each_of_two_processes_ends_with_the_best(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = str(Path(__file__).with_name("two_trainers.py"))
    world = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [
        subprocess.Popen(
            [sys.executable, script, str(tmp_path)],
            env={**os.environ, **world, "RANK": rank, "LOCAL_RANK": rank},
        )
        for rank in "01"
    ]
    try:
        assert [rank.wait(timeout=200) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
    averages = sorted(path.parent.name for path in tmp_path.glob("*/averaged"))
    assert averages == ["checkpoint-12", "checkpoint-4", "checkpoint-8"]


def test_training_again_evaluates_with_the_average_again(tmp_path: Path) -> None:
    watcher = Watcher()
    run = trainer(text, averaged, tmp_path, [watcher, ForecastCallback()], **best(max_steps=8))
    run.train()
    run.args.max_steps = 12
    run.train()
    assert not torch.equal(watcher.evaluated[-1], watcher.points[-1])


# --- metrics --------------------------------------------------------------------------------------


@pytest.mark.compat(stack="Hugging Face Trainer", feature="metrics")
def test_the_numbers_of_the_events_are_in_the_log(tmp_path: Path) -> None:
    class Tracker(TrainerCallback):
        def __init__(self) -> None:
            self.steps: list[float] = []

        def on_log(self, *_: Any, logs: Any, **kwargs: Any) -> None:
            if "forecast/step" in logs:
                self.steps.append(logs["forecast/step"])

    tracker = Tracker()
    run = trainer(text, plp(adamw), tmp_path, [tracker])
    run.callback_handler.callbacks.insert(0, ForecastCallback())
    run.train()
    rows = [row for row in run.state.log_history if "forecast/jump_norm" in row]
    assert [row["forecast/step"] for row in rows] == tracker.steps == [3, 6, 9]
    assert all(row["forecast/jump_norm"] > 0 for row in rows)


# --- bad input ------------------------------------------------------------------------------------


def test_the_callback_needs_a_wrapper(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"no paramcast wrapper in .*give the framework PLP"):
        trainer(text, adamw, tmp_path, [ForecastCallback()]).train()


def test_the_best_of_a_search_is_refused(tmp_path: Path) -> None:
    callback = ForecastCallback()
    run = trainer(text, averaged, tmp_path, [callback], **best())
    run.state.is_hyper_param_search = True
    with pytest.raises(ArgumentError, match="averaged weights in hyperparameter_search"):
        callback.on_train_begin(
            run.args, run.state, run.control, model=run.model, optimizer=run.optimizer
        )
