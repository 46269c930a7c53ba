"""A character-level GPT in the style of nanoGPT, judged by its command line, in two processes.

torchrun --standalone --nproc_per_node=2 15_nanogpt.py --learning_rate=1e-3 --seed=1337
paramcast pilot --metric test_loss --lr-range 1e-3:1e-2 --workers 1 -- \\
    torchrun --standalone --nproc_per_node=2 15_nanogpt.py --learning_rate={lr} --seed={seed}
"""

import math
import os
import pydoc_data.topics
import sys
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import paramcast

# -----------------------------------------------------------------------------
learning_rate, seed, max_iters, warmup_iters = 3e-3, 1337, 60, 5
batch_size, block_size, eval_iters = 8, 32, 8
config = {k: v for k, v in globals().items() if isinstance(v, int | float) and k[0] != "_"}
for argument in sys.argv[1:]:
    key, value = argument.removeprefix("--").split("=")
    globals()[key] = type(config[key])(value)
trial = paramcast.trial()  # neutral outside a pilot
max_iters = trial.steps(max_iters)
# -----------------------------------------------------------------------------


@dataclass
class GPTConfig:
    vocab_size: int
    n_layer: int = 1
    n_head: int = 2
    n_embd: int = 32


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(config.n_embd), nn.LayerNorm(config.n_embd)
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd)
        self.mlp = nn.Sequential(
            nn.Linear(config.n_embd, 4 * config.n_embd), nn.GELU(),
            nn.Linear(4 * config.n_embd, config.n_embd),
        )  # fmt: skip
        self.n_head = config.n_head

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (
            part.view(b, t, self.n_head, c // self.n_head).transpose(1, 2)
            for part in self.c_attn(self.ln_1(x)).split(c, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).reshape(b, t, c))
        return x + self.mlp(self.ln_2(x))


class GPT(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(block_size, config.n_embd)
        self.blocks = nn.Sequential(*(Block(config) for _ in range(config.n_layer)))
        self.ln_f = nn.LayerNorm(config.n_embd)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.lm_head.weight = self.wte.weight  # tied

    def forward(self, idx, targets):
        x = self.blocks(self.wte(idx) + self.wpe(torch.arange(idx.shape[1])))
        logits = self.lm_head(self.ln_f(x))
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1))


ddp = int(os.environ.get("RANK", -1)) != -1
if ddp:
    dist.init_process_group("gloo")
rank = dist.get_rank() if ddp else 0
torch.manual_seed(seed)  # the same model on every rank
text = "".join(pydoc_data.topics.topics.values())  # Python's own help texts
stoi = {letter: i for i, letter in enumerate(sorted(set(text)))}
data = torch.tensor([stoi[c] for c in text])
parts = {"train": data[:-90_000], "val": data[-90_000:-45_000], "test": data[-45_000:]}
model = GPT(GPTConfig(vocab_size=len(stoi)))
optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.99))
optimizer = trial.wrap(optimizer)
raw_model = model
model = DistributedDataParallel(model) if ddp else model
generator = torch.Generator().manual_seed(seed + 1000 * rank)


def get_batch(split, generator):
    part = parts[split]
    ix = torch.randint(len(part) - block_size, (batch_size,), generator=generator)
    x = torch.stack([part[i : i + block_size] for i in ix])
    y = torch.stack([part[i + 1 : i + 1 + block_size] for i in ix])
    return x, y


def get_lr(it):
    if it < warmup_iters:
        return learning_rate * (it + 1) / warmup_iters
    ratio = (it - warmup_iters) / (max_iters - warmup_iters)
    return learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * ratio)))


@torch.no_grad()
def estimate_loss(split):
    fixed = torch.Generator().manual_seed(0)
    raw_model.eval()
    losses = [raw_model(*get_batch(split, fixed)).item() for _ in range(eval_iters)]
    raw_model.train()
    return sum(losses) / len(losses)


for iter_num in range(max_iters):
    for group in optimizer.param_groups:
        group["lr"] = get_lr(iter_num)
    loss = model(*get_batch("train", generator))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if iter_num % 20 == 0:
        trial.report(iter_num, train_loss=loss)
        if rank == 0:
            print(f"iter {iter_num}: loss {loss.item():.4f}")

with trial.eval_weights(raw_model):
    validation, test = estimate_loss("val"), estimate_loss("test")
if rank == 0:
    print(f"val {validation:.4f}, test {test:.4f}")
trial.done(validation_loss=validation, test_loss=test)
if ddp:
    dist.destroy_process_group()
