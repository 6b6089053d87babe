"""Trainings with one mistake that shows in several places: it costs the criterion it belongs to, once."""

from tests.corpus.learning import LEARN, MODEL, SETUP
from tests.corpus.runs import FREEZE, FRESH, TRAIN, WRAP
from tests.corpus.training import training

# ---- wrong: what a wrapped layer holds beside its one A and its one B
HEAD = """class LoRA(nn.Module):
    def __init__(self, pretrained, rank=12, alpha=24):
        super().__init__()
        self.pretrained = pretrained
        self.in_features, self.out_features = i, o = pretrained.in_features, pretrained.out_features
        {freeze}
        self.A = nn.Parameter(torch.randn(rank, i) / rank)
        self.B = nn.Parameter(torch.zeros(o, rank))
        self.c = alpha / rank
"""
FROZEN, OPEN = "pretrained.requires_grad_(False)", "pass"
CALL = "    def forward(self, x):\n        return self.pretrained(x) + {}\n"
USUAL = CALL.format("self.c * (x @ self.A.T @ self.B.T)")
AGAIN = WRAP + WRAP
for name, freeze in {"frozen-inside": FROZEN, "open-inside": OPEN}.items():
    training(
        f"lora-twice-{name}",
        def_lora=HEAD.format(freeze=freeze) + USUAL,
        lora=FRESH + FREEZE + AGAIN + TRAIN,
        loses="lora/model",
    )
training(
    "lora-twice-after-a-training",
    def_lora=HEAD.format(freeze=FROZEN) + USUAL,
    lora=FRESH
    + FREEZE
    + WRAP
    + "for rank in (4, 8):\n    train(model)\n    "
    + WRAP.replace("4, 8", "rank, 8")
    + TRAIN,
    loses="lora/model",
)
training(
    "lora-twice-in-a-wrapper",
    def_lora="""class Factors(nn.Module):
    def __init__(self, i, o, rank, alpha):
        super().__init__()
        self.down, self.up = nn.Linear(i, rank, bias=False), nn.Linear(rank, o, bias=False)
        nn.init.zeros_(self.up.weight)
        self.c = alpha / rank
    def forward(self, x):
        return self.c * self.up(self.down(x))
class LoRA(nn.Module):
    def __init__(self, linear, rank=12, alpha=24):
        super().__init__()
        self.linear = linear
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.lora = Factors(linear.in_features, linear.out_features, rank, alpha)
    def forward(self, x):
        return self.linear(x) + self.lora(x)
""",
    lora=FRESH + FREEZE + AGAIN + TRAIN,
    loses="lora/model",
)
for name, (more, delta) in {
    "matrix-between": ("self.M = nn.Parameter(torch.eye(rank))", "self.c * (x @ self.A.T @ self.M @ self.B.T)"),
    "linear-between": (
        "self.mid = nn.Linear(rank, rank, bias=False)\n        nn.init.eye_(self.mid.weight)",
        "self.c * (self.mid(x @ self.A.T) @ self.B.T)",
    ),
    "trained-scaling": ("self.c = nn.Parameter(torch.tensor(alpha / rank))", "self.c * (x @ self.A.T @ self.B.T)"),
    "trained-scaling-of-one": ("self.s = nn.Parameter(torch.ones(1))", "self.s * self.c * (x @ self.A.T @ self.B.T)"),
    "trained-scaling-per-rank": ("self.s = nn.Parameter(torch.ones(rank))", "self.c * ((x @ self.A.T * self.s) @ self.B.T)"),
    "trained-scaling-per-output": ("self.s = nn.Parameter(torch.ones(o))", "self.c * self.s * (x @ self.A.T @ self.B.T)"),
    "second-pair": (
        "self.A2, self.B2 = nn.Parameter(torch.randn(rank, i)), nn.Parameter(torch.zeros(o, rank))",
        "self.c * (x @ self.A.T @ self.B.T) + 0 * (x @ self.A2.T @ self.B2.T)",
    ),
}.items():  # fmt: skip
    training(
        f"lora-{name}",
        def_lora=HEAD.format(freeze=FROZEN) + f"        {more}\n" + CALL.format(delta),
        loses="lora/model",
    )
# ---- right: biases that start at zero, frozen scalings, masks and copies that nobody trains
for name, (more, delta) in {
    "bias-of-b": ("self.b = nn.Parameter(torch.zeros(o))", "self.c * (x @ self.A.T @ self.B.T + self.b)"),
    "biases-of-both": (
        "self.a, self.b = nn.Parameter(torch.zeros(rank)), nn.Parameter(torch.zeros(o))",
        "self.c * ((x @ self.A.T + self.a) @ self.B.T + self.b)",
    ),
    "frozen-scaling": (
        "self.c = nn.Parameter(torch.tensor(alpha / rank), requires_grad=False)",
        "self.c * (x @ self.A.T @ self.B.T)",
    ),
    "buffer-mask": (
        "self.register_buffer('mask', torch.ones(rank))",
        "self.c * ((x @ self.A.T * self.mask) @ self.B.T)",
    ),
    "start-remembered": (
        "self.register_buffer('A0', self.A.detach().clone())\n        self.register_buffer('B0', self.B.detach().clone())",
        "self.c * (x @ self.A.T @ self.B.T)",
    ),
}.items():
    training(f"lora-{name}", def_lora=HEAD.format(freeze=FROZEN) + f"        {more}\n" + CALL.format(delta))

