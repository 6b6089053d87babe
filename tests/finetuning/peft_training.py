"""Trains as `grader.bundles.training` does, with the library `peft` in the place of the course's LoRA class."""

from __future__ import annotations

from typing import Any

import peft
from transformers import AutoModelForSequenceClassification

from grader.bundles import training


class Workbench(training.Workbench):
    """Knows the method `peft` only."""

    def model(self, method: str) -> Any:
        assert method == "peft"
        model = AutoModelForSequenceClassification.from_pretrained(training.NAME, num_labels=2)
        head, adapted = ["pre_classifier", "classifier"], ["q_lin", "v_lin"]
        return peft.get_peft_model(
            model, peft.LoraConfig(r=12, lora_alpha=24, target_modules=adapted, modules_to_save=head)
        )


if __name__ == "__main__":
    training.Workbench = Workbench
    training.main()
