"""A pilot on the Hugging Face Trainer: paramcast pilot 20_transformers_pilot.py:train --quick

A small GPT-2 from scratch on Python's own help texts; nothing is downloaded.
"""

import pydoc_data.topics

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

import paramcast

metric = "test_loss"  # judged
tune_by = "validation_loss"  # chooses the learning rates
lr_range = (1e-3, 3e-2)

text = "".join(pydoc_data.topics.topics.values()).encode("ascii", "replace")
lines = torch.tensor(list(text[: 32 * 2400])).view(-1, 32)
lines = lines[torch.randperm(len(lines), generator=torch.Generator().manual_seed(0))]
data = [{"input_ids": line, "labels": line} for line in lines]


def train(trial):
    torch.manual_seed(trial.seed)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=128,
            n_positions=32,
            n_embd=32,
            n_layer=1,
            n_head=2,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    steps = trial.steps(80)
    optimizer = trial.wrap(torch.optim.AdamW(model.parameters(), lr=trial.lr))
    trainer = Trainer(
        model,
        TrainingArguments(
            str(trial.folder),
            seed=trial.seed,
            max_steps=steps,
            per_device_train_batch_size=8,
            per_device_eval_batch_size=200,
            lr_scheduler_type="cosine",
            save_strategy="no",
            logging_strategy="no",
            use_cpu=True,
            dataloader_pin_memory=False,
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=data[:2000],
        optimizers=(optimizer, None),  # None: the Trainer makes its own scheduler around it
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    with trial.eval_weights(model):
        validation, test = (trainer.evaluate(part) for part in (data[2000:2200], data[2200:]))
    return {"validation_loss": validation["eval_loss"], "test_loss": test["eval_loss"]}


if __name__ == "__main__":
    print(train(paramcast.Trial(lr=1e-2)))  # outside a pilot: nothing of ours happens
