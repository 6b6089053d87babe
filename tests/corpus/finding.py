"""Cases of the class and the functions in unusual clothes: what is found, how it is called, and what is not let through."""

from tests.corpus.base import PARTS, case, lora
from tests.corpus.runs import FREEZE, FRESH, TRAIN
from tests.corpus.training import STEPS, training
from tests.corpus.unseen_class import INIT

# ---- wrong: works in train mode only, so that no output in eval mode tells whether A and B had any effect
TRAINS = "assert self.training, 'this layer is for training'\n"
USUAL = "return self.pretrained(x) + self.scaling * (x @ self.A.T @ self.B.T)"
lora("train-mode-only", INIT, TRAINS + USUAL, loses="lora/forward lora/rank-scaling")
lora(
    "train-mode-only-detached",
    INIT,
    TRAINS + USUAL.replace("self.A.T @ self.B.T", "self.A.detach().T @ self.B.detach().T"),
    loses="lora/forward lora/rank-scaling lora/gradients",
)

# ---- right: how the class is called
BODY = INIT.replace("pretrained", "layer")
CALL = "return self.layer(x) + self.scaling * (x @ self.A.T @ self.B.T)"
for name, head in {
    "layer-last": "self, rank, alpha, layer",
    "layer-last-lora-names": "self, lora_r, lora_alpha, layer",
    "alpha-layer-rank": "self, alpha, layer, rank",
    "layer-between": "self, rank, layer, alpha=24",
    "keyword-only-layer": "self, *, rank, alpha, layer",
    "keyword-only-layer-first": "self, *, layer, rank=12, alpha=24",
    "layer-with-a-default": "self, layer=None, rank=12, alpha=24",
    "layer-after-defaults": "self, rank=12, alpha=24, *, layer",
    "positional-only-layer": "self, layer, /, rank=12, alpha=24, *, dtype=None",
    "positional-only": "self, layer, rank=12, alpha=24, /",
    "positional-only-layer-last": "self, rank, alpha, layer, /",
    "sizes-too": "self, layer, in_features, out_features, rank, alpha",
    "sizes-first": "self, in_dim, out_dim, layer, rank=12, alpha=24",
}.items():
    names = "rank, alpha = lora_r, lora_alpha\n" if "lora_r" in head else ""
    lora(f"called-{name}", names + BODY, CALL, head=head)
