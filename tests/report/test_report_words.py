"""The catalogue: the same keys in both languages, and every stored sentence said in Japanese."""

from __future__ import annotations

import re
import string
from itertools import product
from typing import Any

import pytest

from paramcast.errors import StudyError
from paramcast.report.html.words import LANGUAGES, Words, catalogue
from paramcast.study.judging.verdict import Arm, Metric, judge_quality, judge_speed

ENGLISH = re.compile(r"[a-z]{3,}[,:]? [a-z]{2,} [a-z]{2,}")
JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
ACCURACY = Metric("accuracy", True, 0.005, 0.0005)
LOSS = Metric("mse", False, 0.05)
SAME_IN_BOTH = {"paramcast", "torch", "Python", "GPU", "p", "n"}


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
    weak = arm("random-jump", 0.0, "control", advice="any jump of this size helps, so it is noise:"
               " try a smaller batch or more regularisation")  # fmt: skip
    strong = arm("sgd-lr-matched", 0.02, "control",
                 advice="raise the learning rate of sgd to 0.058")  # fmt: skip
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
                        c.early_diverged[:n], c.of, c.advice) for c in controls]  # fmt: skip
            found.append(judge_quality(cut, p, same, metric, 0.95))
        for p, early in product(predictors[:4], (0.0, -0.02, 0.002)):
            noise = 0.02 if early == 0.002 else 0.0001
            early_base = arm("sgd", 0.0, "base", noise=0, early=early)
            other = arm("sgd", 0.0, "base", noise=noise, early=early)
            early_base = Arm(*{**vars(early_base), "early": other.early}.values())
            found.append(judge_speed(early_base, p, [], metric, 0.95))
        close = [
            arm(name, 0.0, role, noise=0, early=sign * early * metric.margin)
            for name, role, early in (("sgd", "base", -1.1), ("plp", "predictor", -0.9))
        ]
        found.append(judge_speed(*close, [], metric, 0.95))
        level = [
            arm(name, 0.0, role, noise=0, early=sign * early * metric.margin, advice="raise the "
                "learning rate of sgd to 0.058")
            for name, role, early in (("sgd", "base", -4), ("plp", "predictor", 0),
                                      ("sgd-lr-matched", "control", 0))
        ]  # fmt: skip
        found.append(judge_speed(*level[:2], level[2:], metric, 0.95))
        found.append(judge_speed(bad, arm("plp", 0.0), [], metric, 0.95))
    assert {v.kind for v in found} == {
        "adopt", "use the control instead", "no difference", "harmful", "inconclusive", "faster",
        "not faster",
    }  # fmt: skip
    return found


MORE = [
    "Any jump of this size helps, so it is noise: try a smaller batch or more regularisation.",
    "The differences spread by 0.40 points (sd); to tell 0.50 points apart takes more than these "
    "12 seeds.",
    "More seeds will not settle it, half a test example is worth more than the margin: add test "
    "examples, or widen --margin.",
    "Lower the learning rate of sgd to 0.01.",
    "Tune the learning rate more finely (0.1125 does as well).",
    "A backward jump helps: average the weights or decay the learning rate.",
    "Average the weights for evaluation (ema(decay=0.99)) instead.",
    "Use nesterov instead.",
    "The intervals cover other seeds and other random splits of these data.",
    "The intervals cover other seeds, not other data.",
    "The best learning rate of sgd, plp is the lowest tried; a better one may lie below: "
    "--lr-range 0.0003 0.3.",
    "The best learning rate of plp is the highest tried; a better one may lie above: --lr-range "
    "0.003 3.",
    "One of the 50 test examples is worth 2.00 points, so a margin of 0.50 points can never be "
    "met and 'no difference' never shown: add test examples, or widen --margin.",
    "One of the 6 test examples is worth 16.7 %, so a margin of 5 % can never be met and 'no "
    "difference' never shown: use --splits 12, add test examples, or widen --margin.",
    "A constant answer is right on 99.50 % of the test examples, so accuracy says little: judge by "
    "--metric balanced_accuracy or --metric auroc.",
    "More splits will not settle it, because they share examples: more data, or a wider --margin.",
    "More seeds will not settle it, one test example never decides: more test examples.",
    "Inconclusive: plp against sgd is +2.00 points (plus = better; 95% interval +1.00 to +3.00, n "
    "= 8), no more than one test example.",
    "An interval of differences is never narrower than half a test example each way, 1.11 points; "
    "some here would be.",
    "Inconclusive: sgd (99.00 %) is no better than a constant (99.50 %): nothing can be judged.",
    "Inconclusive: sgd (1.02) is no better than a constant (1.01): nothing can be judged.",
    "First let sgd learn: more --epochs, another --lr-range, other features, or another --metric.",
    "final training loss 24.1 is more than 10 times that at the start or the constant "
    "predictor's, 2.303",
    "loss not finite at step 12",
    "at its best (everything tuned)",
    "as I train today",
    "Keep sgd. Extend this pilot to 16 seeds (about 40 s) with the command below.",
    "Keep sgd. Extend this pilot to 16 seeds (about 40 s) with the command below; even that may "
    "not be enough, a wider --margin needs fewer.",
    "Keep sgd. Both extensions are used: widen --margin, or accept not knowing.",
    "the control random-jump of plp is missing in pilot.json; without it a gain cannot be told "
    "from one that is free: run the pilot again",
    "the store of out lacks 2 of the runs behind plp in pilot.json; run the pilot's command again",
]


def test_every_stored_sentence_is_said_in_japanese_and_no_pattern_is_unused() -> None:
    words, english = Words("ja"), Words("en")
    sentences = [text for v in verdicts() for text in (v.sentence, v.next)] + MORE
    for sentence in sentences:
        said = words.said(sentence)
        bare = re.sub(r"--[a-z-]+|sgd-lr-matched|random-jump|plp|sgd|mse|paramcast roi", "", said)
        assert JAPANESE.search(said), sentence
        assert not re.search(r"[A-Za-z]{3,} [A-Za-z]{2,}", bare), said
        assert sorted(re.findall(r"\d+\.\d+", said)) == sorted(re.findall(r"\d+\.\d+", sentence))
        assert english.said(sentence) == sentence
    texts = set(sentences) | _parts(words, sentences)
    first = {next((k for k, p in words._patterns if p.fullmatch(text)), "") for text in texts}
    assert {key for key, _ in words._patterns} - first == set()


def _parts(words: Words, sentences: list[str]) -> set[str]:
    """What the patterns find inside the sentences, and inside that."""
    found: set[str] = set()
    left = list(sentences)
    while left:
        text = left.pop()
        for _, pattern in words._patterns:
            match = pattern.fullmatch(text)
            if match:
                new = set(match.groupdict().values()) - found
                found |= new
                left += new
                break
    return found


def test_a_users_own_words_stay_as_they_are() -> None:
    assert Words("ja").said("My own note about seeds.") == "My own note about seeds."
