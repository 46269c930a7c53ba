"""The catalogue: the same keys in both languages, and every fact said in both."""

from __future__ import annotations

import re
import string
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from paramcast.errors import StudyError
from paramcast.study.judging.sentences import advice, caution, note, sentence
from paramcast.study.judging.table import LR_MATCHED, RANDOM_JUMP
from paramcast.study.judging.verdict import Arm, Extension, Metric, judge_quality, judge_speed
from paramcast.study.tables.judge import as_of_a_table
from paramcast.study.training.methods import METHODS
from paramcast.study.words import LANGUAGES, Words, catalogue

ENGLISH = re.compile(r"[a-z]{3,}[,:]? [a-z]{2,} [a-z]{2,}")
JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
OTHER_WORDS = re.compile("許容差|歩幅|雑音|対照手法|フォルダー|訓練|跳躍|移転率|無作為|無償|独自の")
KANA = "[\u3040-\u30ff\u4e00-\u9fff]"
HALF_WIDTH = re.compile(rf"{KANA} ?[,:;(?]|[,:;)?]{KANA}|[,:;?] {KANA}")
ACCURACY = Metric("accuracy", True, 0.005, 0.0005)
LOSS = Metric("mse", False, 0.05)
SAME_IN_BOTH = {"paramcast", "torch", "Python", "GPU", "AUROC", "RMSE", "beta2", "p", "n"}


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_have_the_same_keys_and_placeholders() -> None:
    en, ja = (catalogue(language) for language in LANGUAGES)
    assert {k: list(v) for k, v in en.items()} == {k: list(v) for k, v in ja.items()}
    for section, key in ((s, k) for s in en for k in en[s]):
        assert fields(en[section][key]) == fields(ja[section][key]), (section, key)


def test_every_text_is_in_its_language() -> None:
    en, ja = (catalogue(language) for language in LANGUAGES)
    for section, texts in ja.items():
        for key, text in texts.items():
            assert not JAPANESE.search(en[section][key])
            bare = re.sub(r"\{\w+\}", "", text)
            same = en[section][key] == text and text in SAME_IN_BOTH
            known = same or not re.search(r"[A-Za-z]{4}", bare)
            assert JAPANESE.search(text) or known, (section, key)
            assert not ENGLISH.search(bare), (section, key)


def test_japanese_has_one_word_for_one_thing_and_full_width_punctuation() -> None:
    """The words are those of CONTRIBUTING.md; what the test names was one of two for a thing."""
    for section, texts in catalogue("ja").items():
        for key, text in texts.items():
            assert not OTHER_WORDS.search(text), (section, key)
            assert not HALF_WIDTH.search(text), (section, key)


def test_advice_names_charts_that_the_page_has() -> None:
    for language, title in (("en", "all comparisons"), ("ja", "すべての比較")):
        texts = catalogue(language)
        assert title in texts["page"]["study_next_same"]
        assert title in texts["charts"]["all"].lower()


def test_another_language_is_refused() -> None:
    with pytest.raises(StudyError, match="--lang must be one of en, ja, got 'fr'"):
        Words("fr")


def arm(name: str, shift: float, role: str = "predictor", **more: Any) -> Arm:
    """Six seeds around 0.9; `early` is the shift at 0.8 T, `noise` what only this arm has."""
    n, noise = more.pop("n", 6), more.pop("noise", 0.0001)
    signs = [1, -1, 2, -2, 3, -3, 1, -1][:n]
    early = more.pop("early", shift)
    diverged = tuple(i < more.get("bad", 0) for i in range(n))
    more.pop("bad", 0)
    return Arm(
        name, role, 0.05,
        tuple(0.9 + 0.01 * i + shift + noise * s for i, s in enumerate(signs)),
        tuple(0.9 + 0.01 * i + early + noise * s for i, s in enumerate(signs)),
        diverged, diverged, **more,
    )  # fmt: skip


