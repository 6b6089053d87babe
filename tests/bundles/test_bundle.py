"""Opening, verifying and reading bundles: the shipped one, damaged ones, and one written by hand."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from grader.bundles.bundle import Bundle, hash_files, load_bundle
from grader.bundles.thresholds import Calibration
from grader.errors import BundleError


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_shipped_bundle_is_whole_and_small(standin: Bundle) -> None:
    standin.verify()
    assert sum(file.stat().st_size for file in standin.path.rglob("*") if file.is_file()) < 1_500_000
    assert set(standin.calibrations) == {"full", "head", "lora"}


def test_the_shipped_reviews_have_the_columns_of_the_course(standin: Bundle) -> None:
    for path, count in ((standin.train_csv, 2000), (standin.eval_csv, 500)):
        table = rows(path)
        assert list(table[0]) == ["index", "review", "label"]
        assert [row["index"] for row in table] == [str(index) for index in range(count)]
        assert sum(row["label"] == "1" for row in table) == count // 2


def test_sizes_of_the_real_model_map_to_those_of_this_one(standin: Bundle) -> None:
    config = json.loads((standin.model_dir / "config.json").read_text())
    assert standin.sizes[768] == config["dim"]
    assert standin.sizes[3072] == config["hidden_dim"]
    assert standin.sizes[66955010] == standin.sizes[66362880] + standin.sizes[592130]
    assert standin.sizes[592130] == standin.sizes[590592] + standin.sizes[1538]
    assert (config["n_layers"], config["max_position_embeddings"]) == (6, 512)


def test_heldout_reviews_are_many_balanced_unseen_and_drawn_from_the_secret(standin: Bundle) -> None:
    heldout = standin.heldout(b"one")
    assert len(heldout.texts) == len(set(heldout.texts)) == len(heldout.labels) >= 2500
    assert sum(heldout.labels) * 2 == len(heldout.labels)
    seen = {row["review"] for path in (standin.train_csv, standin.eval_csv) for row in rows(path)}
    assert seen.isdisjoint(heldout.texts)
    assert standin.heldout(b"one") == heldout
    assert standin.heldout(b"two") != heldout


def change(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\n")


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda folder: change(folder / "model" / "vocab.txt"), "model/vocab.txt has changed"),
        (lambda folder: change(folder / "thresholds.json"), "thresholds.json has changed"),
        (lambda folder: (folder / "metric" / "accuracy.py").unlink(), "metric/accuracy.py is missing"),
        (lambda folder: (folder / "model" / "more.bin").touch(), "model/more.bin is not in the manifest"),
    ],
)
def test_damage_is_named(copy: Path, damage: Callable[[Path], None], problem: str) -> None:
    damage(copy)
    with pytest.raises(BundleError, match=problem):
        load_bundle(copy).verify()


def test_the_digest_names_the_content_not_the_place(standin: Bundle, copy: Path) -> None:
    assert load_bundle(copy).digest == standin.digest
    manifest = json.loads((copy / "bundle.json").read_text())
    manifest["files"]["thresholds.json"] = "0" * 64
    (copy / "bundle.json").write_text(json.dumps(manifest))
    assert load_bundle(copy).digest != standin.digest


def test_a_bundle_by_hand_needs_little(handwritten: Path, standin: Bundle) -> None:
    bundle = load_bundle(handwritten)
    bundle.verify()
    assert (bundle.name, bundle.sizes, bundle.metric) == ("mine", {}, standin.metric)
    assert bundle.model_names == ("distilbert-base-uncased", "distilbert/distilbert-base-uncased")
    assert bundle.calibrations == {}
    assert bundle.heldout(b"not used").texts == ("Lovely, really.", "Dull.")
    assert bundle.heldout(b"not used").labels == (1, 0)
    before = bundle.digest
    change(handwritten / "train.csv")
    assert load_bundle(handwritten).digest != before


def test_thresholds_by_hand(handwritten: Path) -> None:
    more = {
        "accuracy": 0.7,
        "correlation": 0.55,
        "seed_std": 0.01,
        "correlation_std": 0.04,
        "max_lr": 1e-3,
        "min_steps": 50,
    }
    content = {"methods": {"full": {"accuracy": 0.8}, "head": {**more, "right": {"runs": 365}}}}
    (handwritten / "thresholds.json").write_text(json.dumps(content))
    bundle = load_bundle(handwritten)
    assert bundle.calibrations == {"full": Calibration(0.8), "head": Calibration(**more)}


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("bundle.json", None, "not a bundle"),
        ("bundle.json", "{", "cannot be read"),
        ("bundle.json", "[]", "must hold a JSON object"),
        ("bundle.json", '{"format": 2}', '"format": 1, not 2'),
        ("bundle.json", '{"format": 1, "heldout": {"source": "web"}}', "not 'web'"),
        ("bundle.json", '{"format": 1, "heldout": {"source": "generator", "count": 7}}', "even number"),
        ("heldout.csv", None, "no held-out reviews"),
        ("model/config.json", None, "model/config.json is missing"),
        ("train.csv", None, "train.csv is missing"),
        ("bundle.json", '{"format": 1, "linear_range": -0.1}', "from 0 to 0.5, not -0.1"),
        ("bundle.json", '{"format": 1, "linear_range": 0.6}', "from 0 to 0.5, not 0.6"),
        ("bundle.json", '{"format": 1, "linear_range": "0.1"}', "from 0 to 0.5, not '0.1'"),
        ("bundle.json", '{"format": 1, "linear_range": true}', "from 0 to 0.5, not True"),
        ("thresholds.json", '{"methods": []}', 'needs a number "accuracy"'),
        ("thresholds.json", "{}", 'needs a number "accuracy"'),
        ("thresholds.json", '{"methods": {"full": {}}}', 'needs a number "accuracy"'),
        ("thresholds.json", '{"methods": {"full": {"accuracy": "high"}}}', 'needs a number "accuracy"'),
    ],
)
def test_what_is_no_bundle_is_refused_with_a_reason(
    handwritten: Path, name: str, content: str | None, problem: str
) -> None:
    if content is None:
        (handwritten / name).unlink()
    else:
        (handwritten / name).write_text(content)
    with pytest.raises(BundleError, match=problem):
        load_bundle(handwritten)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"review,label\nGood,2\n", "line 2"),
        (b"text,label\nGood,1\n", "line 2"),
        (b"review,label\n", "holds no reviews"),
        (b"review,label\n\xff\xfe,1\n", "cannot be read"),
    ],
)
def test_damaged_heldout_reviews_are_refused(handwritten: Path, content: bytes, problem: str) -> None:
    (handwritten / "heldout.csv").write_bytes(content)
    with pytest.raises(BundleError, match=problem):
        load_bundle(handwritten).heldout(b"")


def test_the_manifest_lists_every_file(standin: Bundle) -> None:
    assert hash_files(standin.path) == standin.manifest["files"]


def test_opening_a_bundle_imports_neither_torch_nor_numpy() -> None:
    code = "import sys; from grader.bundles.bundle import load_bundle as of; of().heldout(b''); print({'torch', 'numpy'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_small_models_new_layers_are_drawn_narrow(standin: Bundle, handwritten: Path) -> None:
    assert standin.head_gain == pytest.approx((48 / 768) ** 0.5 * 0.1)
    config = handwritten / "model" / "config.json"
    config.write_text('{"dim": 768}')  # as the real one: its initializer_range is the library's
    assert load_bundle(handwritten).head_gain == 1.0
