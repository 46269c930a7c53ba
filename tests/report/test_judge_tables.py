"""Tables of results: what is read of them, by pencil, and the verdict that a pilot would give."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from synthetic import EVIL, TESTED, write_pilot

from command import call
from paramcast.errors import StudyError
from paramcast.report.html.write import content
from paramcast.study.judging.verdict import ADOPT, HARMFUL, INCONCLUSIVE, INSTEAD, SAME
from paramcast.study.stored import read_result
from paramcast.study.tables.judge import judge_results
from paramcast.study.tables.options import JudgeOptions

WAVE = [0.0, 1.0, -1.0, 2.0, -2.0, 1.0, 0.0, -1.0]


def results(effects: dict[str, float], n: int = 8, spread: float = 0.001) -> pd.DataFrame:
    """Accuracies of methods: the seed decides most, the effect is added, each has a wave of its
    own."""
    rows = [
        {"model": name, "seed": seed, "accuracy": 0.8 + 0.02 * WAVE[seed] + effect
         + spread * WAVE[(seed + 3 * i) % n]}
        for seed in range(n)
        for i, (name, effect) in enumerate(effects.items())
    ]  # fmt: skip
    return pd.DataFrame(rows)


def kinds(judged: Any) -> dict[str, str]:
    return {name: answers["quality"].kind for name, answers in judged["verdicts"].items()}


def row(judged: Any, name: str) -> Any:
    return next(each for each in judged["table"] if each["method"] == name)


def judge(frame: pd.DataFrame, **options: Any) -> Any:
    return judge_results(frame, JudgeOptions(**options))


def refusal(frame: pd.DataFrame, **options: Any) -> str:
    with pytest.raises(StudyError) as caught:
        judge(frame, **options)
    return str(caught.value)


def ran(folder: Path, table: str, *more: Any, name: str = "results.csv") -> Any:
    """The cell of the result of a command, which must succeed."""
    (folder / name).write_text(table)
    done = call(folder, "judge", name, *more, "--json")
    assert done.code == 0, done.err
    return done.result["cells"][0]


# --- verdicts -------------------------------------------------------------------------------------


def test_each_verdict_from_a_table_whose_columns_are_found_by_their_names() -> None:
    table = results({"sgd": 0.0, "better": 0.02, "same": 0.0005, "worse": -0.02})
    judged = judge(table)
    assert kinds(judged) == {"better": ADOPT, "same": SAME, "worse": HARMFUL}
    assert judged["confidence"] == pytest.approx(1 - 0.05 / 3)
    assert judged["metric"].percent
    assert judged["table"][0]["method"] == "sgd"
    assert judged["specification"]["columns"] == {
        "method": ("model",), "seed": ("seed",), "value": "accuracy",
    }  # fmt: skip


def test_a_control_as_good_is_used_instead_and_one_of_another_method_is_not_asked() -> None:
    table = results({"sgd": 0.0, "new": 0.02, "sgd-lr-matched": 0.02})
    assert kinds(judge(table, control=["sgd-lr-matched"])) == {"new": INSTEAD}
    both = results({"sgd": 0.0, "new": 0.02, "other": 0.03, "sgd-lr-matched": 0.02})
    found = kinds(judge(both, control=["sgd-lr-matched=new"]))
    assert found == {"new": INSTEAD, "other": ADOPT}
    assert row(judge(both, control=["sgd-lr-matched=new"]), "sgd-lr-matched")["control_of"] == "new"


def test_the_numbers_are_those_of_the_paired_t_test() -> None:
    table = results({"sgd": 0.0, "new": 0.004}, spread=0.003)
    base, new = (table[table["model"] == name]["accuracy"].to_numpy() for name in ("sgd", "new"))
    made = row(judge(table), "new")["to_base"]
    expected = stats.ttest_1samp(new - base, 0.0)
    assert made.p == pytest.approx(expected.pvalue)
    assert (made.low, made.high) == pytest.approx(expected.confidence_interval(0.95))
    assert made.n == 8


def test_a_table_without_seeds_is_compared_in_groups_by_welch() -> None:
    table = results({"sgd": 0.0, "new": 0.004}).drop(columns="seed")
    table = table.drop(index=table.index[-1])  # groups of 8 and 7
    base, new = (table[table["model"] == name]["accuracy"].to_numpy() for name in ("sgd", "new"))
    judged = judge(table)
    made = row(judged, "new")["to_base"]
    test = stats.ttest_ind(new, base, equal_var=False)
    assert (made.p, made.n) == (pytest.approx(test.pvalue), 7)
    (pair,) = judged["verdicts"]["new"]["quality"].comparisons
    assert pair.comparison == made
    assert not judged["metric"].paired
    assert "table_unpaired" in [note["note"] for note in judged["notes"]]


def test_what_pairs_would_have_been_worth_is_told() -> None:
    table = results({"sgd": 0.0, "new": 0.02}, spread=0.002)
    judged = judge(table, unpaired=True)
    (note,) = (note for note in judged["notes"] if note["note"] == "table_pairing")
    base, new = (table[table["model"] == name]["accuracy"] for name in ("sgd", "new"))
    apart = math.sqrt(base.var() + new.var())
    together = np.std(new.to_numpy() - base.to_numpy(), ddof=1)
    assert note["ratios"] == {"new": pytest.approx(together / apart)}
    assert together / apart < 0.2


def test_fewer_than_six_pairs_show_nothing() -> None:
    judged = judge(results({"sgd": 0.0, "new": 0.2}, n=5))
    assert kinds(judged) == {"new": INCONCLUSIVE}
    assert judged["verdicts"]["new"]["quality"].rule == "few"


def test_a_table_without_a_control_of_the_step_says_what_cannot_be_ruled_out() -> None:
    table = results({"sgd": 0.0, "new": 0.02, "sgd-lr-matched": 0.001, "other": 0.0})
    for controls, cautions in (
        ((), ("no_control_table",)),
        (("other",), ("no_step_table",)),
        (("sgd-lr-matched", "other"), ()),
    ):
        verdict = judge(table, control=controls)["verdicts"]["new"]["quality"]
        assert (verdict.kind, verdict.cautions) == (ADOPT, cautions)


def test_folds_share_examples_so_their_interval_is_wider() -> None:
    """Of 4 folds each tests a third of what it trains on."""
    rng = np.random.default_rng(0)
    rows = [
        {"model": name, "seed": seed, "fold": fold, "accuracy": 0.8 + effect + rng.normal(0, 0.01)}
        for seed in range(3) for fold in range(4) for name, effect in (("sgd", 0), ("new", 0.01))
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    judged = judge(table, seed=("seed", "fold"))
    assert judged["metric"].overlap == pytest.approx(1 / 3)
    made = row(judged, "new")["to_base"]
    half = stats.t.ppf(0.975, 11) * made.sd * math.sqrt(1 / 12 + 1 / 3)
    assert made.high - made.mean == pytest.approx(half)
    assert "'seed', 'fold' may each be the seed" in refusal(table)


def test_half_a_test_example_is_taken_into_account() -> None:
    table = results({"sgd": 0.0, "new": 0.01}, spread=0.0)
    assert kinds(judge(table)) == {"new": ADOPT}
    assert kinds(judge(table, test_examples=100)) == {"new": INCONCLUSIVE}


# --- diverged runs --------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["", "NaN", "nan", "inf", "-inf", "None"])
def test_a_run_without_a_value_diverged_and_counts_as_the_worst(lost: str, tmp_path: Path) -> None:
    lines = ["model,seed,loss", *(f"sgd,{s},0.{40 + s}" for s in range(8))]
    lines += [f"new,{s},{lost if s < 3 else f'0.{30 + s}'}" for s in range(8)]
    cell = ran(tmp_path, "\n".join(lines))
    new = row(cell, "new")
    assert new["diverged"] == 3
    assert new["values"][:4] == [0.47, 0.47, 0.47, 0.33]  # the largest loss of the table
    assert cell["verdicts"]["new"]["quality"]["rule"] == "unstable_table"
    assert {"note": "table_diverged", "runs": 3, "arms": ["new"], "worst": "0.47"} in cell["notes"]


def test_an_empty_cell_of_a_wide_table_is_no_run() -> None:
    table = pd.DataFrame({"sgd": [0.8, 0.81, 0.82], "new": [0.9, None, 0.91]})
    judged = judge(table, value="accuracy", base="sgd")
    assert judged["seeds"] == 2
    assert judged["description"]["results_alone"] == {"seeds": [["1", "sgd"]]}
    assert row(judged, "new")["diverged"] == 0


# --- how values are written -----------------------------------------------------------------------


def test_per_cent_in_every_spelling_is_the_same_value(tmp_path: Path) -> None:
    values = {"sgd": [87.3, 86.5, 88.25, 87.0], "new": [88.1, 87.0, 89.0, 88.75]}
    spellings = {
        "percent": lambda v: f"{v} %",
        "comma": lambda v: f'"{v}"'.replace(".", ","),
        "both": lambda v: f'"{v}%"'.replace(".", ","),
        "plain": str,
        "share": lambda v: f"{v / 100:.4f}",
    }
    means = set()
    for name, form in spellings.items():
        rows = [f"{m},{s},{form(v)}" for m, own in values.items() for s, v in enumerate(own)]
        cell = ran(tmp_path, "\n".join(["model,seed,acc", *rows]), name=f"{name}.csv")
        assert cell["metric"]["name"] == "accuracy"
        means.add(tuple(round(each["mean"], 9) for each in cell["table"]))
    assert means == {(0.872625, 0.882125)}


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (["0.9", "87.3 %"], "holds '87.3 %' in row 1 and '0.9' in row 0; write all of them with"),
        (["0.9", "high"], "holds 'high' in row 1, which is not a number; correct it"),
        (["1,234", "2,345"], "holds '1,234', which may be read in two ways; say which with"),
        (["0.9", "0,8"], "holds '0,8' in row 1, which is not a number"),
        (["0.9", "1e300"], "holds 1e+300 in row 1; values beyond 1e+100 cannot be judged"),
        (["0.88", "87.74"], "holds 0.88 in row 0 and 87.74 in row 1, which look like a share of 1"),
        (["0.9", "250"], "holds 250 in row 1, which lies neither from 0 to 1 nor from 0 to 100"),
        (["0.9", "-0.1"], "holds -0.1 in row 1, which lies neither from 0 to 1 nor from 0 to 100"),
        (["", "nan"], "no run of the table has a value in 'acc'"),
    ],
)
def test_values_that_are_no_numbers(cells: list[str], says: str) -> None:
    table = pd.DataFrame({"model": ["sgd"] * 2 + ["new"] * 2, "seed": [0, 1] * 2, "acc": cells * 2})
    assert says in refusal(table, base="sgd")


def test_decimal_and_thousands_as_told(tmp_path: Path) -> None:
    text = "model;seed;reward\nsgd;0;1.234,5\nsgd;1;1.200,5\nnew;0;1.300,5\nnew;1;1.400,0\n"
    cell = ran(tmp_path, text, "--read", "decimal=,", "--read", "thousands=.")
    assert row(cell, "sgd")["values"] == [1234.5, 1200.5]


# --- which columns, which direction ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "higher"),
    [("val/loss", False), ("metrics.test_accuracy", True), ("perplexity", False),
     ("top1_error", False), ("reward", True), ("params.x", None), ("log_loss_score", False)],
)  # fmt: skip
def test_the_direction_that_a_name_implies(name: str, higher: bool | None) -> None:
    table = results({"sgd": 0.0, "new": 0.1}).rename(columns={"accuracy": name})
    if higher is None:
        assert "say --lower-is-better or --higher-is-better" in refusal(table, value=name)
    else:
        judged = judge(table, value=name)
        assert judged["metric"].higher_is_better is higher
        assert kinds(judged) == {"new": ADOPT if higher else HARMFUL}


def test_what_may_be_several_columns_is_asked() -> None:
    table = results({"sgd": 0.0, "new": 0.02})
    assert "'accuracy', 'val_loss' may each be judged; say which with --value" in refusal(
        table.assign(val_loss=0.1)
    )
    other = table.assign(optimizer=[*"ab"] * 8)
    assert "'model', 'optimizer' may each be the method; say which with --method" in refusal(other)
    constant = table.assign(optimizer="adam", train_accuracy=0.9, epoch=90)
    assert kinds(judge(constant)) == {"new": ADOPT}


def test_methods_of_several_columns(tmp_path: Path) -> None:
    rows = [f"sgd,{lr},{s},{0.8 + (lr == 0.2) * 0.1 + 0.001 * s}" for lr in (0.1, 0.2)
            for s in range(6)]  # fmt: skip
    text = "\n".join(["optimizer,lr,seed,acc", *rows])
    (tmp_path / "results.csv").write_text(text)
    assert "only one method in 'optimizer', 'sgd'" in call(tmp_path, "judge", "results.csv").err
    cell = ran(
        tmp_path, text, "--method", "optimizer", "--method", "lr", "--base", "optimizer=sgd, lr=0.1"
    )
    assert [each["method"] for each in cell["table"]][1] == "optimizer=sgd, lr=0.2"


def test_seeds_without_a_partner_are_named_and_left_out() -> None:
    table = results({"sgd": 0.0, "new": 0.02})
    table = table[~((table["model"] == "new") & table["seed"].isin([2, 5]))]
    judged = judge(table)
    assert judged["seeds"] == 6
    assert judged["description"]["results_alone"] == {"seeds": [["2", "sgd"], ["5", "sgd"]]}
    assert judged["specification"]["pairs"] == ["0", "1", "3", "4", "6", "7"]


@pytest.mark.parametrize(
    ("change", "how", "says"),
    [
        (lambda t: t.assign(model="sgd"), {}, "there is only one method in 'model', 'sgd'"),
        (lambda t: pd.concat([t, t.head(1)], ignore_index=True), {},
         "'sgd' with seed '0' is in rows 0 and 16; keep one of them"),
        (lambda t: t.assign(seed=range(16)), {}, "0 of 16 values of seed have every method"),
        (lambda t: t.head(3), {}, "1 of 2 values of seed have every method, and pairs need 2"),
        (lambda t: t.head(0), {}, "the table has no rows; it needs one row per training"),
        (lambda t: t, {"base": "adam"}, "--base 'adam' is not a method of the table: 'sgd', 'new'"),
        (lambda t: t, {"control": ["x"]}, "--control 'x' is not a method of the table"),
        (lambda t: t, {"control": ["new"]}, "every method besides the base is a control"),
        (lambda t: t, {"control": ["new"], "reference": ["new"]},
         "'new' is named with --control and --reference; say which it is"),
        (lambda t: t, {"base": "sgd", "control": ["sgd"]},
         "the base 'sgd' is named as a control too; leave that out"),
        (lambda t: t, {"reference": ["sgd"]},
         "the base 'sgd' is named as a reference too; leave that out"),
        (lambda t: t, {"only": ["sgd", "y"]}, "--only 'y' is not a method of the table"),
        (lambda t: t.replace({"model": {"sgd": "a"}}), {}, "say with --base which method the"),
        (lambda t: t.drop(columns="model"), {}, "no column name says that it holds the methods"),
        (lambda t: t.drop(columns="accuracy"), {}, "no column name says that it holds the val"),
        (lambda t: t.assign(model=[f"m{i}" for i in range(16)] ), {}, "say with --base"),
        (lambda t: t.replace({"model": {"new": "n" * 101}}), {}, "is not a name of at most 100"),
        (lambda t: t.assign(accuracy=0.0).rename(columns={"accuracy": "loss"}), {},
         "the base's median loss is 0, and a share of it is not a margin"),
        (lambda t: t.drop(columns="seed").iloc[[0, 1, 3]], {}, "'sgd' has 1 value"),
        (lambda t: t.rename(columns={"accuracy": "loss"}), {"test_examples": 100},
         "--test-examples says what one example is worth in per cent, and loss is not"),
    ],
)  # fmt: skip
def test_tables_that_cannot_be_judged(change: Any, how: dict[str, Any], says: str) -> None:
    assert says in refusal(change(results({"sgd": 0.0, "new": 0.02})), **how)


# --- forms of tables ------------------------------------------------------------------------------


def test_every_form_of_the_same_table_gives_the_same_verdict(tmp_path: Path) -> None:
    table = results({"sgd": 0.0, "new": 0.004}, spread=0.003)
    wide = table.pivot(index="seed", columns="model", values="accuracy").reset_index()
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_csv(tmp_path / "b.tsv", index=False, sep="\t")
    table.to_parquet(tmp_path / "c.parquet")
    table.to_json(tmp_path / "d.jsonl", orient="records", lines=True, double_precision=15)
    table.to_json(tmp_path / "e.json", orient="records", double_precision=15)
    wide.to_csv(tmp_path / "f.csv", index=False)
    table.sample(frac=1, random_state=1).to_csv(tmp_path / "g.csv.gz", index=False)
    found = []
    for path in sorted(tmp_path.iterdir()):
        more = ["--base", "sgd", "--value", "accuracy"]
        done = call(tmp_path, "judge", path.name, *more, "--json")
        assert done.code == 0, (path, done.err)
        found.append(row(done.result["cells"][0], "new"))
    assert len(found) == 7
    for other in found[1:]:
        assert other["to_base"] == pytest.approx(found[0]["to_base"])
        assert other["values"] == pytest.approx(found[0]["values"])


def test_nested_json_lines_with_nan(tmp_path: Path) -> None:
    lines = [
        json.dumps({"config": {"optimizer": m, "seed": s}, "summary": {"loss": v}, "tags": ["x"]})
        for m, e in (("sgd", 0.5), ("new", 0.4))
        for s in range(3)
        for v in [math.nan if (m, s) == ("new", 1) else e + 0.01 * s]
    ]
    cell = ran(tmp_path, "\n".join(lines), name="log.jsonl")
    assert row(cell, "new")["diverged"] == 1
    assert cell["specification"]["columns"]["value"] == "summary.loss"


WANDB = """"Name","State","Notes","User","Tags","Created","Runtime","Sweep","optimizer","seed","acc"
"fresh-sun-1","finished","-","me","first","2025-11-01T10:00:00.000Z","120","","adamw","0","0.91"
"fresh-sun-2","finished","-","me","","2025-11-01T10:00:00.000Z","121","","adamw","1","0.92"
"fresh-sun-3","finished","-","me","","2025-11-01T10:00:00.000Z","119","","muon","0","0.95"
"fresh-sun-4","crashed","-","me","","2025-11-01T10:00:00.000Z","3","","muon","1",""
"fresh-sun-5","finished","-","me","","2025-11-01T10:00:00.000Z","130","","muon","1","0.96"
"fresh-sun-6","running","-","me","","2025-11-01T10:00:00.000Z","130","","muon","2","0.5"
"""


def test_an_export_of_weights_and_biases(tmp_path: Path) -> None:
    cell = ran(tmp_path, WANDB)
    assert [each["method"] for each in cell["table"]] == ["adamw", "muon"]
    assert row(cell, "muon")["values"] == [0.95, 0.96]
    assert row(cell, "muon")["seconds"] == 124.5
    unfinished = cell["description"]["results_unfinished"]
    assert unfinished == {"rows": 2, "states": [["crashed", 1], ["running", 1]]}


def test_exports_of_mlflow(tmp_path: Path) -> None:
    """From its page, whose durations are texts and are left out, and of `mlflow.search_runs`."""
    page = [f"2025-11-01 10:00:00,1.{s}min,{s:032x},me,FINISHED,{m},{s},0.{v}{s}"
            for m, v in (("sgd", 80), ("plp", 83)) for s in range(6)]  # fmt: skip
    head = "Start Time,Duration,Run ID,User,Status,optimizer,seed,accuracy"
    cell = ran(tmp_path, "\n".join([head, *page]))
    assert [each["method"] for each in cell["table"]] == ["sgd", "plp"]
    assert row(cell, "plp")["seconds"] is None
    assert row(cell, "plp")["to_base"]["mean"] == pytest.approx(0.03)
    head = (
        "run_id,experiment_id,status,artifact_uri,start_time,end_time,metrics.accuracy,"
        "params.method,params.seed,tags.mlflow.runName"
    )
    times = "2025-11-01 10:00:00.104000+00:00,2025-11-01 10:00:02.354000+00:00"
    frame = [f"{s:032x},1,FINISHED,/tmp/a,{times},0.{v + s},{m},{s},calm-{s}"
             for m, v in (("sgd", 900), ("plp", 920)) for s in range(3)]  # fmt: skip
    cell = ran(tmp_path, "\n".join([head, *frame]))
    assert row(cell, "plp")["values"] == pytest.approx([0.92, 0.921, 0.922])
    assert row(cell, "plp")["to_base"]["mean"] == pytest.approx(0.02)


# --- laws -----------------------------------------------------------------------------------------


def test_the_exported_values_of_a_pilot_give_its_verdict(tmp_path: Path) -> None:
    for effect in (0.0, 0.012, -0.03, 0.003):
        folder = tmp_path / str(effect)
        result = write_pilot(folder, methods="plp", effects={"plp": effect}, speed=False)
        (pilot,) = result["cells"]
        table = pd.DataFrame(
            {"model": each["method"], "seed": seed, "accuracy": value}
            for each in pilot["table"] for seed, value in enumerate(each["values"])
        )  # fmt: skip
        controls = [f"{each['method']}=plp" for each in pilot["table"] if each["control_of"]]
        judged = judge(table, test_examples=TESTED, control=controls)
        ours, its = judged["verdicts"]["plp"]["quality"], pilot["verdicts"]["plp"]["quality"]
        assert (ours.kind, ours.rule, ours.control) == (its.kind, its.rule, its.control)
        for pair, other in zip(ours.comparisons, its.comparisons, strict=True):
            assert (pair.a, pair.b) == (other.a, other.b)
            assert pair.comparison.low == pytest.approx(other.comparison.low)


@given(
    shift=st.floats(-5, 5), scale=st.floats(0.1, 10), order=st.permutations(range(24)),
    effect=st.sampled_from([0.0, 0.05, -0.5, 2.0]),
)  # fmt: skip
@settings(max_examples=20)
def test_the_order_of_rows_and_the_unit_change_no_verdict(
    shift: float, scale: float, order: list[int], effect: float
) -> None:
    rng = np.random.default_rng(3)
    rows = [
        {"model": m, "seed": s, "reward": 10 + rng.normal() + e}
        for s in range(8) for m, e in (("sgd", 0.0), ("a", effect), ("b", 0.3))
    ]  # fmt: skip
    table = pd.DataFrame(rows)
    moved = table.assign(reward=scale * (table["reward"] + shift)).iloc[order]
    first = judge(table, margin=(0.5, False))
    second = judge(moved, margin=(0.5 * scale, False))
    assert kinds(first) == kinds(second)
    for name in ("a", "b"):
        one, two = row(first, name)["to_base"], row(second, name)["to_base"]
        assert two.mean == pytest.approx(scale * one.mean, abs=1e-9)
        assert two.relation == one.relation


# --- the folder, the report and the return --------------------------------------------------------


def test_report_and_return_work_on_a_judged_table(tmp_path: Path) -> None:
    table = results({"sgd": 0.0, "new": 0.02}).assign(seconds=2.0, lr=0.1)
    table.to_csv(tmp_path / "results.csv", index=False)
    done = call(tmp_path, "judge", "results.csv", "--out", "judged")
    assert done.code == 0, done.err
    said = "by the table's values: adopt new ends better than sgd. The difference is +2.00 points"
    assert said in " ".join(done.out.split())
    assert "Caution: No control was run, so this says that new is better, not why" in done.out
    assert "top-1" not in done.out
    result = read_result(tmp_path / "judged", "table")
    assert result["command"] == "paramcast judge results.csv --out judged"
    for language in ("en", "ja"):
        page = content(tmp_path / "judged", language, "html").decode()
        assert "results.csv" in page
    told = call(tmp_path, "report", "judged", "--format", "md", "-o", "-").out
    assert "By results.csv, should new replace sgd?" in told
    assert "gain over sgd | 2" in told
    paid = call(tmp_path, "roi", "judged")
    assert (paid.code, paid.out.count("\n")) == (0, 5)
    assert "new against sgd on results.csv, n = 8" in paid.out


def test_an_unpaired_table_whose_names_would_be_code(tmp_path: Path) -> None:
    """It is judged again into its folder, and never into a pilot's."""
    table = results({"sgd": 0.0, EVIL: 0.1}).rename(columns={"model": "optimizer"})
    table.drop(columns="seed").iloc[:-1].to_csv(tmp_path / "<b>x.csv", index=False)
    for _ in range(2):
        assert call(tmp_path, "judge", "<b>x.csv", "--out", "judged").code == 0
    page = (tmp_path / "judged" / "report.html").read_text("utf-8")
    assert EVIL not in page
    assert "<b>x" not in page
    paid = call(tmp_path, "roi", "judged", "--full")
    assert paid.code == 0, paid.err
    assert "no time was measured" in paid.out
    assert "unpaired" in call(tmp_path, "report", "judged", "--format", "md", "-o", "-").out
    write_pilot(tmp_path / "pilot")
    refused = call(tmp_path, "judge", "<b>x.csv", "--out", "pilot")
    assert (refused.code, refused.out) == (2, "")
    assert "pilot holds a pilot's or study's results; choose another --out folder" in refused.err
