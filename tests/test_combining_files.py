"""Checkpoints on the disk: formats, sub-dictionaries, shards; what is written, and what not."""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import paramcast as pc
from paramcast.combining.formats import INDEX, open_checkpoint
from paramcast.errors import CheckpointError, TaskError

pytest.importorskip("safetensors")
from safetensors import safe_open
from safetensors.torch import load_file, save_file

ENDINGS = (".pt", ".pth", ".bin", ".ckpt", ".safetensors")


def state(value: float) -> dict[str, Tensor]:
    return {
        "module._orig_mod.w": torch.full((2, 3), value, dtype=torch.bfloat16),
        "b": torch.tensor([value, -value]),
        "n": torch.tensor([int(value)]),
    }


def saved(folder: Path, ending: str = ".pt", wrap: Any = lambda state, step: state) -> list[Path]:
    """Three checkpoints with the values 1, 2 and 6, whose names sort wrongly as texts."""
    paths = []
    for step, value in ((8, 1.0), (9, 2.0), (10, 6.0)):
        path = folder / f"ckpt_{step}{ending}"
        if ending == ".safetensors":
            save_file(state(value), path)
        else:
            torch.save(wrap(state(value), step), path)
        paths.append(path)
    return paths[::-1]  # in the wrong order


def is_mean(found: dict[str, Tensor]) -> bool:
    """Of 1, 2 and 6: 3; and the last checkpoint's integers."""
    w = found["module._orig_mod.w"]
    return (
        w.dtype == torch.bfloat16
        and bool((w == 3).all())
        and found["b"].tolist() == [3.0, -3.0]
        and found["n"].tolist() == [6]
        and found.keys() == state(0).keys()
    )


def read(path: Path) -> Any:
    return load_file(path) if path.suffix == ".safetensors" else torch.load(path)


# --- formats --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "out"), [*zip(ENDINGS, ENDINGS[::-1], strict=True), (".safetensors", ".safetensors")]
)
def test_every_format_to_every_format(ending: str, out: str, tmp_path: Path) -> None:
    place = tmp_path / f"new{out}"
    made = pc.combine(saved(tmp_path, ending), place, predictor="mean")
    assert is_mean(read(place))
    assert made.out == place
    assert made.series.order == "by their names"
    record = json.loads((tmp_path / f"new{out}.json").read_text("utf-8"))
    assert record == made.record()
    assert [Path(name).stem for name in record["checkpoints"]] == ["ckpt_8", "ckpt_9", "ckpt_10"]
    assert record["weights"] == pytest.approx([1 / 3] * 3)
    if out == ".safetensors":
        with safe_open(place, "pt") as file:
            assert file.metadata() == {"format": "pt"}
    umask = os.umask(0)
    os.umask(umask)
    assert {p.stat().st_mode & 0o777 for p in (place, tmp_path / f"new{out}.json")} == {
        0o666 & ~umask
    }


@pytest.mark.parametrize("kind", ["old format", "parameters"])
def test_files_that_are_read_as_a_whole(kind: str, tmp_path: Path) -> None:
    for i, value in enumerate((1.0, 2.0, 6.0)):
        content: Any = state(value)
        if kind == "parameters":
            content["b"] = nn.Parameter(content["b"])
        torch.save(
            content, tmp_path / f"{i}.pt", _use_new_zipfile_serialization=kind != "old format"
        )
    assert is_mean(pc.combine(sorted(tmp_path.iterdir()), predictor="mean").state_dict())


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "module"])
def test_the_usual_sub_dictionaries_are_found_and_kept(key: str, tmp_path: Path) -> None:
    def wrap(state: Any, step: int) -> dict[str, Any]:
        more = {"best": torch.tensor(0.5), "optimizer": {"state": {0: {"m": torch.ones(3)}}}}
        return {key: state, "epoch": 1, "global_step": 100 - step, **more}

    made = pc.combine(saved(tmp_path, wrap=wrap), tmp_path / "new.pt", predictor="line")
    # their steps run against their names: 6, 2, 1
    assert made.series.order == "by the global_step stored in them"
    assert made.series.steps == [90, 91, 92]
    written = torch.load(tmp_path / "new.pt")
    assert list(written) == [key]
    assert written[key]["b"][0] == pytest.approx(3 - 2 * 2.5)


def test_a_key_leads_anywhere(tmp_path: Path) -> None:
    def wrap(state: Any, step: int) -> dict[str, Any]:
        other = {name: value + 1 for name, value in state.items()}
        return {"model": other, "ema.decay": {"nets": {"g": state}}}

    pc.combine(
        saved(tmp_path, wrap=wrap), tmp_path / "new.pt", predictor="mean", key="ema.decay.nets.g"
    )
    assert is_mean(torch.load(tmp_path / "new.pt")["ema.decay"]["nets"]["g"])


