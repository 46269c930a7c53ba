"""Tables: every way to write one gives the same task, and what was read is said."""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paramcast.errors import TaskError
from paramcast.study.tasks.description import lines
from paramcast.study.tasks.frames import TableOptions, read_setting
from paramcast.study.tasks.source import find, load
from paramcast.study.tasks.splits import split_at_random
from paramcast.study.tasks.task import Prepared


def numbers(rows: int = 60) -> pd.DataFrame:
    """Two numbers and one that follows from them with noise; one decimal each."""
    rng = np.random.default_rng(0)
    a, b, noise = rng.normal(size=(3, rows)) * 20
    return pd.DataFrame({"a": a, "b": b, "price": a - b + noise}).round(1)


def loaded(file: Path, target: str = "price", **how: Any) -> Prepared:
    read = tuple(map(read_setting, how.pop("read", ())))
    options = TableOptions(how.pop("kind", None), how.pop("missing", None), read)
    return load(find(str(file), target, None, options))


def facts(file: Path, target: str = "price", **how: Any) -> dict[str, Any]:
    return dict(loaded(file, target, **how).description)


def written(folder: Path, content: str | bytes | pd.DataFrame, name: str = "data.csv") -> Path:
    if isinstance(content, pd.DataFrame):
        content = content.to_csv(index=False)
    raw = content.encode() if isinstance(content, str) else content
    (folder / name).write_bytes(raw)
    return folder / name


def refusal(file: Path, target: str = "price", **how: Any) -> str:
    with pytest.raises(TaskError) as caught:
        loaded(file, target, **how)
    return str(caught.value)


# --- how a table is written ---------------------------------------------------------------------


def as_text(**how: Any) -> Callable[[Path], None]:
    encoding = how.pop("encoding", "utf-8")
    head, edit = how.pop("head", ""), how.pop("edit", lambda text: text)

    def write(path: Path) -> None:
        text = head + edit(numbers().to_csv(index=False, **how))
        path.write_bytes(text.encode(encoding))

    return write


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside.csv", numbers().to_csv(index=False))