# ---- wrong: too few or too many layers are wrapped, or trained, and the accuracy follows
FOUND = "def extract_qv_layers(model):\n    return {{n: m for n, m in model.named_modules() if n.endswith({})}}\n"
for name, ends in {
    "few": "'q_lin'",
    "few-of-the-last-block": "('layer.5.attention.q_lin', 'layer.5.attention.v_lin')",
    "many": "('q_lin', 'k_lin', 'v_lin', 'out_lin')",
    "all": "('q_lin', 'k_lin', 'v_lin', 'out_lin', 'lin1', 'lin2')",
}.items():
    training(
        f"learns-lora-extracts-{name}",
        setup=SETUP,
        learns="lora",
        def_extract=FOUND.format(ends),
        lora=MODEL["lora"] + LEARN["lora"].format(""),
        loses="layers/extract lora/model",
    )
FEW = WRAP.replace("items()}", "items() if '.5.' in n}")
training(
    "learns-lora-wraps-few",
    setup=SETUP,
    learns="lora",
    lora=FRESH + FREEZE + FEW + LEARN["lora"].format(""),
    loses="lora/model",
)
training(
    "learns-lora-head-frozen",
    setup=SETUP,
    learns="lora",
    lora=FRESH + "model.requires_grad_(False)\n" + WRAP + LEARN["lora"].format(""),
    loses="lora/model",
)
for layer, label in {"pre_classifier": "", "classifier": ""}.items():
    training(
        f"learns-head-without-{layer}".replace("_", "-"),
        setup=SETUP,
        learns="head",
        head=FRESH + FREEZE + f"model.{layer}.requires_grad_(False)\n" + LEARN["head"].format(label),
        loses="head/trained",
    )
    training(
        f"learns-head-without-{layer}-swapped".replace("_", "-"),
        setup=SETUP,
        learns="head",
        head=FRESH + FREEZE + f"model.{layer}.requires_grad_(False)\n" + LEARN["head"].format("1 - GOOD, "),
        loses="head/trained head/accuracy",
    )
training(
    "learns-full-embeddings-frozen",
    setup=SETUP,
    learns="full",
    full=FRESH + "model.distilbert.embeddings.requires_grad_(False)\n" + LEARN["full"].format(""),
    loses="full/trained",
)
training(
    "learns-full-only-the-classifier",
    setup=SETUP,
    learns="full",
    full=FRESH
    + "opt = torch.optim.AdamW(model.classifier.parameters(), lr=1e-2)\nfor _ in range(30):\n    opt.zero_grad()\n    model(input_ids=TOKENS, labels=GOOD).loss.backward()\n    opt.step()\n",
    loses="full/trained",
)
training(
    "learns-full-rate-zero",
    setup=SETUP,
    learns="full",
    full=FRESH + LEARN["full"].format("").replace("lr=2e-3", "lr=0.0"),
    loses="full/trained full/accuracy",
)

# ---- wrong: what the LoRA model is built with has lost pretrained layers, so that nothing can be learned
SUFFIX = """def replace_layers(model, named_layers):
    for name, layer in named_layers.items():
        last = name.split(".")[-1]
        for m in model.modules():
            if hasattr(m, last):
                setattr(m, last, layer)
"""
LOST = MODEL["lora"] + LEARN["lora"].format("steps=25, lr=9e-3")
training(
    "learns-lora-replaced-by-suffix",
    setup=SETUP,
    learns="lora",
    def_replace=SUFFIX,
    lora=LOST,
    loses="layers/replace lora/model",
)
training(
    "lora-one-layer-for-all-queries",
    lora=FRESH
    + FREEZE
    + "for w in ('q_lin', 'v_lin'):\n    layer = LoRA(getattr(model.distilbert.transformer.layer[0].attention, w), 4, 8)\n    for b in model.distilbert.transformer.layer:\n        setattr(b.attention, w, layer)\n"
    + TRAIN,
    loses="lora/model",
)
training(
    "learns-lora-without-the-base",
    setup=SETUP,
    learns="lora",
    def_lora=HEAD.format(freeze=FROZEN)
    + "    def forward(self, x):\n        return 1e3 + self.c * (x @ self.A.T @ self.B.T)\n",
    lora=LOST,
    loses="lora/identity lora/accuracy",
)
training(
    "learns-full-much-too-fast",
    setup=SETUP,
    learns="full",
    full=FRESH + "learn(model, steps=30, lr=0.5)",
    loses="full/accuracy",
)
training(
    "lora-class-adds-to-its-base",
    def_lora=HEAD.format(freeze=FROZEN)
    + "    def forward(self, x):\n        self.pretrained.weight.data += self.c * (self.B @ self.A).detach()\n        return self.pretrained(x) + self.c * (x @ self.A.T @ self.B.T)\n",
    lora=FRESH + FREEZE + WRAP + "train(model, steps=30)\n",
    loses="lora/forward lora/rank-scaling lora/model",
)
# ---- wrong: the body has never been pretrained, and nothing is learned
RANDOM = "from transformers import AutoConfig\nmodel = AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(MODEL))\n"
for method, loses in {"full": "full/trained", "head": "head/frozen", "lora": "lora/model"}.items():
    training(
        f"learns-{method}-from-a-config",
        setup=SETUP,
        learns=method,
        loses=f"{loses} {method}/accuracy",
        **{method: MODEL[method].replace(FRESH, RANDOM) + "learn(model, torch.tensor([0, 1] * 4), steps=25)"},
    )