def test_tied_tensors_survive_the_disk(tmp_path: Path) -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
            self.head.weight = self.embed.weight

    for i in range(3):
        torch.save(Tied().state_dict(), tmp_path / f"{i}.pt")
    paths = sorted(tmp_path.iterdir())
    pc.combine(paths, tmp_path / "new.pt", predictor="mean")
    pc.combine(paths, tmp_path / "new.safetensors", predictor="mean")
    tied, apart = (read(tmp_path / f"new{ending}") for ending in (".pt", ".safetensors"))
    assert tied["embed.weight"].data_ptr() == tied["head.weight"].data_ptr()
    assert torch.equal(tied["embed.weight"], apart["head.weight"])
    model = Tied()
    model.load_state_dict(apart)
    assert torch.equal(model.embed.weight, tied["head.weight"])


# --- Hugging Face ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three trainer's folders of a small BERT with tied embeddings, in shards."""
    transformers = pytest.importorskip("transformers")
    folder, paths = tmp_path_factory.mktemp("bert"), []
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=16,
    )  # fmt: skip
    for step in (1000, 500, 1500):
        torch.manual_seed(step)
        path = folder / f"checkpoint-{step}"
        transformers.BertForMaskedLM(config).save_pretrained(path, max_shard_size="10KB")
        (path / "trainer_state.json").write_text(json.dumps({"global_step": step, "epoch": 1.5}))
        paths.append(path)
    return paths


def test_shards_of_transformers_become_a_model_that_it_loads(
    bert: list[Path], tmp_path: Path
) -> None:
    from transformers import BertForMaskedLM

    assert len([*bert[0].glob("model-*.safetensors")]) > 2
    made = pc.combine(bert, tmp_path / "model.safetensors", predictor="mean")
    assert made.series.steps == [500, 1000, 1500]
    (tmp_path / "config.json").write_bytes((bert[0] / "config.json").read_bytes())
    model, *others = (BertForMaskedLM.from_pretrained(path) for path in (tmp_path, *bert))
    for name, value in model.state_dict().items():
        mean = sum(other.state_dict()[name].double() for other in others) / 3
        torch.testing.assert_close(value.double(), mean, rtol=1e-6, atol=1e-7)


def test_shards_of_torch_and_single_files(tmp_path: Path) -> None:
    folders = []
    for i, value in enumerate((1.0, 2.0, 6.0)):
        folder = tmp_path / f"checkpoint-{i}"
        folder.mkdir()
        first, *rest = state(value).items()
        torch.save(dict([first]), folder / "pytorch_model-1.bin")
        torch.save(dict(rest), folder / "pytorch_model-2.bin")
        places = {first[0]: "pytorch_model-1.bin"} | {n: "pytorch_model-2.bin" for n, _ in rest}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
        folders.append(folder)
    assert is_mean(pc.combine(folders, predictor="mean").state_dict())
    single = tmp_path / "checkpoint-3"
    single.mkdir()
    save_file(state(6.0), single / "adapter_model.safetensors")
    assert is_mean(pc.combine([*folders[:2], single], predictor="mean").state_dict())


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({}, "has no weight_map"),
        ({"weight_map": {"b": "gone.bin"}}, "lacks gone.bin, which model.safetensors.index.json"),
        ({"weight_map": {"b": "../a.pt"}}, "lacks ../a.pt"),
        ({"weight_map": {"b": 3}}, "lacks 3"),
        ({"weight_map": {"c": "a.pt"}}, "a.pt lacks c, which .* places there"),
        ([], "it holds no object"),
    ],
    ids=str,
)
def test_an_index_of_no_use(index: Any, message: str, tmp_path: Path) -> None:
    torch.save(state(1), tmp_path / "a.pt")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    torch.save(state(1), folder / "a.pt")
    (folder / INDEX[0]).write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(folder)


# --- what is refused ------------------------------------------------------------------------------


class Hostile:
    def __reduce__(self) -> Any:
        return os.mkdir, ("executed",)


