"""The stand-in's WordPiece vocabulary: listed, not trained, so that it is the same every time. Trusted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
UNKNOWN = SPECIAL[1]
PAD, MASK, FIRST_WORD = 0, 4, 5
_COMMON = (
    "movie film watch watched actor actress director character characters scene scenes time people think see ever never good"
    " not no nothing i you he she we they this that these those there here is are was were be been have has had do does did"
    " will would can could should if when what who how why because very much many more most some any all only just even also"
    " than then now about from with without into out up down over under after before again one two three"
)


def build_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """Builds an uncased WordPiece tokenizer that knows every word of `texts`, common words and every ASCII character."""
    tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    characters = {chr(code) for code in range(33, 127) if not chr(code).isupper()}
    words = set(_COMMON.split()) | characters | {f"##{character}" for character in characters}
    for text in texts:
        words.update(word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(text.lower()))
    vocabulary = {word: index for index, word in enumerate((*SPECIAL, *sorted(words - set(SPECIAL))))}
    tokenizer.model = models.WordPiece(vocab=vocabulary, unk_token=UNKNOWN, max_input_chars_per_word=100)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return tokenizer


def write_tokenizer(tokenizer: Tokenizer, folder: Path, longest: int) -> None:
    """Writes tokenizer.json, tokenizer_config.json and vocab.txt, the files of the real checkpoint."""
    tokenizer.save(str(folder / "tokenizer.json"))
    words = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", encoding="utf-8")
    settings = {
        "do_lower_case": True,
        "model_max_length": longest,
        "tokenizer_class": "DistilBertTokenizer",
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
