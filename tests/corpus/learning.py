"""Cases in which one of the trainings learns something, or fails to: its minimum accuracy decides."""

from tests.corpus.runs import FREEZE, FRESH, WRAP
from tests.corpus.training import STEPS, training

SETUP = (
    STEPS["setup"]
    + """
TEXTS = [f"the {noun} was {word}" for word in ("good", "great", "bad", "poor") for noun in ("film", "plot")]
TOKENS = AutoTokenizer.from_pretrained(MODEL)(TEXTS, return_tensors="pt")["input_ids"]
GOOD = torch.tensor([1, 1, 1, 1, 0, 0, 0, 0])
def learn(model, labels=GOOD, steps=40, lr=5e-3):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=lr)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(input_ids=TOKENS, labels=labels).loss.backward()
        optimizer.step()
"""
)
MODEL = {"full": FRESH, "head": FRESH + FREEZE, "lora": FRESH + FREEZE + WRAP}
LEARN = {"full": "learn(model, {}steps=30, lr=2e-3)", "head": "learn(model, {}lr=1e-2)", "lora": "learn(model, {})"}

for method, fresh in MODEL.items():
    right, swapped = (fresh + LEARN[method].format(labels) for labels in ("", "1 - GOOD, "))
    for name, source, loses in (
        ("right", right, ""),
        ("second-try", f"{swapped}\n{right}", ""),
        ("swapped", swapped, f"{method}/accuracy"),
        ("by-noun", fresh + LEARN[method].format("torch.tensor([0, 1] * 4), "), f"{method}/accuracy"),
        ("shortly", fresh + "learn(model, steps=25, lr=1e-5)", ""),
        ("shortly-swapped", fresh + "learn(model, 1 - GOOD, steps=25, lr=1e-5)", f"{method}/accuracy"),
        (
            "diverged",
            fresh
            + "learn(model, steps=25, lr=9e-3)\nwith torch.no_grad():\n    model.classifier.weight.mul_(float('nan'))",
            f"{method}/accuracy",
        ),
        (
            "diverged-everywhere",
            fresh
            + "learn(model, steps=25, lr=9e-3)\nwith torch.no_grad():\n    for p in model.parameters():\n        p.mul_(float('nan') if p.requires_grad else 1)",
            f"{method}/accuracy",
        ),
        ("hardly-trained", fresh + "learn(model, steps=4, lr=1e-6)", f"{method}/accuracy"),
    ):
        training(f"learns-{method}-{name}", setup=SETUP, learns=method, loses=loses, **{method: source})
