"""Data that nltk would fetch from the network: its own simpler means, and scikit-learn's list of stop words, take its place.

Runs in the box. Texts come out cleaned a little differently than at home; that a stand-in took part is recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from grader.inside.hooks import Record, replacing, rescuing, when_imported

__all__ = ["install"]

_DATA = "data-on-the-network"


def install(record: Record, _config: Mapping[str, Any]) -> None:
    """Let `nltk.download` succeed, and sentences, stop words and lemmas do without data."""
    when_imported("nltk.downloader", _patch_download, record)
    when_imported("nltk.tokenize", _patch_sentences, record)
    when_imported("nltk.stem.wordnet", _patch_lemmas, record)
    when_imported("nltk.corpus.util", _patch_corpora, record)


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
