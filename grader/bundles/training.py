"""Trains the stand-in as a student would, and its broken variants, and prints what came out. Trusted; imports torch.

Runs as its own process, with `HF_HOME` prepared, so the real names are loaded: `python -m grader.bundles.training BUNDLE JOB`. JOB
is a JSON object: `secret` (what the held-out reviews are drawn from), `trainings` (objects of the fields of
`grader.bundles.calibration.Training`) and `draws` (how many cheap models that learnt nothing).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments, set_seed

from grader.bundles.bundle import Bundle, load_bundle
from grader.inside import padding

NAME = "distilbert-base-uncased"


class LoRA(nn.Module):
    """Low-rank adaptation of a frozen linear layer, with A ~ N(0, 1) as the course has it, or the usual uniform A."""

    def __init__(self, base: nn.Linear, rank: int = 12, alpha: float = 24, initial: str = "normal") -> None:
        super().__init__()
        self.base = base
        first = torch.randn(base.in_features, rank)
        if initial == "uniform":
            first = (torch.rand(base.in_features, rank) * 2 - 1) / base.in_features**0.5
        self.A = nn.Parameter(first)
        self.B = nn.Parameter(torch.zeros(rank, base.out_features))
        self.scaling = alpha / rank

    def forward(self, inputs: Tensor) -> Tensor:
        """Adds the scaled low-rank product to the base layer's output."""
        output: Tensor = self.base(inputs) + self.scaling * (inputs @ self.A @ self.B)
        return output


