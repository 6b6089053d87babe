"""Comparing fine-tuning methods: the rubric of DAT450's assignment on DistilBERT. 16 criteria, 100 points.

The order of the imports is the order of the rubric: a criterion may only build on earlier ones.
"""

from __future__ import annotations

from grader.assignments.finetuning import counting, full, head, layers, lora_layer, lora_model  # noqa: F401
from grader.assignments.finetuning.rubric import ASSIGNMENT

__all__ = ["ASSIGNMENT"]
