"""A recurrent network for short texts, as words."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class WordLSTM(nn.Module):
    """A text's class from the mean of a bidirectional LSTM's states over its words.

    Words are numbers from 1; 0 fills up short texts at their end. The backward half reads the words
    in reverse, from the last one on, so that what fills up changes nothing in either half.

    Training leaves a word out with the probability `unread`; dropout acts on the words' embeddings
    and on the mean.
    """

    def __init__(
        self, vocabulary: int, classes: int, *, embedding: int = 128, width: int = 96,
        unread: float = 0.2, dropout: float = 0.3,
    ) -> None:  # fmt: skip
        super().__init__()
        self.unread = unread
        self.words = nn.Embedding(vocabulary, embedding, padding_idx=0)
        self.ahead = nn.LSTM(embedding, width, batch_first=True)
        self.back = nn.LSTM(embedding, width, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * width, classes)

    def forward(self, x: Tensor) -> Tensor:
        lengths = (x != 0).sum(1, keepdim=True)
        x = x[:, : max(1, int(lengths.max()))]
        there = (x != 0)[:, :, None]
        hidden = self.words(x)
        if self.training:
            hidden = hidden * (torch.rand(there.shape, device=x.device) >= self.unread)
        else:
            hidden = hidden * (1.0 - self.unread)
        hidden = self.dropout(hidden)
        places = torch.arange(x.shape[1], device=x.device)
        reverse = (lengths - 1 - places).clamp(min=0)[:, :, None].expand_as(hidden)
        states = torch.cat([self.ahead(hidden)[0], self.back(hidden.gather(1, reverse))[0]], dim=2)
        # a mean over words does not depend on their order
        mean = (states * there).sum(1) / there.sum(1).clamp(min=1)
        out: Tensor = self.head(self.dropout(mean))
        return out