WAYS: dict[str, tuple[str, Callable[[Path], Any], tuple[str, ...]]] = {
    "semicolon": ("data.csv", as_text(sep=";"), ()),
    "tab": ("data.tsv", as_text(sep="\t"), ()),
    "bar": ("data.csv", as_text(sep="|"), ()),
    "quoted-header": (
        "data.csv", as_text(sep=";", edit=lambda t: t.replace("a;b", '"a,,,";b', 1)), ()),
    "decimal-comma": ("data.csv", as_text(sep=";", decimal=","), ("decimal=,",)),
    "white-space": ("data.txt", as_text(sep=" "), (r"sep=\s+",)),
    "blanks": ("data.csv", as_text(edit=lambda t: t.replace(",", " , ")), ()),
    "byte-order-mark": ("data.csv", as_text(encoding="utf-8-sig"), ()),
    "utf-16": ("data.txt", as_text(sep="\t", encoding="utf-16"), ()),
    "comment": ("data.csv", as_text(head="# made by\n"), ("comment=#",)),
    "title": ("data.csv", as_text(head="A title; or two\n"), ("skiprows=1",)),
    "trailing-comma": ("data.csv", as_text(edit=lambda t: t.replace("\n", ",\n")), ()),
    "gzip": ("data.csv.gz", lambda path: numbers().to_csv(path, index=False), ()),
    "bzip2": ("data.csv.bz2", lambda path: numbers().to_csv(path, index=False), ()),
    "zip": ("data.csv.zip", zipped, ()),
    "parquet": ("data.parquet", lambda path: numbers().to_parquet(path, index=False), ()),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_table_is_the_same_task_however_it_is_written(tmp_path: Path, way: str) -> None:
    name, write, read = WAYS[way]
    write(tmp_path / name)
    found = loaded(tmp_path / name, read=read)
    plain = loaded(written(tmp_path, numbers(), "plain.csv"))
    assert found.task.name == "data"
    for split in ("train", "validation", "test"):
        ours, same = getattr(found, split), getattr(plain, split)
        assert torch.equal(ours.inputs, same.inputs)
        assert torch.equal(ours.targets, same.targets)


@pytest.mark.parametrize(
    ("way", "message"),
    [
        ("decimal-comma", r"such as '2,5'; say how numbers are written with --read decimal="),
        ("white-space", r"has no column 'price'.*say how it is written with --read sep="),
        ("comment", r"first line, '# made by'.*--read comment='#'"),
        ("title", r"it has A title, or two; if .* with --read sep=, skiprows="),
    ],
)
def test_what_cannot_be_guessed_names_its_option(tmp_path: Path, way: str, message: str) -> None:
    name, write, _ = WAYS[way]
    write(tmp_path / name)
    with pytest.raises(TaskError, match=message):
        loaded(tmp_path / name)


def test_an_encoding_is_named_with_what_it_would_read(tmp_path: Path) -> None:
    frame = numbers().rename(columns={"price": "価格"})
    file = written(tmp_path, frame.to_csv(index=False).encode("shift_jis"))
    assert "--read encoding= with what reads right: shift_jis ('a,b,価格')" in refusal(file, "価格")
    assert "regression" in facts(file, "価格", read=("encoding=shift_jis",))


def test_thousands(tmp_path: Path) -> None:
    frame = numbers()
    frame["price"] = [f"{1000 * value:,.0f}" for value in frame["price"]]
    file = written(tmp_path, frame)
    assert "or --read thousands=, or" in refusal(file)
    read = facts(file, read=("thousands=,",))["regression"]
    assert read["max"] == pytest.approx(1000 * numbers()["price"].max())


def test_a_table_whose_columns_all_tell_nothing_is_refused_with_their_names(tmp_path: Path) -> None:
    frame = numbers().assign(a=1.0, b=2.0)
    said = refusal(written(tmp_path, frame[["a", "b", "price"]]))
    assert said.endswith("hold one value, nothing, dates or row numbers: 'a', 'b'")


def test_a_mark_for_missing_values(tmp_path: Path) -> None:
    frame = numbers(200).astype(object)
    frame.iloc[::9, 0] = "?"
    file = written(tmp_path, frame)
    assert "what marks a missing value with --read na_values='?'" in (refusal(file))
    assert facts(file, read=("na_values=?",), missing="drop")["missing_drop"]["rows"] == 23


@pytest.mark.parametrize(
    ("read", "message"),
    [
        ("sep=ab", r"--read sep must be one character, tab, or \\s\+"),
        ("decimal=", "--read decimal must be one character, got ''"),
        ("encoding=klingon", "--read encoding must be one that Python knows"),
        ("encoding=hex", "--read encoding must be one that Python knows"),
        ("skiprows=-1", "--read skiprows must be a number of lines, got '-1'"),
    ],
)
def test_values_of_read(read: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        read_setting(read)


def test_options_of_tables_are_checked(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match="--kind is for tables"):
        find("digits", table=TableOptions("classes"))
    numbers().to_parquet(tmp_path / "data.parquet")
    assert "--read is for text" in refusal(tmp_path / "data.parquet", read=("sep=;",))
    numbers().assign(a=[[1, 2]] * 60).to_parquet(tmp_path / "data.parquet")
    assert refusal(tmp_path / "data.parquet").endswith("a holds lists; leave it out")


# --- what kind of task it is --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kind", "because"),
    [
        (["no", "yes"], "classes", "text"),
        (["0.0", "1.0"], "classes", "few"),
        (["True", "False"], "classes", "text"),
        ([str(i) for i in range(20)], "classes", "few"),
        ([str(i) for i in range(21)], "regression", "many"),
        (["0.5", "1.5"], "regression", "fractions"),
    ],
)
def test_the_kind_of_task_is_guessed_with_a_reason(
    tmp_path: Path, values: list[str], kind: str, because: str
) -> None:
    frame = numbers(len(values) * 10).assign(price=values * 10)
    told = facts(written(tmp_path, frame))[kind]
    assert (told["because"], told["distinct"]) == (because, len(values))


def test_the_kind_of_task_can_be_said(tmp_path: Path) -> None:
    frame = numbers(300).assign(price=list(range(30)) * 10, text=["u", "v"] * 150)
    file = written(tmp_path, frame)
    assert facts(file, kind="classes")["classes"]["classes"][29] == ["29", 10]
    scores = written(tmp_path, frame.assign(price=[1.0, 2.0, 3.0] * 100))
    assert facts(scores)["classes"]["classes"] == [["1", 100], ["2", 100], ["3", 100]]
    assert facts(scores, kind="regression")["regression"]["max"] == 3
    assert "holds no numbers, such as 'u'; a regression" in refusal(file, "text", kind="regression")


def test_a_rare_whole_number_names_the_other_kind(tmp_path: Path) -> None:
    file = written(tmp_path, numbers().assign(price=[9, *[1, 2] * 29, 1]))
    assert refusal(file).endswith("or read the column as a number with --kind regression")


# --- what gives the target away -----------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "Id", "row_number"])
def test_row_numbers_are_left_out(tmp_path: Path, name: str) -> None:
    frame = numbers().sort_values("price").reset_index(drop=True)
    file = written(tmp_path, frame.to_csv(index_label=name))
    told = facts(file)
    assert told["left_out_counts"] == {"columns": [name or "Unnamed: 0"]}
    assert told["table"]["inputs"] == 2


def test_a_named_column_that_counts_is_kept_with_a_warning(tmp_path: Path) -> None:
    told = facts(written(tmp_path, numbers().assign(minute=range(60))))
    assert told["counts_rows"] == {"columns": ["minute"]}
    assert told["table"]["inputs"] == 3


def test_the_targets_name_twice(tmp_path: Path) -> None:
    text = numbers().to_csv(index=False, header=["a", "price ", "price"])
    assert "column 'price' appears twice in data.csv" in refusal(written(tmp_path, text))
    text = numbers().to_csv(index=False, header=["a", "a", "price"])
    assert facts(written(tmp_path, text))["table"]["inputs"] == 2


@pytest.mark.parametrize(
    "leak",
    [
        lambda y: np.exp(y / 50),
        lambda y: -y + 1e-6 * np.arange(len(y)),
        lambda y: np.where(y > 0, 1e200 * y, y),
    ],
    ids=["curve", "sign", "huge"],
)
def test_a_column_that_gives_a_number_away(tmp_path: Path, leak: Any) -> None:
    frame = numbers(200).assign(copy=lambda d: leak(d.price.to_numpy()))
    assert [name for name, _ in facts(written(tmp_path, frame))["leaks"]["columns"]] == ["copy"]


def test_columns_that_give_a_class_away(tmp_path: Path) -> None:
    frame = numbers(200).assign(price=["no", "no", "yes", "rare"] * 50)
    given_away = frame.assign(word=frame.price.str.upper(), far=(frame.price == "yes") * 1.0)
    told = facts(written(tmp_path, given_away))
    assert told["leaks"]["columns"] == [["word", "1.000"]]  # `far` mixes up two of the classes
    assert any("word (1.000)" in line for line in lines(told))
    assert "leaks" not in facts(written(tmp_path, frame))


def test_a_majority_is_not_a_leak(tmp_path: Path) -> None:
    frame = numbers(1000).assign(price=[1, *[0] * 99] * 10)  # a constant is right in 99 %
    assert "leaks" not in facts(written(tmp_path, frame))


# --- scales -------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", [1e-13, 1e-200, 1e200])
def test_units_change_nothing(tmp_path: Path, unit: float) -> None:
    plain = loaded(written(tmp_path, numbers()))
    other = loaded(written(tmp_path, numbers().assign(a=lambda d: d.a * unit)))
    torch.testing.assert_close(other.train.inputs, plain.train.inputs)


def test_heavy_tails_leave_the_rest_readable(tmp_path: Path) -> None:
    frame = numbers(200)
    frame.loc[::67, "a"] = 1e9
    found = loaded(written(tmp_path, frame))
    assert found.description["heavy_tails"]["columns"] == ["a"]
    column = torch.cat([found.train.inputs, found.validation.inputs, found.test.inputs])[:, 0]
    assert float(column.abs().max()) == 10  # clipped
    assert 0.5 < float(column[column.abs() < 10].std()) < 2  # not squeezed to 0


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
def test_a_regression_is_scored_in_the_targets_units(tmp_path: Path, unit: float) -> None:
    frame = numbers(200).assign(price=lambda d: d.price * unit + unit)
    found = loaded(written(tmp_path, frame))
    train, _, test = split_at_random(200, None, "data")
    y = frame.price.to_numpy()
    expected = np.square(y[test] - y[train].mean()).mean()
    assert found.constant(found.test)["metric"] == pytest.approx(expected, rel=1e-5)
    assert found.description["test_metric"]["constant"] == pytest.approx(expected, rel=1e-5)
    assert found.constant(found.train)["loss"] == pytest.approx(1.0, rel=0.02)  # standardised


def test_a_target_out_of_range(tmp_path: Path) -> None:
    file = written(tmp_path, numbers().assign(price=lambda d: d.price * 1e200))
    assert "whose square is out of range; give it in other units" in refusal(file)


# --- missing values and dates -------------------------------------------------------------------


def holes() -> pd.DataFrame:
    frame = numbers().assign(word=["u", "v", "w"] * 20).astype(object)
    frame.loc[[0, 1, 2], "a"] = None
    frame.loc[[2, 3], "word"] = None
    return frame[["a", "b", "word", "price"]]


def test_missing_values_are_refused_counted_and_named(tmp_path: Path) -> None:
    assert refusal(written(tmp_path, holes())) == (
        "data.csv has 5 empty or NaN cells in 4 of 60 rows, in a (3), word (2); leave those rows "
        "out with --missing drop, or fill the cells with --missing impute"
    )


def test_missing_values_are_dropped_or_imputed(tmp_path: Path) -> None:
    frame = holes()
    frame.loc[[4, 5], "price"] = None
    file = written(tmp_path, frame)
    dropped = facts(file, missing="drop")
    assert dropped["missing_drop"]["rows"] == 6
    assert (dropped["table"]["rows"], dropped["table"]["empty"]) == (54, 0)
    found = loaded(file, missing="impute")
    assert found.description["missing_impute"] == {
        "columns": [["a", 3], ["word", 2], ["price", 2]], "rows": 6, "all": 60
    }  # fmt: skip
    assert found.description["no_target"] == {"dropped": 2}
    assert (found.description["table"]["rows"], found.description["table"]["empty"]) == (58, 5)
    assert "no_target" not in facts(written(tmp_path, holes()), missing="impute")
    assert bool(torch.isfinite(found.train.inputs).all())


def test_imputing_uses_what_training_knows(tmp_path: Path) -> None:
    frame = numbers(100)
    frame.loc[::10, "a"] = None
    found = loaded(written(tmp_path, frame), missing="impute")
    splits = (found.train, found.validation, found.test)
    values = torch.cat([split.inputs[:, 0] for split in splits])
    common, count = values.unique(return_counts=True)
    filled = common[count.argmax()]
    assert int(count.max()) >= 10
    assert filled == found.train.inputs[:, 0].median() or filled == pytest.approx(
        float(found.train.inputs[:, 0].quantile(0.5)), abs=0.05
    )


def test_a_missing_target_can_only_be_dropped(tmp_path: Path) -> None:
    frame = numbers()
    frame.loc[::20, "price"] = None
    assert refusal(written(tmp_path, frame)).endswith("leave those rows out with --missing drop")


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%d/%m/%Y", "%d.%m.%y", "%Y-%m-%d %H:%M"])
def test_dates_are_left_out_and_the_random_split_is_said(tmp_path: Path, form: str) -> None:
    days = pd.date_range("2024-01-01", periods=60).strftime(form)
    told = facts(written(tmp_path, numbers().assign(day=days)))
    assert told["left_out_dates"] == {"columns": ["day"]}
    assert any("split at random" in line for line in lines(told))
    frame = numbers().assign(day=pd.date_range("2024-01-01", periods=60))
    frame.to_parquet(tmp_path / "data.parquet")
    assert facts(tmp_path / "data.parquet")["left_out_dates"] == {"columns": ["day"]}


# --- studies ------------------------------------------------------------------------------------

STUDY = """
name = "tables"
question = "Does it read tables?"
[[grid]]
task = "data.csv"
target = "price"
kind = "regression"
missing = "drop"
read = { sep = ";", decimal = "," }
methods = []
seeds = 2
lr = 0.01
epochs = 1
[[grid]]
task = "data.csv"
target = "a"
missing = "impute"
read = { decimal = "," }
methods = []
seeds = 2
lr = 0.01
epochs = 1
"""


def test_a_study_takes_tables(paramcast: Callable[..., Any], tmp_path: Path) -> None:
    frame = numbers()
    frame.loc[0, "b"] = None
    written(tmp_path, frame.to_csv(index=False, sep=";", decimal=","))
    (tmp_path / "my.toml").write_text(STUDY)
    ran = paramcast("study", "run", "my.toml", "--out", "out", "--json")
    assert ran.code == 0, ran.err
    assert "data: data.csv: 1 of 60 rows had empty cells and were dropped: b (1)." in ran.err
    cells = ran.result["cells"]
    assert [cell["settings"]["task"] for cell in cells] == ["data.csv:price", "data.csv:a"]
    assert [cell["description"]["table"]["rows"] for cell in cells] == [59, 60]
    (tmp_path / "my.toml").write_text(STUDY.replace('target = "a"\n', ""))
    refused = paramcast("study", "run", "my.toml", "--dry-run")
    assert refused.code == 2
    assert "grid[2]: data.csv is a table; say which column" in refused.err


# --- any table ----------------------------------------------------------------------------------


@st.composite
def truths(draw: Any) -> dict[str, Any]:
    """What a table is, and how it is written."""
    return {
        "rows": draw(st.integers(60, 200)),
        "target": draw(st.sampled_from(["text", "few", "many", "fractions"])),
        "scales": draw(st.lists(st.integers(-150, 150), min_size=1, max_size=3)),
        "texts": draw(st.integers(0, 2)),
        "extra": draw(
            st.sets(st.sampled_from(["counts", "constant", "empty", "dates", "leaks", "missing"]))
        ),
        "sep": draw(st.sampled_from(",;\t|")),
        "encoding": draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "shift_jis"])),
        "ending": draw(st.sampled_from([".csv", ".tsv", ".txt.gz"])),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


