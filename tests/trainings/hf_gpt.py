"""A small GPT from a configuration, on characters, trained by the Hugging Face Trainer."""

import pydoc_data.topics

import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments

metric = "perplexity"
lr_range = (3e-4, 3e-2)
CONTEXT = 32
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
TEXT = "".join(pydoc_data.topics.topics.values())  # Python's own help texts
LETTERS = {letter: i for i, letter in enumerate(sorted(set(TEXT)))}


def windows(first, last):
    letters = torch.tensor([LETTERS[c] for c in TEXT[first:last]])
    return [{"input_ids": w, "labels": w} for w in letters.unfold(0, CONTEXT, CONTEXT)]


def train(trial):
    transformers.set_seed(trial.seed)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(LETTERS), n_positions=CONTEXT, n_embd=32, n_layer=1, n_head=2,
            bos_token_id=0, eos_token_id=0,
        )
    )  # fmt: skip
    steps = trial.steps(30)
    optimizer = trial.wrap(torch.optim.AdamW(model.parameters(), lr=trial.lr))
    arguments = TrainingArguments(
        output_dir=str(trial.folder), max_steps=steps, per_device_train_batch_size=16,
        per_device_eval_batch_size=64, save_strategy="no", report_to=[], use_cpu=True,
        seed=trial.seed, data_seed=trial.seed, disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, 5, steps)
    trainer = Trainer(
        model, arguments, train_dataset=windows(0, 40_000), optimizers=(optimizer, schedule)
    )
    trainer.train()
    with trial.eval_weights(model):
        loss = trainer.evaluate(windows(60_000, 65_000))["eval_loss"]
        test = trainer.evaluate(windows(70_000, 80_000))["eval_loss"]
    return {"validation_loss": loss, "perplexity": float(torch.tensor(test).exp())}
