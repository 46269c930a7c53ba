"""Hugging Face Trainer, the real one: a small GPT-2 and a small ViT from scratch, and resuming."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers")
pytest.importorskip("accelerate")
from accelerate.state import AcceleratorState
from small import averaged, cosine, plp, same, spoiled
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

    def average(self, decay: float = 0.9) -> Tensor:
        pairs = [(decay**age, p) for age, p in enumerate(reversed(self.points))]
        return sum(w * p for w, p in pairs) / sum(w for w, _ in pairs)


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
def test_evaluation_sees_the_average_and_training_goes_on_live(tmp_path: Path) -> None:
    watcher = Watcher()
    options = {"eval_strategy": "steps", "eval_steps": 7, "max_steps": 7}
    run = trainer(text, averaged, tmp_path, [watcher, ForecastCallback()], **options)
    run.train()
    torch.testing.assert_close(watcher.evaluated[-1], watcher.average())
    assert not torch.equal(watcher.evaluated[-1], watcher.points[-1])
    assert torch.equal(next(run.model.parameters()), watcher.points[-1])

    undisturbed = trainer(text, averaged, tmp_path, max_steps=7)
    undisturbed.train()
    assert same(run.model, undisturbed.model)


@pytest.mark.compat(stack="Hugging Face Trainer", feature="averaged evaluation")
def test_each_of_several_evaluation_sets_sees_the_average(tmp_path: Path) -> None:
    watcher = Watcher()
    run = trainer(
        text,
        averaged,
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
        torch.testing.assert_close(seen, watcher.average())
    assert torch.equal(next(run.model.parameters()), watcher.points[-1])


@pytest.mark.compat(stack="Hugging Face Trainer", feature="averaged evaluation")
def test_a_checkpoint_resumes_live_and_has_the_average_beside_it(tmp_path: Path) -> None:
    options = {
        "eval_strategy": "steps", "eval_steps": 5, "save_strategy": "steps", "save_steps": 5,
    }  # fmt: skip
    watcher = Watcher()
    undisturbed = trainer(text, averaged, tmp_path, [watcher, ForecastCallback()], **options)
    undisturbed.train()
    saved = GPT2LMHeadModel.from_pretrained(tmp_path / "checkpoint-5" / "averaged")
    assert torch.equal(next(saved.parameters()), watcher.evaluated[0])
    live = GPT2LMHeadModel.from_pretrained(tmp_path / "checkpoint-5")
    assert torch.equal(next(live.parameters()), watcher.points[4])

    resumed = trainer(text, averaged, tmp_path, [ForecastCallback()], **options)
    spoiled(resumed.model)
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert same(resumed.model, undisturbed.model)


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


def test_loading_the_best_live_weights_by_their_average_is_refused(tmp_path: Path) -> None:
    steps = {"eval_steps": 5, "save_steps": 5, "eval_strategy": "steps", "save_strategy": "steps"}
    options = {**steps, "load_best_model_at_end": True}
    run = trainer(text, averaged, tmp_path, [ForecastCallback()], **options)
    with pytest.raises(ArgumentError, match="live weights of the step whose averaged"):
        run.train()
