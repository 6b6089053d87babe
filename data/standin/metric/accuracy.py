"""The metric behind `evaluate.load("accuracy")`, for machines without a network; shaped like the public one.

`evaluate` reads the imports line by line: one per line.
"""

import datasets
import evaluate
import numpy


class Accuracy(evaluate.Metric):
    """Share of predictions that equal their reference."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Share of predictions that equal their reference.",
            citation="",
            inputs_description="predictions and references: lists of labels of equal length",
            features=datasets.Features({"predictions": datasets.Value("int32"), "references": datasets.Value("int32")}),
        )

    def _compute(
        self,
        predictions: list[int],
        references: list[int],
        normalize: bool = True,
        sample_weight: list[float] | None = None,
    ) -> dict[str, float]:
        right = (numpy.asarray(predictions) == numpy.asarray(references)).astype(float)
        if not normalize:
            return {"accuracy": float(right.sum() if sample_weight is None else numpy.dot(right, sample_weight))}
        return {"accuracy": float(numpy.average(right, weights=sample_weight))}
