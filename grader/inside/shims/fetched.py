"""What notebooks fetch from the network by a name: data of nltk, and metrics of `evaluate` beside those of the bundle.

Runs in the box. nltk's own simpler means and scikit-learn's list of stop words take the place of its data: texts come out cleaned a
little differently than at home, which is recorded. Metrics are the same, by scikit-learn; a name that none has stays an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grader.inside.hooks import Record, replacing, rescuing, when_imported

__all__ = ["install"]

_DATA = "data-on-the-network"
_SERVED = {
    "f1": "f1_score",
    "precision": "precision_score",
    "recall": "recall_score",
    "matthews_correlation": "matthews_corrcoef",
    "confusion_matrix": "confusion_matrix",
    "glue": "accuracy_score",  # of its tasks, that of two sentiments
}


def install(record: Record, _config: Mapping[str, Any]) -> None:
    """Let `nltk.download` succeed, and sentences, stop words and lemmas do without data; serve metrics where they cannot be loaded."""
    when_imported("nltk.downloader", _patch_download, record)
    when_imported("nltk.tokenize", _patch_sentences, record)
    when_imported("nltk.stem.wordnet", _patch_lemmas, record)
    when_imported("nltk.corpus.util", _patch_corpora, record)
    when_imported("evaluate.loading", _patch_metrics, record)
    when_imported("evaluate", _patch_metrics, record)


def _patch_download(module: Any, record: Record) -> None:
    @replacing(module.Downloader, "download")
    def download(_real: Any, _self: Any, info_or_id: Any = None, *_args: Any, **_kwargs: Any) -> bool:
        record("network", f"nltk.download({info_or_id!r})", "", "no-network")
        return True

    module.download = module._downloader.download


def _patch_sentences(module: Any, record: Record) -> None:
    @rescuing(module, "_get_punkt_tokenizer", LookupError)
    def tokenizer(*_args: Any) -> Any:
        record("stand-in", "nltk's punkt", "sentences by their marks alone", _DATA)
        return module.PunktSentenceTokenizer()


def _patch_lemmas(module: Any, record: Record) -> None:
    @rescuing(module.WordNetLemmatizer, "lemmatize", LookupError)
    def lemmatize(_self: Any, word: str, *_args: Any, **_kwargs: Any) -> Any:
        record("stand-in", "nltk's wordnet", "words as they are", _DATA)
        return word


def _patch_corpora(module: Any, record: Record) -> None:
    @rescuing(module.LazyCorpusLoader, "_LazyCorpusLoader__load", LookupError)
    def load(self: Any) -> None:
        if self._LazyCorpusLoader__name != "stopwords":
            raise  # the error, while it is being handled
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        record("stand-in", "nltk's stopwords", "scikit-learn's", _DATA)
        vars(self).update(words=lambda *_languages: sorted(ENGLISH_STOP_WORDS), fileids=lambda: ["english"])


def _patch_metrics(module: Any, record: Record) -> None:
    @rescuing(module, "load", OSError, ImportError)  # not here, and no network
    def load(path: Any, *_args: Any, **kwargs: Any) -> Any:
        name = str(path).rpartition("/")[2]
        if name not in _SERVED:
            raise  # the error, while it is being handled
        record("metric", f"evaluate.load({path!r})", "the same by scikit-learn", "by-scikit-learn")
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
