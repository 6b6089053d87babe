"""Building: the same bytes twice, an exact rescaling, and no half-written bundle."""

import json
from pathlib import Path

import pytest
import torch
from transformers import DistilBertConfig, DistilBertForMaskedLM

from grader.bundles.bundle import Bundle, hash_files
from grader.bundles.process import run_module
from grader.errors import InfrastructureError, UsageError
from tools.standin.build import build, literal_sizes
from tools.standin.recipe import Recipe
from tools.standin.rescale import rescale

SHORT = Recipe(steps=6, reviews=600)


@pytest.mark.slow
def test_the_same_seed_builds_the_same_bytes(tmp_path: Path, standin: Bundle) -> None:
    shares: list[float] = []
    first = build(tmp_path / "first", 3, lambda what, share: shares.append(share), SHORT)
    second = build(tmp_path / "second", 3, recipe=SHORT)
    other = build(tmp_path / "other", 4, recipe=SHORT)
    assert (first.path / "bundle.json").read_bytes() == (second.path / "bundle.json").read_bytes()
    assert hash_files(first.path) == hash_files(second.path)
    assert other.manifest["files"]["model/model.safetensors"] != first.manifest["files"]["model/model.safetensors"]
    assert other.manifest["files"]["train.csv"] != first.manifest["files"]["train.csv"]
    first.verify()
    # Thresholds belong to the model they were calibrated on, so this one has none.
    assert first.calibrations == {}
    assert shares[-1] == 1.0
    assert {path.name for path in tmp_path.iterdir()} == {"first", "second", "other"}
    assert first.sizes == standin.sizes


def test_a_folder_with_something_in_it_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "precious.txt").touch()
    with pytest.raises(UsageError, match="not an empty folder"):
        build(tmp_path, recipe=SHORT)


def test_the_shipped_bundle_was_built_by_this_recipe(standin: Bundle) -> None:
    assert Recipe(**standin.manifest["build"]["recipe"]) == Recipe()


def test_rescaling_changes_no_bit_of_the_output() -> None:
    torch.manual_seed(0)
    recipe = Recipe(dim=24, hidden=40, inner_gain=4, last_gain=16, value_gain=8, query_gain=2)
    config = DistilBertConfig(
        vocab_size=60, dim=24, n_layers=6, n_heads=4, hidden_dim=40, max_position_embeddings=32, initializer_range=0.3
    )
    model = DistilBertForMaskedLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
        inputs = torch.randint(5, 60, (4, 20))
        before = model(inputs).logits
        weights = rescale(model.state_dict(), recipe)
        changed = [name for name, tensor in weights.items() if not torch.equal(tensor, model.state_dict()[name])]
        model.load_state_dict(weights)
        after = model(inputs).logits
    assert len(changed) > 80
    torch.testing.assert_close(after, before, rtol=1e-6, atol=1e-6)


def test_only_powers_of_two_are_exact() -> None:
    with pytest.raises(ValueError, match="power of two"):
        rescale({}, Recipe(inner_gain=3.0))


def test_literal_sizes_are_those_of_a_counted_model(standin: Bundle) -> None:
    config = json.loads((standin.model_dir / "config.json").read_text())
    assert literal_sizes(config) == dict(standin.sizes)
    with torch.device("meta"):
        body = DistilBertForMaskedLM(DistilBertConfig(**config)).distilbert
    assert standin.sizes[66362880] == sum(parameter.numel() for parameter in body.parameters())
    qv = [body.transformer.layer[0].attention.q_lin, body.transformer.layer[0].attention.v_lin]
    assert standin.sizes[7087104] == 6 * sum(p.numel() for layer in qv for p in layer.parameters())
    assert literal_sizes({**config, "dim": 768, "hidden_dim": 3072, "vocab_size": 30522}) == {}


def test_a_process_that_fails_says_what_it_said() -> None:
    with pytest.raises(InfrastructureError, match="the following arguments are required"):
        list(run_module("tools.standin.pretrain", []))
