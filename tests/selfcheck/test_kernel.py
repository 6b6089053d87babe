"""A self-check in a running kernel: what it leaves as it was, and what it says of odd things."""

from __future__ import annotations

import pytest

from grader.assignments import load_assignment
from tests.selfcheck.steps import LORA

pytestmark = pytest.mark.slow

RIGHT = (
    """
import os, random, sys
import numpy as np, torch
from torch import nn
from transformers import DistilBertForSequenceClassification, set_seed

def count_trainable_parameters(model):
    print("counting", random.random(), np.random.rand(), torch.rand(1))
    return sum(p.numel() for p in model.parameters() if p.requires_grad)

"""
    + LORA
    + """
def trained(steps, prepare):
    torch.manual_seed(1)
    model = DistilBertForSequenceClassification.from_pretrained("distilbert-base-uncased", num_labels=2)
    prepare(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for step in range(steps):
        ids = torch.randint(5, 400, (4, 12))
        loss = model(input_ids=ids, attention_mask=torch.ones_like(ids), labels=torch.tensor([0, 1, 0, 1])).loss
        loss.backward()
        optimizer.step()
        if step + 1 < steps:
            optimizer.zero_grad()
    return model
"""
)
STATE = """
def state():
    tensors, parameters = [*kept.parameters(), *kept.buffers()], list(kept.parameters())
    return repr([
        random.getstate(), np.random.get_state(), torch.get_rng_state().tolist(), torch.get_default_dtype(), warnings.filters,
        torch.is_grad_enabled(), os.getcwd(), sorted(os.environ.items()), sorted(os.listdir()), sys.getrecursionlimit(),
        id(sys.stdout), id(sys.stderr), [id(t) for t in tensors], [t.double().sum().item() for t in tensors],
        [(p.requires_grad, p.grad is not None and p.grad.sum().item()) for p in parameters], [m.training for m in kept.modules()],
    ])
"""


@pytest.fixture(scope="module")
def kernel(run):
    run("from grader import check")
    run(RIGHT)
    return run


def test_nothing_in_the_kernel_is_changed(kernel) -> None:
    kernel(
        "import gc, warnings\nkept = trained(3, lambda model: model.distilbert.requires_grad_(False))\nkept.distilbert.eval()"
    )
    kernel(
        STATE
        + "torch.set_default_dtype(torch.float64)\ntorch.set_grad_enabled(False)\nos.makedirs('deep', exist_ok=True); os.chdir('deep')"
    )
    shown = kernel(
        "before = state()\ncheck(LoRA); check(count_trainable_parameters); check('head', kept); check()\nassert state() == before"
    )
    assert "counting" not in shown
    assert "3 of 3 right, 20 of 20 points" in shown
    kernel("os.chdir('..')\ntorch.set_default_dtype(torch.float32)\ntorch.set_grad_enabled(True)")


def test_models_are_not_kept_alive(kernel) -> None:
    kernel("import weakref\nmodel = trained(2, lambda model: None)\nalive = weakref.ref(model)\ncheck('full', model)")
    assert kernel("del model\nimport gc; gc.collect(); print(alive())") == "None\n"


def test_a_card_is_shown_once_for_each_call(kernel) -> None:
    assert kernel("check(LoRA)").count("points") == 1
    assert kernel("check(LoRA)\nprint('more')").count("points") == 1
    assert kernel("for _ in range(3): check(LoRA)").count("points") == 3
    assert kernel("card = check(LoRA)\ncard").count("points") == 1
    assert kernel("card").count("points") == 1
    assert kernel("print(card.passed, repr(card))") == "True <`LoRA`: 4 of 4 right, 16 of 16 points>\n"


def test_the_magic_and_its_lines_after_trainings(kernel) -> None:
    kernel("%load_ext grader")
    assert "LoRA`: 4 of 4 right" in kernel("%check LoRA")
    said = kernel("seen = trained(4, lambda model: model.distilbert.requires_grad_(False))")
    assert "Seen: head only, 4 steps" in said
    assert "0 of 139,584 numbers of the body are trainable; 2,450 in all" in " ".join(said.split())
    assert "There is no `nobody`" in kernel("%check head nobody")
    assert "passed" not in kernel("%check head seen").partition("\n")[0]
    assert "Comparing fine-tuning methods" in kernel("%check")
    assert "%%check" not in kernel("%check layers")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        ("check('nothing')", "`nothing` is no part of the assignment"),
        ("check('count', LoRA)", "`count` is no training; the trainings are full, head, lora"),
        ("check(LoRA, count_trainable_parameters)", "One thing at a time"),
        ("check('head', 7)", "A int is no model and no Trainer"),
        ("check(len)", "`len` is none of `count_trainable_parameters`"),
        ("check('head', nn.Linear(2, 2))", "It has no DistilBERT body"),
        ("check('full', kept, data='nowhere.csv')", "nowhere.csv"),
        ("check('full', kept, data=[{'x': 1}])", "has no columns `review` and `label`, but x"),
        ("check(LoRA, settings='nowhere.toml')", "nowhere.toml cannot be read"),
    ],
)
def test_what_cannot_be_checked_is_said(kernel, call, says) -> None:
    kernel("kept = trained(1, lambda model: None) if 'kept' not in globals() else kept")
    shown = kernel(call)
    assert shown.startswith("This could not be checked")
    assert says in " ".join(shown.split())


def test_other_names_are_found_by_what_they_do(kernel) -> None:
    shown = kernel(
        "def how_many(m):\n    return sum(p.numel() for p in m.parameters() if p.requires_grad)\ncheck(how_many)"
    )
    assert "3 of 3 right" in shown
    assert "`how_many` was taken for `count_trainable_parameters`" in shown


