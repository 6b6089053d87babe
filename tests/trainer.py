"""Trainings as students write them, with the library's own Trainer: what the calibration's loop is compared with."""

import csv
from pathlib import Path
from typing import Any

import datasets
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments, set_seed

from grader.bundles.bundle import Bundle
from grader.bundles.grid import Setting
from grader.bundles.training import draw_a


class LoRA(torch.nn.Module):
    def __init__(self, base: Any, setting: Setting) -> None:
        super().__init__()
        self.base, self.scaling = base, setting.alpha / setting.rank
        self.A = torch.nn.Parameter(draw_a(base.in_features, setting))
        self.B = torch.nn.Parameter(torch.zeros(setting.rank, base.out_features))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.base(inputs) + self.scaling * (inputs @ self.A @ self.B)
        return output


def fresh(bundle: Bundle, setting: Setting, seed: int) -> Any:
    """The model before training; only a setting's own kind of adapters is put in."""
    set_seed(seed)
    model = AutoModelForSequenceClassification.from_pretrained(str(bundle.model_dir), num_labels=2)
    if setting.method != "full":
        model.distilbert.requires_grad_(False)
    if setting.method == "lora":
        for block in model.distilbert.transformer.layer:
            for name in ("q_lin", "v_lin"):
                setattr(block.attention, name, LoRA(getattr(block.attention, name), setting))
    return model


def train(model: Any, bundle: Bundle, setting: Setting, seed: int, folder: Path) -> None:
    """Train it on the bundle's first reviews."""
    tokenizer = AutoTokenizer.from_pretrained(str(bundle.model_dir))
    with bundle.train_csv.open(encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))[: setting.reviews or None]
    data = datasets.Dataset.from_list([{**tokenizer(row["review"]), "label": int(row["label"])} for row in rows])
    arguments = TrainingArguments(
        output_dir=str(folder), seed=seed, learning_rate=setting.lr, num_train_epochs=setting.epochs,
        per_device_train_batch_size=setting.batch, weight_decay=setting.weight_decay, warmup_steps=setting.warmup,
        lr_scheduler_type=setting.schedule, report_to=[], save_strategy="no", disable_tqdm=True, use_cpu=True,
        optim={"adamw": "adamw_torch_fused", "sgd": "sgd", "adafactor": "adafactor"}[setting.optimizer],
        optim_args="momentum=0.9" if setting.optimizer == "sgd" else None,
    )  # fmt: skip
    Trainer(model=model, args=arguments, train_dataset=data, processing_class=tokenizer).train()
