"""What students read: the table of `docs/messages.md` is what the corpus gets today."""

import re

import pytest

from tests.corpus.messages import BROKEN, FUNCTIONS, PAGE, RUNS, page


def test_the_table_has_every_mistake_once():
    names = re.findall(r"^\| `([a-z-]+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert names == [*FUNCTIONS, "class-not-written-yet", *BROKEN, *RUNS]
    assert len(names) == len(set(names)) >= 45


def test_no_sentence_speaks_of_the_graders_inside():
    assert not re.findall(r"bundle|stand-?in|needs review|window", PAGE.read_text(encoding="utf-8"), re.IGNORECASE)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the libraries' own, about a tiny model
def test_the_table_is_what_the_corpus_gets():
    assert page() == PAGE.read_text(encoding="utf-8"), "python -m tests.corpus.messages writes it anew"
