"""Cutting padding changes neither logits nor loss nor gradients, and keeps its hands off everything else."""

import inspect
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import DistilBertConfig, DistilBertForSequenceClassification

from grader.inside.distilbert import cut_padding

WIDTH, LENGTHS = 96, (7, 20, 13)


class Lengths:
    """Notes how many columns reach the embeddings."""

    def __init__(self, model: Any) -> None:
        self.seen: list[int] = []
        model.distilbert.embeddings.register_forward_hook(lambda _, __, output: self.seen.append(output.shape[1]))


@pytest.fixture(autouse=True)
def patched(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    # The attribute is set to what it is, so that monkeypatch puts it back after install() has changed it.
    monkeypatch.setattr(DistilBertForSequenceClassification, "forward", DistilBertForSequenceClassification.forward)
    cut_padding()
    yield


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    config = DistilBertConfig(
        vocab_size=50, dim=24, n_layers=6, n_heads=4, hidden_dim=32, num_labels=2, dropout=0.0, attention_dropout=0.0
    )
    return DistilBertForSequenceClassification(config).eval()


def batch(**more: Any) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    mask = (torch.arange(WIDTH) < torch.tensor(LENGTHS)[:, None]).long()
    ids = torch.randint(5, 50, mask.shape, generator=generator) * mask
    return {"input_ids": ids, "attention_mask": mask, **more}


def uncut(model: Any, **inputs: Any) -> Any:
    return DistilBertForSequenceClassification.forward.__wrapped__(model, **inputs)


def test_logits_and_loss_are_the_same_and_the_padding_is_gone(model: Any) -> None:
    lengths = Lengths(model)
    inputs = batch(labels=torch.tensor([0, 1, 1]))
    with torch.no_grad():
        cut, whole = model(**inputs), uncut(model, **inputs)
    assert lengths.seen == [max(LENGTHS), WIDTH]
    torch.testing.assert_close(cut.logits, whole.logits, rtol=0, atol=1e-6)
    torch.testing.assert_close(cut.loss, whole.loss, rtol=0, atol=1e-6)


def test_gradients_are_the_same(model: Any) -> None:
    model.train()
    model.dropout.p = 0.0
    inputs = batch(labels=torch.tensor([0, 1, 1]))
    gradients = []
    for forward in (model.forward, lambda **given: uncut(model, **given)):
        model.zero_grad()
        forward(**inputs).loss.backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-6, msg=name)
    assert any(gradient.abs().max() > 1e-4 for gradient in gradients[0].values())


@pytest.mark.parametrize(
    "more",
    [
        {"output_hidden_states": True},
        {"output_attentions": True},
        {"position_ids": torch.arange(WIDTH).expand(3, WIDTH).contiguous()},
    ],
    ids=lambda more: next(iter(more)),
)
def test_what_has_the_full_length_is_left_alone(model: Any, more: dict[str, Any]) -> None:
    model.config._attn_implementation = "eager"
    lengths = Lengths(model)
    output = model(**batch(**more))
    assert lengths.seen == [WIDTH]
    if "output_hidden_states" in more:
        assert {state.shape[1] for state in output.hidden_states} == {WIDTH}


def test_a_configuration_that_asks_for_hidden_states_is_obeyed(model: Any) -> None:
    model.config.output_hidden_states = True
    assert model(**batch()).hidden_states[0].shape[1] == WIDTH


def test_rows_without_any_attention_keep_their_padding(model: Any) -> None:
    inputs = batch()
    inputs["attention_mask"][1] = 0
    lengths = Lengths(model)
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, uncut(model, **inputs).logits)
    assert lengths.seen == [WIDTH, WIDTH]


def test_only_the_right_end_is_cut(model: Any) -> None:
    inputs = batch()
    inputs["attention_mask"] = inputs["attention_mask"].flip(1)
    lengths = Lengths(model)
    model(**inputs)
    inputs["attention_mask"][:, -30:] = 0
    inputs["attention_mask"][:, 40] = 1
    model(**inputs)
    assert lengths.seen == [WIDTH, 41]


def test_without_a_mask_the_padding_is_attended_to_and_stays(model: Any) -> None:
    lengths = Lengths(model)
    model(batch()["input_ids"])
    assert lengths.seen == [WIDTH]


def test_positional_arguments_and_embeddings_work_as_before(model: Any) -> None:
    inputs = batch()
    labels = torch.tensor([0, 1, 1])
    lengths = Lengths(model)
    with torch.no_grad():
        named = model(**inputs, labels=labels).loss
        placed = model(inputs["input_ids"], inputs["attention_mask"], None, labels).loss
        embedded = model(inputs_embeds=torch.zeros(3, WIDTH, 24), attention_mask=inputs["attention_mask"])
    assert torch.equal(named, placed)
    assert embedded.logits.shape == (3, 2)
    assert lengths.seen[:2] == [max(LENGTHS)] * 2
    as_tuple = model(**inputs, labels=labels, return_dict=False)
    assert torch.equal(as_tuple[0], named)


def test_the_signature_stays() -> None:
    assert list(inspect.signature(DistilBertForSequenceClassification.forward).parameters)[:5] == [
        "self",
        "input_ids",
        "attention_mask",
        "inputs_embeds",
        "labels",
    ]