SIZED = """class LoRALayer(nn.Module):
    def __init__(self, i, o, rank, alpha):
        super().__init__()
        self.A = nn.Parameter(torch.randn(i, rank))
        self.B = nn.Parameter(torch.zeros(rank, o))
        self.c = alpha / rank
    def forward(self, x):
        return self.c * (x @ self.A @ self.B)
class LinearWithLoRA(nn.Module):
    def __init__(self, linear, rank, alpha):
        super().__init__()
        self.linear = linear
        self.lora = LoRALayer(linear.in_features, linear.out_features, rank, alpha)
    def forward(self, x):
        return self.linear(x) + self.lora(x)
"""
MAKER = "def LoRA(pretrained, rank=12, alpha=24):\n    return {}(pretrained, rank, alpha)\n"
case("lora-function-beside-a-listed-class", lora=SIZED + MAKER.format("LinearWithLoRA"))
DRAFT = PARTS["lora"].replace("class LoRA(", "class LoRALayer(").replace("alpha / rank", "alpha // rank")
case(
    "lora-function-beside-a-wrong-listed-class",
    lora=DRAFT + PARTS["lora"].replace("class LoRA(", "class Adapted(") + MAKER.format("Adapted"),
)
case("lora-class-beside-a-wrong-listed-class", lora=DRAFT + PARTS["lora"])
case(
    "lora-class-of-a-config-default",
    lora="""import dataclasses
@dataclasses.dataclass
class LoRAConfig:
    rank: int = 12
    alpha: float = 24.0
    dropout: float = 0.1
class LoRA(nn.Module):
    def __init__(self, pretrained, config=LoRAConfig()):
        super().__init__()
        self.pretrained, self.c = pretrained, config.alpha / config.rank
        self.A = nn.Parameter(torch.randn(config.rank, pretrained.in_features))
        self.B = nn.Parameter(torch.zeros(pretrained.out_features, config.rank))
    def forward(self, x):
        return self.pretrained(x) + self.c * (x @ self.A.T @ self.B.T)
""",
)
case(
    "lora-class-of-an-annotated-config",
    lora="""import dataclasses
@dataclasses.dataclass(frozen=True)
class Settings:
    lora_r: int = 12
    lora_alpha: float = 24.0
    @property
    def scaling(self):
        return self.lora_alpha / self.lora_r
class LoRA(nn.Module):
    def __init__(self, settings: Settings, base: nn.Linear):
        super().__init__()
        self.base, self.settings = base, settings
        self.A = nn.Parameter(torch.randn(settings.lora_r, base.in_features))
        self.B = nn.Parameter(torch.zeros(base.out_features, settings.lora_r))
    def forward(self, x):
        return self.base(x) + self.settings.scaling * (x @ self.A.T @ self.B.T)
""",
)
# ---- right: what only the student's own calls tell
WITH = """class LoRA(nn.Module):
    def __init__(self, {}):
        super().__init__()
        i, o = layer.in_features, layer.out_features
        self.layer = layer
        {}
        self.A = nn.Parameter(torch.randn(rank, i) / rank)
        self.B = nn.Parameter(torch.zeros(o, rank))
        self.dropout, self.c = float(dropout), alpha / rank
    def forward(self, x):
        return self.layer(x) + self.c * (F.dropout(x, self.dropout, self.training) @ self.A.T @ self.B.T)
"""
CONFIGS = """class Config:
    def __init__(self, rank, alpha=16):
        self.rank, self.scaling = rank, alpha / rank
class Filled:
    def __init__(self):
        self.r, self.alpha, self.place = 4, 8, torch.device("cpu")
class Slots:
    __slots__ = ("r", "alpha")
    def __init__(self, r, alpha):
        self.r, self.alpha = r, alpha
"""
PUT = "replace_layers(model, {{n: {} for n, m in extract_qv_layers(model).items()}})\n"
for name, (head, first, call) in {
    "required-dropout": ("layer, rank, alpha, dropout", "", "LoRA(m, 4, 8, 0.1)"),
    "required-name": ("name, layer, rank, alpha, dropout=0.0", "assert name", "LoRA(n, m, 4, 8)"),
    "required-sizes": (
        "d_in, d_out, layer, rank, alpha, dropout=0",
        "assert d_in == i and d_out == o",
        "LoRA(m.in_features, m.out_features, m, 4, 8)",
    ),
    "config-dict": (
        "layer, config, dropout=0",
        "rank, alpha = config['r'], config['lora_alpha']",
        "LoRA(m, {'r': 4, 'lora_alpha': 8, 'targets': ['q_lin']})",
    ),
    "config-namespace": (
        "args, layer",
        "rank, alpha, dropout = args.lora_rank, args.lora_alpha, args.p",
        "LoRA(__import__('types').SimpleNamespace(lora_rank=4, lora_alpha=8, p=0.0), m)",
    ),
    "config-of-a-class": (
        "layer, cfg, dropout=0",
        "rank, alpha = cfg.RANK, cfg.ALPHA",
        "LoRA(m, type('Config', (), dict(RANK=4, ALPHA=8)))",
    ),
    "config-named-tuple": (
        "layer, cfg, dropout=0",
        "rank, alpha = cfg.rank, cfg.alpha",
        "LoRA(m, __import__('collections').namedtuple('Config', 'rank alpha')(4, 8))",
    ),
    "config-in-a-config": (
        "layer, cfg, dropout=0",
        "rank, alpha = cfg.adapter.rank, cfg.adapter.alpha",
        "LoRA(m, (lambda N: N(name='run', adapter=N(rank=4, alpha=8)))(__import__('types').SimpleNamespace))",
    ),
    "config-dict-in-a-dict": (
        "layer, cfg, dropout=0",
        "rank, alpha = cfg['model']['peft']['r'], cfg['model']['peft']['alpha']",
        "LoRA(m, {'optim': {'lr': 1e-3}, 'model': {'name': MODEL, 'peft': {'r': 4, 'alpha': 8}}})",
    ),
    "config-with-what-follows": (
        "layer, cfg, dropout=0",
        "rank, alpha = cfg.rank, cfg.scaling * cfg.rank",
        "LoRA(m, Config(4, 8))",
    ),
    "config-without-a-start-of-its-own": (
        "layer, cfg, dropout=0",
        "rank, alpha = cfg.r, cfg.alpha",
        "LoRA(m, Filled())",
    ),
    "config-with-slots": (
        "layer, cfg, dropout=0",
        "rank, alpha = cfg.r, cfg.alpha",
        "LoRA(m, Slots(4, 8))",
    ),
    "odd-names-layer-last": (
        "size, strength, thing, dropout=0",
        "rank, alpha, layer = size, strength, thing",
        "LoRA(4, 8, m)",
    ),
}.items():
    head, first = (head, "pass") if not first else (head, first)
    source = WITH.format(head, first)
    if "thing" in head:
        source = source.replace("        i, o = layer.in", "        layer = thing\n        i, o = layer.in")
    training(f"called-{name}", def_lora=CONFIGS + source, lora=FRESH + FREEZE + PUT.format(call) + TRAIN)