def verdicts() -> list[Any]:
    """Every branch of the verdicts, for an accuracy and for another metric."""
    found = []
    bad = arm("sgd", 0.0, "base", noise=0, bad=1)
    weak = arm("random-jump", 0.0, "control", advice="noise")  # fmt: skip
    strong = arm("sgd-lr-matched", 0.02, "control",
                 advice="raise_lr")  # fmt: skip
    half = arm("sgd-lr-matched", 0.02, "control", noise=0.012)
    near = arm("random-jump", 0.002, "control")
    for metric in (ACCURACY, LOSS):
        sign = 1 if metric.higher_is_better else -1
        predictors = [
            arm("plp", 0.0), arm("plp", 0.02 * sign), arm("plp", -0.2 * sign),
            arm("plp", 0.003, noise=0.02), arm("plp", 0.0, n=4), arm("plp", 0.0, bad=3),
            arm("plp", 0.0, bad=1), arm("plp", 0.02, early=-0.001),
            arm("plp", 0.006),
        ]  # fmt: skip
        for p, controls in product(predictors, ([weak], [weak, strong], [half], [near])):
            n = len(p.values)
            cut = arm("sgd", 0.0, "base", noise=0, n=n)
            same = [Arm(c.name, c.role, c.lr, c.values[:n], c.early[:n], c.diverged[:n],
                        c.early_diverged[:n], c.control_of, c.advice)
                    for c in controls]  # fmt: skip
            found.append((metric, judge_quality(cut, p, same, metric, 0.95)))
        for p, early in product(predictors[:4], (0.0, -0.02, 0.002)):
            noise = 0.02 if early == 0.002 else 0.0001
            early_base = arm("sgd", 0.0, "base", noise=0, early=early)
            other = arm("sgd", 0.0, "base", noise=noise, early=early)
            early_base = Arm(*{**vars(early_base), "early": other.early}.values())
            found.append((metric, judge_speed(early_base, p, [], metric, 0.95)))
        close = [
            arm(name, 0.0, role, noise=0, early=sign * early * metric.margin)
            for name, role, early in (("sgd", "base", -1.1), ("plp", "predictor", -0.9))
        ]
        found.append((metric, judge_speed(*close, [], metric, 0.95)))
        level = [
            arm(name, 0.0, role, noise=0, early=sign * early * metric.margin, advice="raise_lr")
            for name, role, early in (("sgd", "base", -4), ("plp", "predictor", 0),
                                      ("sgd-lr-matched", "control", 0))
        ]  # fmt: skip
        found.append((metric, judge_speed(*level[:2], level[2:], metric, 0.95)))
        found.append((metric, judge_speed(bad, arm("plp", 0.0), [], metric, 0.95)))
    base, plp = arm("sgd", 0.0, "base", noise=0), arm("plp", 0.02)
    known, coarse = replace(ACCURACY, constant=0.95), replace(ACCURACY, half_example=0.012)
    found += [(m, judge_quality(base, plp, [], m, 0.95)) for m in (ACCURACY, known, coarse)]
    found += [(metric, as_of_a_table(v, tells_step=False)) for metric, v in found]
    for metric, sign in ((ACCURACY, 1), (LOSS, -1), (ACCURACY, -1), (LOSS, 1)):
        m = metric.margin
        # clear of 0, and the mean is less than the margin
        slight = arm("plp", 0.8 * sign * m, noise=0.2 * m)
        found.append((metric, judge_quality(base, slight, [], metric, 0.95)))
    # the budget ended before the controls ran
    unrun = Arm("random-jump", "control", 0.05, (), (), (), (), "plp", "noise")
    for metric, sign in ((ACCURACY, 1), (LOSS, -1)):
        gain = arm("plp", 4 * sign * metric.margin)
        found.append((metric, judge_quality(base, gain, [unrun], metric, 0.95, closed=True)))
        late = arm("sgd", 0.0, "base", noise=0, early=-4 * sign * metric.margin)
        fast = arm("plp", 0.0, early=0.0)
        found.append((metric, judge_speed(late, fast, [unrun], metric, 0.95, closed=True)))
    assert {v.kind for _, v in found} == {
        "adopt", "use the control instead", "slightly better", "no difference", "slightly worse",
        "harmful", "inconclusive", "faster", "not faster",
    }  # fmt: skip
    return found