class Workbench:
    """The data in tokens, and one method after the other."""

    def __init__(self, bundle: Bundle, secret: bytes) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(NAME)
        files = {"train": str(bundle.train_csv), "eval": str(bundle.eval_csv)}
        data = datasets.load_dataset("csv", data_files=files)
        self.data = data.map(lambda rows: self.tokenizer(rows["review"], padding=True, truncation=True), batched=True)
        self.heldout = bundle.heldout(secret)
        self.labels = np.array(self.heldout.labels)

    def run(self, training: dict[str, Any]) -> dict[str, Any]:
        """Trains once; adds held-out accuracy, mean cross-entropy, the eval accuracy a student sees, CPU seconds."""
        method, seed = training["method"], training["seed"]
        set_seed(seed)
        began = time.process_time()
        model = self.model(method)
        train = self.data["train"]
        if method == "shuffled":
            labels = np.random.default_rng(seed).permutation(train["label"]).tolist()
            train = train.remove_columns("label").add_column("label", labels)
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                output_dir=folder,
                eval_strategy="epoch",
                save_strategy="no",
                logging_steps=5,
                report_to=[],
                disable_tqdm=True,
                seed=seed,
                learning_rate=training["lr"],
                num_train_epochs=training["epochs"],
                per_device_train_batch_size=training["batch"],
            )
            trainer = Trainer(
                model=model,
                args=arguments,
                train_dataset=train,
                eval_dataset=self.data["eval"],
                compute_metrics=lambda seen: {
                    "accuracy": float((seen.predictions.argmax(-1) == seen.label_ids).mean())
                },
            )
            # The loss that is logged every five steps is for students; here it would drown the results.
            trainer.remove_callback(transformers.PrinterCallback)
            trainer.train()
        seconds = time.process_time() - began
        accuracy, loss = measure(self.logits(model), self.labels)
        seen = [entry["eval_accuracy"] for entry in trainer.state.log_history if "eval_accuracy" in entry]
        result = {**training, "accuracy": round(accuracy, 4), "loss": round(loss, 4)}
        return {**result, "eval_accuracy": round(seen[-1], 4), "cpu_seconds": round(seconds, 1)}

    def model(self, method: str) -> Any:
        """The model as a student sets it up for `full`, `head` or `lora`, or a broken variant."""
        model = AutoModelForSequenceClassification.from_pretrained(NAME, num_labels=2)
        if method == "not-pretrained":
            return type(model)(model.config)
        if method.startswith(("head", "lora")):
            model.distilbert.requires_grad_(False)
        if method.startswith("lora"):
            initial = "uniform" if method == "lora-uniform" else "normal"
            for block in model.distilbert.transformer.layer:
                for name in ("q_lin", "v_lin"):
                    setattr(block.attention, name, LoRA(getattr(block.attention, name), initial=initial))
        return model

    def tokens(self, texts: Sequence[str]) -> Iterator[Any]:
        """The texts in batches of a hundred, each padded to its own longest."""
        for first in range(0, len(texts), 100):
            batch = list(texts[first : first + 100])
            yield self.tokenizer(batch, padding=True, truncation=True, return_tensors="pt")

    def logits(self, model: Any) -> NDArray[np.float32]:
        """Logits (reviews, 2) of the held-out reviews."""
        model.eval()
        with torch.inference_mode():
            return np.concatenate([model(**batch).logits.numpy() for batch in self.tokens(self.heldout.texts)])

    def cheap_draws(self, count: int) -> Iterator[dict[str, Any]]:
        """Draws `count` models that learnt nothing real: untrained (so nothing trainable), and heads on shuffled labels.

        The body is the same in all of them, so its features are computed once.
        """
        model, train = self.model("head").eval(), self.data["train"]
        with torch.inference_mode():
            features, heldout = (
                torch.cat([model.distilbert(**batch).last_hidden_state[:, 0] for batch in self.tokens(texts)])
                for texts in (train["review"], self.heldout.texts)
            )
        features = features.clone()  # of an inference tensor nothing can be learnt
        labels = torch.tensor(train["label"])
        for seed in range(count):
            for method in ("untrained", "head-shuffled"):
                set_seed(seed)
                head = nn.Sequential(nn.Linear(model.config.dim, model.config.dim), nn.ReLU(), nn.Dropout(0.2))
                head.append(nn.Linear(model.config.dim, 2))
                for layer in (head[0], head[3]):
                    nn.init.normal_(layer.weight, std=model.config.initializer_range)
                    nn.init.zeros_(layer.bias)
                if method == "head-shuffled":
                    _train_head(head, features, labels[torch.randperm(len(labels))])
                head.eval()
                with torch.inference_mode():
                    accuracy, loss = measure(head(heldout).numpy(), self.labels)
                yield {"method": method, "seed": seed, "accuracy": round(accuracy, 4), "loss": round(loss, 4)}


def measure(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Accuracy and mean cross-entropy (nats) of logits (n, 2) against labels (n,)."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    log_probabilities = wide - np.log(np.exp(wide).sum(axis=1, keepdims=True))
    right = logits.argmax(axis=1) == labels
    return float(right.mean()), float(-log_probabilities[np.arange(len(labels)), labels].mean())


def _train_head(head: nn.Sequential, features: Tensor, labels: Tensor) -> None:
    """Three epochs as the Trainer's defaults have them: AdamW, 5e-5 falling to 0, batches of 8."""
    optimizer = torch.optim.AdamW(head.parameters(), 5e-5, weight_decay=0.0, fused=True)
    steps = 3 * (len(labels) // 8)
    for step in range(steps):
        if step % (steps // 3) == 0:
            order = torch.randperm(len(labels)).reshape(-1, 8)
        rows = order[step % (steps // 3)]
        optimizer.param_groups[0]["lr"] = 5e-5 * (1 - step / steps)
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(features[rows]), labels[rows]).backward()
        optimizer.step()


def main() -> None:
    """Prints one JSON object per model."""
    bundle, job = Path(sys.argv[1]), json.loads(sys.argv[2])
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    padding.install()
    bench = Workbench(load_bundle(bundle), job["secret"].encode())
    for training in job["trainings"]:
        print(json.dumps(bench.run(training)), flush=True)
    for result in bench.cheap_draws(job["draws"]) if job["draws"] else ():
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