def test_a_model_before_its_training_has_passed_nothing(kernel) -> None:
    shown = " ".join(
        kernel("fresh = trained(0, lambda model: model.distilbert.requires_grad_(False))\ncheck('head', fresh)").split()
    )
    assert "This would count as head only" in shown
    assert "No training of this model was seen" in shown
    assert "✓" not in shown and "✗" not in shown
    shown = " ".join(kernel("fresh = trained(0, lambda model: None)\ncheck('head', fresh)").split())
    assert "✗ Only the head is trainable" in shown


def test_reviews_come_from_where_they_are(kernel, place) -> None:
    kernel("kept = trained(2, lambda model: model.distilbert.requires_grad_(False))")
    rows = "[{'text': 'a fine film', 'labels': torch.tensor(1)}, {'text': 'a dull film', 'labels': 0.0}]"
    assert "on 2 reviews of the evaluation set" in kernel(f"check('head', kept, data={rows})")
    kernel("import pandas as pd, types")
    assert "on 20 reviews of the evaluation set" in kernel("check('head', kept, data=pd.read_csv('eval.csv').head(20))")
    assert "labels that are neither 0 nor 1" in kernel("check('head', kept, data=[{'text': 'a', 'label': None}])")
    (place / "eval.csv").rename(place / "aside")
    try:
        kernel(f"trainer = types.SimpleNamespace(model=kept, eval_dataset={rows})")
        assert "on 2 reviews of the evaluation set" in kernel("check('head', trainer)")
        kernel("trainer.eval_dataset = [{'input_ids': [1, 2], 'label': 1}]")
        kernel(
            "trainer.state = types.SimpleNamespace(global_step=2, log_history=[{'eval_accuracy': 0.7712}, {'loss': 1}])"
        )
        shown = " ".join(kernel("check('head', trainer)").split())
        assert "Not measured: " in shown
        assert "Your Trainer noted the accuracy 0.771; 0.78 is asked, which is 0.009 more." in shown
    finally:
        (place / "aside").rename(place / "eval.csv")


def test_without_the_pretrained_model_nothing_has_passed(kernel) -> None:
    kernel(
        "import grader.selfcheck.trained as inside\nreal, inside.checkpoint_of = inside.checkpoint_of, lambda model: None"
    )
    shown = " ".join(kernel("check('head', kept)\ninside.checkpoint_of = real").split())
    assert "This counts as head only" in shown and "is not in the cache of this machine" in shown
    assert "✓" not in shown and "✗" not in shown


def test_hostile_objects_are_the_students(kernel) -> None:
    kernel("class Odd:\n    __name__ = 'LoRA'\n    def __call__(self, *a): raise SystemExit\ncheck(Odd())")
    shown = kernel(
        "def count_trainable_parameters(model): raise ValueError('no\\x1b[2J <b>')\ncheck(count_trainable_parameters)"
    )
    assert "it raised ValueError: no" in " ".join(shown.split())
    kernel(RIGHT)


def test_settings_beside_the_notebook_count(kernel, place) -> None:
    (place / "grader.toml").write_text(
        '[points]\n"lora/forward" = 9\n[accuracy]\nhead = 0.5\n[show]\nlora = "titles"\n"lora/gradients" = "nothing"\n'
    )
    try:
        shown = " ".join(kernel("check(LoRA)").split())
        assert "4 of 4 right, 19 of 19 points" in shown
        assert "Right for square" not in shown
        assert "A further criterion." in shown and "get gradients" not in shown
        assert "0.50 is asked" in kernel(
            "check('head', trained(3, lambda model: model.distilbert.requires_grad_(False)))"
        )
    finally:
        (place / "grader.toml").unlink()


def test_settings_of_another_assignment_are_told(kernel, place) -> None:
    (place / "other.toml").write_text('[points]\n"add/sum" = 9\n', encoding="utf-8")
    shown = " ".join(kernel("check(LoRA, settings='other.toml')").split())
    assert "could not be checked" in shown and "[points] has add/sum; there are" in shown


def test_interrupts_reach_the_notebook(kernel) -> None:
    kernel("def stops(model): raise KeyboardInterrupt\nstops.__name__ = 'count_params'")
    with pytest.raises(AssertionError, match="KeyboardInterrupt"):
        kernel("check(stops)")


def test_every_criterion_stands_on_the_last_card(kernel) -> None:
    shown = kernel("check()")
    assert all(f"({name}," in shown.replace("\n    ", " ") for name in load_assignment().checks)


def test_a_course_decides_what_is_shown(kernel, place) -> None:
    """Also beside the criteria: names that were found, what a training was, its accuracy."""
    text = '[show]\nhead = "nothing"\n"lora/forward" = "nothing"\n"lora/rank-scaling" = "titles"\n"lora/identity" = "titles"\n'
    (place / "hidden.toml").write_text(text, encoding="utf-8")
    kernel(
        "class Wrap(LoRA):\n    def __init__(self, pretrained, rank=12, alpha=24):\n        super().__init__(pretrained, rank, rank)"
    )
    shown = kernel("check(Wrap, settings='hidden.toml')")
    assert "✗ The rank is the inner size" in shown and "A further criterion. (lora/further-1" in shown
    assert not [word for word in ("is scaled by", "Try:", "lora/forward", "W x + b") if word in shown]
    assert "is scaled by" in kernel("check(Wrap)"), "without these settings it is"
    kernel("kept = trained(3, lambda model: None)")
    shown = kernel("check('head', kept, settings='hidden.toml')")
    assert "A further criterion. (head/further-1, 0 of 10)" in shown
    assert not [
        word for word in ("frozen", "trainable", "ccuracy 0", "head/frozen", "`pre_classifier`") if word in shown
    ]
    assert "trainable" in kernel("check('head', kept)")
    (place / "hidden.toml").unlink()