NOTES = [
    {"note": "data"}, {"note": "data_own"}, {"note": "splits"}, {"note": "widened", "half": 0.0111},
    {"note": "lowest", "arms": ["sgd", "plp"], "range": [0.0003, 0.3]},
    {"note": "highest", "arms": ["plp"], "range": [0.003, 3]},
    {"note": "lowest_few", "arms": ["sgd"], "n": 4, "factor": 4.6, "trials": 8},
    {"note": "highest_few", "arms": ["sgd"], "n": 4, "factor": 4.6, "trials": 8},
    {"note": "lowest_around", "arms": ["plp"]}, {"note": "highest_around", "arms": ["plp"]},
    {"note": "coarse", "n": 50, "share": 0.02, "margin": 0.005, "relative": False},
    {"note": "refused", "arms": ["plp"], "made": 400, "written": 8},
    {"note": "fixed_steps"}, {"note": "judged_tunes", "metric": "episode_return"},
    {"note": "coarse_splits", "n": 6, "share": 1 / 6, "margin": 0.05, "relative": True,
     "splits": 12},
    {"note": "uneven", "constant": 0.995},
    {"note": "table_unpaired"},
    {"note": "table_diverged", "runs": 3, "arms": ["plp"], "worst": "0.47"},
    {"note": "table_pairing", "column": "seed", "ratios": {"plp": 0.21}},
    {"note": "table_folds", "overlap": "0.25"},
    {"note": "not_run", "arms": ["sgd", "plp"]},
    {"note": "fixed_steps"}, {"note": "speed_not_asked", "arms": ["plp"]},
    {"note": "budget", "runs": 30}, {"note": "not_learned", "by_arm": {"sgd": 3, "plp": 1}},
]  # fmt: skip


def test_every_fact_is_said_in_both_languages_with_the_same_numbers() -> None:
    """Every branch of the verdicts, every advice and every note."""
    en, ja = Words("en"), Words("ja")
    extended = replace(
        judge_quality(*unclear_arms(), [], ACCURACY, 0.95), extension=Extension(16, 40.2, "go on")
    )
    keys = [*catalogue("en")["advice"]]
    advised = [replace(extended, advice=(key,), control="ema", facts={"lr": 0.01}) for key in keys]
    told = [(v, metric, say) for metric, v in verdicts() for say in (sentence, advice)]
    told += [(v, metric, caution) for metric, v in verdicts() if v.cautions]
    told += [(v, ACCURACY, advice) for v in advised]
    pairs = [(say(v, m, en), say(v, m, ja)) for v, m, say in told]
    pairs += [(note(n, ACCURACY, en), note(n, ACCURACY, ja)) for n in NOTES]
    for english, japanese in pairs:
        assert not re.search(r"[{}]{2}|\{(?!share)", english + japanese)  # as a command writes it
        own = r"--[a-z-]+|sgd-lr-matched|random-jump|plp|sgd|mse|ema|paramcast roi"
        bare = re.sub(own, "", japanese)
        assert JAPANESE.search(japanese), english
        assert not JAPANESE.search(english)
        assert not re.search(r"[A-Za-z]{3,} [A-Za-z]{2,}", bare), japanese
        numbers = [sorted(re.findall(r"\d+\.\d+", text)) for text in (english, japanese)]
        assert numbers[0] == numbers[1]


def test_no_rule_advice_or_note_of_the_catalogue_is_unused() -> None:
    found = [v for _, v in verdicts()]
    parts = {"lead", "numbers"}  # of sentences
    assert {v.rule for v in found} | parts == set(catalogue("en")["verdict"])
    assert {c for v in found for c in v.cautions} == set(catalogue("en")["caution"])
    assert {n["note"] for n in NOTES} == set(catalogue("en")["note"])


def unclear_arms() -> list[Arm]:
    return [arm("sgd", 0.0, "base", noise=0), arm("plp", 0.003, noise=0.02)]


def test_every_method_and_control_is_described() -> None:
    """What a table can hold has a description; one without leaves an empty place on the page."""
    families = {*METHODS, "base", LR_MATCHED, RANDOM_JUMP}
    for language in LANGUAGES:
        missing = families - set(catalogue(language)["method"])
        assert not missing, f"describe {missing} in study/text/{language}.json, section method"


def test_the_japanese_of_the_three_answers_people_get_most() -> None:
    base, margins = arm("sgd", 0.0, "base", noise=0), Metric("accuracy", True, 0.005)
    strong = arm("sgd-lr-matched", 0.02, "control", advice="raise_lr")
    told = [
        sentence(judge_quality(base, arm("plp", shift), [strong], margins, 0.95), margins, words)
        for words in [Words("ja")]
        for shift in (0.0, 0.02, -0.02)
    ]
    starts = (
        "plp と sgd の結果の差は、余裕幅\uff080.50 ポイント\uff09に収まっています。",
        "plp は sgd に勝りました\uff08差 2.00 ポイント\uff09。しかし sgd-lr-matched も",
        "plp の結果は sgd より劣りました。",
    )
    for text, start in zip(told, starts, strict=True):
        assert text.startswith(start)
