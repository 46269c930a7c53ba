"""What the names of results tell: which are better when higher, and which are in per cent."""

from __future__ import annotations

import re

LOWER = re.compile(
    r"loss|error|perplexity|ppl|nll|brier|regret|"
    r"(^|_)(err|mse|rmse|mae|mape|wer|cer|fid|bpc|bpb)($|_)"
)
# Names whose direction is well known; for any other the user states it.
HIGHER = re.compile(
    r"accuracy|reward|return|score|bleu|rouge|dice|"
    r"(^|_)(acc|top_?[15]|auc|auroc|auprc|ap|f1|r2|map|m?iou|psnr|ssim|precision|recall)($|_)"
)
SHARES = {
    "balanced_accuracy": ("balanced_accuracy", "balanced_acc"),
    "accuracy": ("accuracy", "acc"),
    "f1": ("f1",),
    "auroc": ("auroc", "auc"),
    "average_precision": ("average_precision", "auprc"),
}
"""The metrics between 0 and 1 that are shown in per cent, and how they are called."""


def known_direction(name: str) -> bool | None:
    """Whether a higher value is better, by the name alone; None if it does not tell.

    >>> known_direction("validation_loss"), known_direction("test_acc"), known_direction("speed")
    (False, True, None)
    """
    words = in_words(name)
    if LOWER.search(words):
        return False
    return True if HIGHER.search(words) else None


def share_named(name: str) -> str | None:
    """The metric in per cent that a name means: one of `SHARES`, or a rank other than the first.

    >>> share_named("val_acc"), share_named("top5_accuracy"), share_named("accuracy_error")
    ('accuracy', 'top5_accuracy', None)
    """
    plain = in_words(name)
    words = f"_{plain}_"
    found = next((m for m, own in SHARES.items() if any(f"_{o}_" in words for o in own)), None)
    if found is None or re.search("_(error|err|loss)_", words):
        return None
    return plain if re.search("_(top_?[2-9]|top_?10)_", words) else found


def in_words(name: str) -> str:
    """A name in lower case, its words joined by _: eval_f1 for "eval/F1"."""
    return re.sub("[^a-z0-9]+", "_", name.lower()).strip("_")