def made(truth: dict[str, Any]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """A table of that truth, and the facts that its description must hold."""
    rng, rows = np.random.default_rng(truth["seed"]), truth["rows"]
    numeric = {f"数{i}": rng.normal(size=rows) * 10.0**e for i, e in enumerate(truth["scales"])}
    words = {f"語{i}": rng.choice(["赤", "青", "x y"], rows) for i in range(truth["texts"])}
    whole = rng.permutation(np.arange(rows) % (3 if truth["target"] in ("few", "text") else 30))
    target = {"text": np.array(["a", "b", "c"])[whole % 3], "few": whole.astype(float),
              "many": whole, "fractions": whole + 0.25}[truth["target"]]  # fmt: skip
    frame = pd.DataFrame({**numeric, **words})
    expected: dict[str, Any] = {}
    if "leaks" in truth["extra"]:
        frame["leak"] = whole * 3.0 + 1
        expected["leaks"] = ["leak"]
    numbers_read = len(numeric) + len(expected)
    for name, column in (("dates", pd.date_range("2024-01-01", periods=rows).strftime("%Y-%m-%d")),
                         ("constant", "same"), ("empty", None)):  # fmt: skip
        if name in truth["extra"]:
            frame[name] = column
            expected[f"left_out_{name}"] = [name]
    if "counts" in truth["extra"]:
        frame.insert(0, "", np.arange(7, 7 + rows))
        expected["left_out_counts"] = ["Unnamed: 0"]
    cells = rng.choice(rows, 5, replace=False) if "missing" in truth["extra"] else []
    frame.loc[cells, "数0"] = None
    frame["目的"] = target
    kind = "classes" if truth["target"] in ("text", "few") else "regression"
    expected |= {"kind": (kind, truth["target"], 3 if kind == "classes" else 30)}
    expected |= {"columns": (numbers_read, truth["texts"]), "missing": len(cells)}
    return frame, expected


def kept(description: dict[str, Any]) -> dict[str, Any]:
    """The facts of a description in the form that `made` has."""
    kind = "classes" if "classes" in description else "regression"
    told, found = description[kind], description["table"]
    missing = description.get("missing_drop", {"rows": 0})
    return {
        **{k: v["columns"] for k, v in description.items() if k.startswith("left_out")},
        **({"leaks": [name for name, _ in description["leaks"]["columns"]]}
           if "leaks" in description else {}),
        "kind": (kind, told["because"], told["distinct"]),
        "columns": (found["numbers"], found["texts"]),
        "missing": missing["rows"],
    }  # fmt: skip


@settings(max_examples=40, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(truth=truths())
def test_the_description_of_any_table_is_its_truth(tmp_path: Path, truth: dict[str, Any]) -> None:
    frame, expected = made(truth)
    content = frame.to_csv(index=False, sep=truth["sep"]).encode(truth["encoding"])
    file = tmp_path / f"data{truth['ending']}"
    file.write_bytes(gzip.compress(content, 1) if truth["ending"].endswith("gz") else content)
    read = ("encoding=shift_jis",) if truth["encoding"] == "shift_jis" else ()
    found = loaded(file, "目的", read=read, missing="drop" if expected["missing"] else None)
    assert kept(dict(found.description)) == expected
    rows = truth["rows"] - expected["missing"]
    assert found.description["table"]["rows"] == rows
    assert sum(found.description["split"].values()) == rows
    assert len(lines(found.description)) == len(lines(found.description, "ja"))
