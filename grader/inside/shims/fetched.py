"""What notebooks fetch from the network by a name: data of nltk, and metrics of `evaluate` beside those of the bundle.

Runs in the box. nltk's own simpler means and scikit-learn's list of stop words take the place of its data: texts come out cleaned a
little differently than at home, which is recorded. Metrics are the same, by scikit-learn; a name that none has stays an error.
"""

from __future__ import annotations

import sys
from typing import Any

from grader.inside.shims.adapting import adapts, answering, note, rescues

_DATA = "data-on-the-network"
_SERVED = {
    "f1": "f1_score",
    "precision": "precision_score",
    "recall": "recall_score",
    "matthews_correlation": "matthews_corrcoef",
    "confusion_matrix": "confusion_matrix",
    "glue": "accuracy_score",  # of its tasks, that of two sentiments
}


@adapts("nltk.downloader")
def _download(module: Any) -> None:
    download = answering("network", "nltk.download({!r})", "", "no-network", answer=True)
    module.Downloader.download = lambda _self, *given, **named: download(*given, **named)
    module.download = module._downloader.download


@rescues("nltk.tokenize", "_get_punkt_tokenizer", LookupError)
def _tokenizer(*_args: Any) -> Any:
    note("stand-in", "nltk's punkt", "sentences by their marks alone", _DATA)
    return sys.modules["nltk.tokenize"].PunktSentenceTokenizer()


@rescues("nltk.stem.wordnet", "WordNetLemmatizer.lemmatize", LookupError)
def _lemmatize(_self: Any, word: str, *_args: Any, **_kwargs: Any) -> Any:
    note("stand-in", "nltk's wordnet", "words as they are", _DATA)
    return word


@rescues("nltk.corpus.util", "LazyCorpusLoader._LazyCorpusLoader__load", LookupError)
def _load_corpus(self: Any) -> None:
    if self._LazyCorpusLoader__name != "stopwords":
        raise  # the error, while it is being handled
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    note("stand-in", "nltk's stopwords", "scikit-learn's", _DATA)
    vars(self).update(words=lambda *_languages: sorted(ENGLISH_STOP_WORDS), fileids=lambda: ["english"])


@rescues("evaluate", "load", OSError, ImportError)  # not here, and no network
@rescues("evaluate.loading", "load", OSError, ImportError)
def _load_metric(path: Any, *_args: Any, **kwargs: Any) -> Any:
    name = str(path).rpartition("/")[2]
    if name not in _SERVED:
        raise  # the error, while it is being handled
    note("metric", f"evaluate.load({path!r})", "the same by scikit-learn", "by-scikit-learn")
    return _metric(name, kwargs.get("experiment_id"))


def _metric(name: str, experiment: str | None) -> Any:
    """Make the metric `name`; an `evaluate.Metric`, so that batches are added and metrics combined as ever."""
    import datasets
    import evaluate
    import sklearn.metrics

    class Served(evaluate.Metric):
        def _info(self) -> Any:
            number = datasets.Value("int32")
            features = datasets.Features({"predictions": number, "references": number})
            return evaluate.MetricInfo(description=name, citation="", inputs_description="", features=features)

        def _compute(self, predictions: Any, references: Any, **options: Any) -> dict[str, Any]:
            value = getattr(sklearn.metrics, _SERVED[name])(references, predictions, **options)
            return {"accuracy" if name == "glue" else name: value if getattr(value, "size", 1) > 1 else float(value)}

    Served.__name__ = name
    return Served(experiment_id=experiment) if experiment else Served()