def test_a_hostile_pickle_is_not_executed(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    good = saved(tmp_path)
    torch.save({"w": torch.ones(1), "x": Hostile()}, "zip.pt")
    torch.save({"w": Hostile()}, "old.pt", _use_new_zipfile_serialization=False)
    Path("plain.pt").write_bytes(pickle.dumps(Hostile()))
    for name in ("zip.pt", "old.pt", "plain.pt"):
        with pytest.raises(CheckpointError, match=f"{name} (cannot be loaded|is not a whole)"):
            pc.combine([*good, Path(name)], predictor="mean")
    assert not Path("executed").exists()


def test_a_changed_byte_is_refused_or_changes_nothing_and_a_cut_is_refused(tmp_path: Path) -> None:
    paths = saved(tmp_path)
    whole, refused = paths[0].read_bytes(), 0
    for place in range(0, len(whole), 61):
        paths[0].write_bytes(whole[:place])
        with pytest.raises(CheckpointError, match=r"pt is not a whole checkpoint \(.*leave it out"):
            pc.combine(paths, predictor="mean")
        paths[0].write_bytes(whole[:place] + bytes([whole[place] ^ 0x20]) + whole[place + 1 :])
        try:  # half of this small file are the archive's dates and the like
            assert is_mean(pc.combine(paths, predictor="mean").state_dict()), place
        except CheckpointError:
            refused += 1
    assert refused > 15


def test_a_cut_file_of_safetensors_is_noticed(tmp_path: Path) -> None:
    paths = saved(tmp_path, ".safetensors")
    paths[0].write_bytes(paths[0].read_bytes()[:-3])
    with pytest.raises(CheckpointError, match=r"ckpt_10\.safetensors is not a whole safetensors"):
        pc.combine(paths, predictor="mean")


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: Any) -> None:
    paths = saved(tmp_path)

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    for ending in (".pt", ".safetensors"):
        before = sorted(tmp_path.iterdir())
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(CheckpointError, match="No space left"):
                pc.combine(paths, tmp_path / f"new{ending}", predictor="mean")
        assert sorted(tmp_path.iterdir()) == before


def test_safetensors_hold_no_extra_state(tmp_path: Path) -> None:
    paths = saved(tmp_path, wrap=lambda state, step: {**state, "x._extra_state": {"a": 1}})
    with pytest.raises(CheckpointError, match=r"safetensors cannot hold x\._extra_state"):
        pc.combine(paths, tmp_path / "new.safetensors", predictor="mean")
    assert not (tmp_path / "new.safetensors").exists()
    pc.combine(paths, tmp_path / "new.pt", predictor="mean")
    assert torch.load(tmp_path / "new.pt")["x._extra_state"] == {"a": 1}


def test_without_safetensors_the_package_is_named(tmp_path: Path) -> None:
    saved(tmp_path, ".safetensors")
    code = (
        "import sys; sys.modules['safetensors'] = None; import paramcast as pc\n"
        "try: pc.combine(['ckpt_8.safetensors', 'ckpt_9.safetensors'], predictor='mean')\n"
        "except pc.ParamcastError as error: print(error)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert (
        "needs a package that is not installed: pip install 'paramcast[safetensors]'" in ran.stdout
    )


