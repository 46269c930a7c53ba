"""PLP under the Hugging Face Trainer: a small GPT-2 from scratch, nothing downloaded."""

import tempfile

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)

import paramcast
from paramcast.averaging import EMA
from paramcast.integrations.transformers import ForecastCallback
from paramcast.predictors import Midline

torch.set_num_threads(1)  # the network is small
torch.manual_seed(0)
text = (paramcast.Forecast.__doc__ + paramcast.PLP.__doc__).encode("ascii", "replace")
lines = torch.tensor(list(text[: len(text) // 32 * 32])).view(-1, 32)
data = [{"input_ids": line, "labels": line} for line in lines]

model = GPT2LMHeadModel(
    GPT2Config(
        vocab_size=128,
        n_positions=32,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
    )
)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
optimizer = paramcast.Forecast(optimizer, Midline(), average=EMA(half_life=10))
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=60)

with tempfile.TemporaryDirectory() as folder:
    trainer = Trainer(
        model,
        TrainingArguments(
            output_dir=folder,
            max_steps=60,
            per_device_train_batch_size=16,
            eval_strategy="steps",
            eval_steps=20,
            logging_steps=20,
            save_strategy="no",
            use_cpu=True,
            dataloader_pin_memory=False,
            report_to=[],
            disable_tqdm=True,
        ),
        train_dataset=data[:-16],
        eval_dataset=data[-16:],
        optimizers=(optimizer, scheduler),
        callbacks=[ForecastCallback()],
    )
    trainer.remove_callback(PrinterCallback)  # the log is printed below
    trainer.train()

for row in trainer.state.log_history:
    if "loss" in row:
        print(f"step {row['step']}: loss {row['loss']:.3f}", end=", ")
        print(f"jump {row['forecast/jump_norm']:.3f}", end=", ")
    elif "eval_loss" in row:
        print(f"loss of the averaged weights on other text {row['eval_loss']:.3f}")
