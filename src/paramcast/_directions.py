"""Which results are better when they are higher, by their names."""

from __future__ import annotations

import re

LOWER = re.compile(r"loss|error|perplexity|ppl|nll|(^|_)(mse|rmse|mae|wer|cer|fid|bpc|bpb)($|_)")
# Names whose direction is well known; for any other the user states it.
HIGHER = re.compile(
    r"accuracy|reward|return|score|bleu|rouge|dice|"
    r"(^|_)(acc|auc|auroc|f1|r2|map|iou|psnr|ssim|precision|recall)($|_)"
)


def known_direction(name: str) -> bool | None:
    """Whether a higher value is better, by the name alone; None if it does not tell.

    >>> known_direction("validation_loss"), known_direction("test_acc"), known_direction("speed")
    (False, True, None)
    """
    if LOWER.search(name.lower()):
        return False
    return True if HIGHER.search(name.lower()) else None