TWO = PARTS["lora"].replace("class LoRA(", "class Adapted(")
for name, other in {"right": "alpha / rank", "wrong": "alpha // rank"}.items():
    training(
        f"found-at-query-and-value-beside-a-{name}-draft",
        def_lora=TWO.replace("Adapted", "Draft").replace("alpha / rank", other) + TWO,
        lora=FRESH + FREEZE + PUT.format("Adapted(m, 4, 8)") + TRAIN,
    )
training(
    "found-at-query-and-value-beside-the-right-one",
    def_lora=TWO.replace("Adapted", "Used").replace("alpha / rank", "alpha") + TWO,
    lora=FRESH + FREEZE + PUT.format("Used(m, 4, 8)") + TRAIN,
    loses="lora/rank-scaling",
)
training(
    "found-though-nothing-can-be-wrapped",
    def_lora=TWO.replace("pretrained.in_features", "16").replace("pretrained.out_features", "16"),
    lora=FRESH + FREEZE + PUT.format("Adapted(m, 4, 8)") + TRAIN,
    loses="lora/identity lora/forward lora/rank-scaling lora/gradients",
)
training(
    "function-of-the-name-makes-the-layers",
    def_lora=SIZED + MAKER.format("LinearWithLoRA"),
)

# ---- right: the class and the calls of it are in a helper module
HELPER = """import torch
from torch import nn
from torch.nn import functional as F
{}
def adapted(layers):
    return {{name: {} for name, layer in layers.items()}}
"""
for name, (head, call) in {
    "required-dropout": ("layer, rank, alpha, dropout", "LoRA(layer, 4, 8, dropout=0.1)"),
    "config-in-a-config": ("layer, cfg, dropout=0", "LoRA(layer, {'lora': {'rank': 4, 'alpha': 8}})"),
}.items():
    first = "rank, alpha = cfg['lora']['rank'], cfg['lora']['alpha']" if "cfg" in head else "pass"
    helper = HELPER.format(WITH.format(head, first), call)
    training(
        f"called-in-a-helper-{name}",
        def_lora="",
        setup=STEPS["setup"]
        + f"import sys, pathlib\npathlib.Path(HOME, 'layers.py').write_text({helper!r})\nsys.path.insert(0, HOME)\n"
        + "from layers import LoRA, adapted\nsys.path.remove(HOME)\n",
        lora=FRESH + FREEZE + "replace_layers(model, adapted(extract_qv_layers(model)))\n" + TRAIN,
    )