def test_state_dicts_need_torch_alone(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('click', 'scipy', 'rich', 'numpy.testing', 'safetensors', 'pandas'):\n"
        "    sys.modules[name] = None\n"
        "import torch, paramcast as pc\n"
        "made = pc.combine([{'w': torch.ones(1) * i} for i in range(4)],\n"
        "                  evaluate=lambda state: {'loss': abs(state['w'] - 1.5)})\n"
        "print(made)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "Best: mean of the last 4." in ran.stdout


# --- the choice -----------------------------------------------------------------------------------


def numbers(*values: float) -> list[dict[str, Tensor]]:
    return [{"w": torch.tensor([float(value)])} for value in values]


def distance(to: float) -> Any:
    return lambda state: {"loss": abs(state["w"].item() - to)}


def test_the_best_is_chosen_in_the_direction_of_its_name() -> None:
    made = pc.combine(numbers(0, 4, 2, 4), evaluate=distance(3.0), predictor="mean")
    assert made.chosen.name == "mean of the last 2"
    assert [row.value for row in made.rows] == pytest.approx([1.0, 0.0, 1 / 3, 0.5])
    up = pc.combine(
        numbers(0, 4, 2, 4), predictor="mean",
        evaluate=lambda state: {"score": state["w"].item()}, higher_is_better=False,
    )  # fmt: skip
    assert up.chosen.name == "mean of the last 4"


def test_nothing_is_written_where_nothing_is_better(tmp_path: Path) -> None:
    given, out = numbers(1, 2, 3), tmp_path / "new.pt"
    made = pc.combine(given, out, predictor="mean", evaluate=distance(3.0))
    assert (made.chosen, made.out, [*tmp_path.iterdir()]) == (made.rows[0], None, [])
    assert "None of 2 is better than the last checkpoint." in str(made)


def test_a_watch_goes_through_what_is_evaluated() -> None:
    seen = []
    pc.combine(
        numbers(1, 2, 3), predictor="mean", evaluate=distance(3.0),
        watch=lambda tried: (seen.append(each.name) or each for each in tried),
    )  # fmt: skip
    assert seen == ["mean of the last 2", "mean of the last 3"]


def test_the_test_function_sees_two_and_chooses_nothing() -> None:
    seen = []

    def test(state: dict[str, Any]) -> float:
        seen.append(state["w"].item())
        return float(state["w"])

    made = pc.combine(numbers(0, 4, 2, 4), predictor="mean", evaluate=distance(3), test=test)
    assert seen == [4.0, 3.0]
    assert made.test == (4.0, 3.0)
    # a value of another function is called by its own name
    assert "chose nothing: test 3, the last checkpoint 4 (-1)" in " ".join(str(made).split())
    assert made.record()["test"] == {"name": "test", "last": 4.0, "chosen": 3.0}
    alone = pc.combine(numbers(0, 4, 2, 4), predictor="mean", evaluate=distance(3))
    assert "flatters it" in str(alone)
    assert "No test function was given" in " ".join(str(alone).split())


def test_an_evaluation_that_fails_on_one_goes_on_with_the_others() -> None:
    def evaluate(state: dict[str, Any]) -> dict[str, float]:
        if state["w"].item() == 3.0:
            raise RuntimeError("out of\nmemory")
        return {"loss": -state["w"].item() if state["w"].item() < 4 else math.nan}

    made = pc.combine(numbers(1, 2, 4, 4), predictor=["mean", "line"], evaluate=evaluate)
    failed = [row for row in made.rows if row.reason]
    assert [row.name for row in failed] == ["mean of the last 5"] or failed == []
    made = pc.combine(numbers(0, 5, 4), predictor="mean", evaluate=evaluate)
    assert made.rows[2].reason.startswith(
        "failed: evaluate failed with RuntimeError: out of memory (l"
    )
    assert made.record()["tried"][0]["value"] is None  # the last is NaN
    with pytest.raises(TaskError, match="every combination failed; mean of the last 2 failed: ev"):
        pc.combine(numbers(5, 1), predictor="mean", evaluate=evaluate)


def test_what_is_not_finite_is_better_than_nothing() -> None:
    made = pc.combine(
        numbers(1, 2), predictor="mean",
        evaluate=lambda state: {"loss": math.inf if state["w"] > 1.7 else 1.0},
    )  # fmt: skip
    assert made.chosen.name == "mean of the last 2"


def test_an_evaluation_that_is_not_repeatable_is_told_and_may_spoil_its_state_dict() -> None:
    calls = iter(range(100))

    def evaluate(state: dict[str, Any]) -> dict[str, float]:
        value = state["w"].item()
        state["w"].zero_()
        return {"loss": abs(value - 3) + 1e-6 * next(calls)}

    given = numbers(0, 4, 2, 4)
    made = pc.combine(given, predictor="mean", evaluate=evaluate)
    made.state_dict()["w"].zero_()
    assert made.state_dict()["w"].item() == 3.0
    assert [state["w"].item() for state in given] == [0, 4, 2, 4]
    assert "gave the last checkpoint loss 1 at first and 1 in the end" in " ".join(made.notes)


@pytest.mark.parametrize(
    ("evaluate", "options", "message"),
    [
        (lambda s: {"a": 1, "b": 2}, {}, r"returned a, b; say which decides: metric"),
        (lambda s: {"a": 1, "b": 2}, {"metric": "c"}, "returned a, b; it has no 'c'"),
        (lambda s: {"speed": 1}, {}, "is a higher speed better"),
        (lambda s: [1, 2], {}, "must return a number, or numbers by name: .* got \\[1, 2\\]"),
        (lambda s: {}, {}, "it returned nothing"),
        (lambda s: torch.ones(2), {}, r"a tensor of shape \(2,\)"),
        (lambda s: 1 / 0, {}, r"failed with ZeroDivisionError: division by zero \(line \d+\)"),
        ("my.py", {}, "evaluate must be FILE.py:FUNCTION, got 'my.py'"),
        ("gone.py:f", {}, "evaluate: there is no file gone.py"),
    ],
)
def test_evaluations_of_no_use(evaluate: Any, options: Any, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        pc.combine(numbers(1, 2), evaluate=evaluate, **options)


@pytest.mark.parametrize(
    ("estimate", "message"),
    [
        (lambda s: None, "must return the state dict with new statistics of batch norm, got None"),
        (lambda s: {}, r"returned no n.running_var of shape \(1,\)"),
    ],
)
def test_estimates_of_no_use(estimate: Any, message: str) -> None:
    given = [{**state, "n.running_var": torch.ones(1)} for state in numbers(1, 2)]
    with pytest.raises(TaskError, match=message):
        pc.combine(given, predictor="mean", batch_norm=estimate)
