"""A small text classifier, trained by the Hugging Face Trainer from a configuration."""

import torch
import transformers
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

metric = "accuracy"
lr_range = (3e-4, 1e-2)
WORDS = 50
transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def sentences(count, seed):
    """Texts of 12 words in two classes: which half of the words is more frequent."""
    generator = torch.Generator().manual_seed(seed)
    words = torch.randint(2, WORDS, (count, 12), generator=generator)
    labels = ((words < WORDS // 2).float().mean(1) > 0.5).long()
    return [{"input_ids": w, "labels": y} for w, y in zip(words, labels, strict=True)]


def accuracy(prediction):
    return {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())}


def train(trial):
    transformers.set_seed(trial.seed)
    model = BertForSequenceClassification(
        BertConfig(
            vocab_size=WORDS, hidden_size=32, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=64, max_position_embeddings=16,
        )
    )  # fmt: skip
    steps = trial.steps(30)
    optimizer = trial.wrap(torch.optim.AdamW(model.parameters(), lr=trial.lr))
    scheduler = transformers.get_linear_schedule_with_warmup(optimizer, 5, steps)
    arguments = TrainingArguments(
        output_dir=str(trial.folder), max_steps=steps, per_device_train_batch_size=32,
        per_device_eval_batch_size=256, save_strategy="no", report_to=[], use_cpu=True,
        seed=trial.seed, data_seed=trial.seed, disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    trainer = Trainer(
        model, arguments, train_dataset=sentences(500, 1), optimizers=(optimizer, scheduler),
        compute_metrics=accuracy,
    )  # fmt: skip
    trainer.train()
    with trial.eval_weights(model):
        return {
            "validation_loss": trainer.evaluate(sentences(500, 2))["eval_loss"],
            "accuracy": trainer.evaluate(sentences(1000, 3))["eval_accuracy"],
        }
