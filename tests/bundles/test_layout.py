"""The prepared home serves the real names, offline, from any folder, also after it was copied."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from grader.bundles.bundle import Bundle, load_bundle
from grader.bundles.hf_cache import prepare_home
from grader.errors import BundleError

USE = """
import json
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer, DistilBertTokenizerFast
import evaluate
seen = []
for name in ("distilbert-base-uncased", "distilbert/distilbert-base-uncased"):
    model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=2, revision="main")
    AutoModelForMaskedLM.from_pretrained(name)
    tokenizer = AutoTokenizer.from_pretrained(name)
    ids = DistilBertTokenizerFast.from_pretrained(name)("The acting was great.")["input_ids"]
    assert ids == tokenizer("The acting was great.")["input_ids"] and tokenizer.unk_token_id not in ids
    seen.append([sum(p.numel() for p in model.parameters()), tokenizer.model_max_length])
accuracy = evaluate.load("accuracy").compute(predictions=[1, 0, 1, 1], references=[1, 1, 1, 1])
print("seen:" + json.dumps([seen, accuracy]))
"""


def use(home: Path, folder: Path) -> list[object]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))},
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run([sys.executable, "-c", USE], cwd=folder, env=environment, capture_output=True, text=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith("seen:")]
    assert lines, done.stderr
    return json.loads(lines[0].removeprefix("seen:"))


@pytest.mark.slow
def test_models_tokenizers_and_metric_load_by_their_real_names(standin: Bundle, tmp_path: Path) -> None:
    prepare_home(standin, tmp_path / "built")
    home = shutil.copytree(tmp_path / "built", tmp_path / "copied", symlinks=True)
    # What was built is gone: a path into it would show.
    shutil.rmtree(tmp_path / "built")
    (tmp_path / "elsewhere").mkdir()
    counts, accuracy = use(home, tmp_path / "elsewhere")
    assert counts == [[standin.sizes[66955010], 512]] * 2
    assert accuracy == {"accuracy": 0.75}


def test_a_home_is_small_has_no_absolute_path_and_can_be_written_again(standin: Bundle, tmp_path: Path) -> None:
    home = tmp_path / "home"
    prepare_home(standin, home)
    prepare_home(standin, home)
    assert sum(file.lstat().st_size for file in home.rglob("*") if not file.is_dir()) < 2_000_000
    for file in home.rglob("*"):
        assert not file.is_symlink() or not file.readlink().is_absolute()
        assert file.exists()
        assert not file.is_file() or str(tmp_path).encode() not in file.read_bytes()
    followed = shutil.copytree(home, tmp_path / "followed")
    weights = list(followed.rglob("model.safetensors"))
    assert len(weights) == 2
    assert {file.read_bytes() for file in weights} == {(standin.model_dir / "model.safetensors").read_bytes()}


def test_a_bundle_without_a_metric_gets_the_graders_own(handwritten: Path, tmp_path: Path) -> None:
    prepare_home(load_bundle(handwritten), tmp_path / "home")
    assert len(list((tmp_path / "home").rglob("evaluate-metric--accuracy/*/accuracy.py"))) == 1


def test_a_place_that_cannot_be_written_is_named(standin: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match="could not be written"):
        prepare_home(standin, tmp_path / "file")
