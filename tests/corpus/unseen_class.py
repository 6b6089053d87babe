"""Cases of the LoRA class that are right, in handwritings that came after the first corpus: labelled before they were judged."""

from tests.corpus.base import case, lora

I_O = "i, o = pretrained.in_features, pretrained.out_features\n"
KEEP = "self.pretrained = pretrained\nself.scaling = alpha / rank\nfor p in pretrained.parameters():\n    p.requires_grad = False\n"
AB = "self.A = nn.Parameter(torch.randn(rank, i) * 0.02)\nself.B = nn.Parameter(torch.zeros(o, rank))\n"
INIT = I_O + KEEP + AB

# ---- right: the class
lora(
    "addmm",
    INIT,
    "flat = x.reshape(-1, x.shape[-1])\ny = torch.addmm(self.pretrained(flat), flat @ self.A.T, self.B.T, alpha=self.scaling)\nreturn y.reshape(*x.shape[:-1], -1)",
)
lora(
    "baddbmm",
    INIT,
    "y = self.pretrained(x)\nif x.dim() == 2:\n    return torch.addmm(y, x @ self.A.t(), self.B.t(), alpha=self.scaling)\nn = x.shape[0]\nreturn torch.baddbmm(y, torch.bmm(x, self.A.t().expand(n, -1, -1)), self.B.t().expand(n, -1, -1), alpha=self.scaling)",
)
lora(
    "tensordot",
    INIT,
    "h = torch.tensordot(x, self.A, dims=([-1], [1]))\nreturn self.pretrained(x) + self.scaling * torch.tensordot(h, self.B, dims=([-1], [1]))",
)
lora(
    "functional-linear",
    INIT,
    "return F.linear(x, self.pretrained.weight, self.pretrained.bias) + F.linear(F.linear(x, self.A), self.B) * self.scaling",
)
lora(
    "in-place",
    INIT,
    "out = self.pretrained(x)\nout += F.linear(F.linear(x, self.A), self.B).mul_(self.scaling)\nreturn out",
)
lora(
    "torch-add", INIT, "return torch.add(self.pretrained(x), F.linear(F.linear(x, self.A), self.B), alpha=self.scaling)"
)
lora("scaled-input", INIT, "return self.pretrained(x) + (self.scaling * x) @ self.A.T @ self.B.T")
lora("float-alpha", INIT.replace("alpha / rank", "float(alpha) / float(rank)"))
lora(
    "alpha-tensor",
    I_O
    + "alpha = torch.as_tensor(alpha, dtype=torch.float32)\nself.register_buffer('scaling', alpha / rank, persistent=False)\n"
    + KEEP.replace("self.scaling = alpha / rank\n", "")
    + AB,
)
lora(
    "alpha-parameter-frozen",
    I_O
    + KEEP.replace(
        "self.scaling = alpha / rank", "self.scaling = nn.Parameter(torch.tensor(alpha / rank), requires_grad=False)"
    )
    + AB,
)
lora(
    "scaling-property",
    INIT.replace("self.scaling = alpha / rank", "self.r, self.a = rank, alpha") + "\n",
    "return self.pretrained(x) + Scale.of(self) * (x @ self.A.T @ self.B.T)",
    before="class Scale:\n    @staticmethod\n    def of(m):\n        return m.a / m.r\n",
)
lora(
    "config-object",
    "self.cfg = types.SimpleNamespace(r=rank, alpha=alpha)\nself.base = pretrained.requires_grad_(False)\nself.A = nn.Parameter(torch.empty(self.cfg.r, pretrained.in_features).normal_(0, 0.02))\nself.B = nn.Parameter(torch.zeros(pretrained.out_features, self.cfg.r))",
    "return self.base(x) + self.cfg.alpha / self.cfg.r * (x @ self.A.T @ self.B.T)",
    before="import types",
)
lora(
    "rank-keyword-only-default",
    INIT,
    head="self, pretrained, *, rank=12, alpha=24, dropout=0.0, device=None, dtype=None",
)
lora(
    "lora-rank-names",
    "rank, alpha = lora_rank, lora_alpha\n" + INIT,
    head="self, pretrained, lora_rank=12, lora_alpha=24, lora_dropout=0.05, merge_weights=False",
)
lora("r-and-scale", "rank, alpha = r, scale\n" + INIT, head="self, pretrained, r=12, scale=24")
lora("scale-before-rank", "alpha = scaling\n" + INIT, head="self, pretrained, scaling=24, rank=12")
lora(
    "kwargs",
    "rank, alpha = kwargs.get('rank', 12), kwargs.get('alpha', 24)\n" + INIT,
    head="self, pretrained, **kwargs",
)
lora(
    "linear-keyword",
    "pretrained = pretrained_linear\n" + INIT,
    head="self, pretrained_linear: nn.Linear, rank: int = 12, alpha: int = 24, **kwargs",
)
lora(
    "optional-alpha",
    "alpha = 2 * rank if alpha is None else alpha\n" + INIT,
    head="self, pretrained, rank: int = 12, alpha: 'float | None' = None",
)
lora(
    "dropout-argument",
    INIT + "self.dropout = nn.Dropout(drop) if drop > 0 else nn.Identity()",
    "return self.pretrained(x) + self.scaling * (self.dropout(x) @ self.A.T @ self.B.T)",
    head="self, pretrained, rank=12, alpha=24, drop=0.1",
)
lora(
    "dropout-on-adapter-output",
    INIT + "self.dropout = nn.Dropout(0.05)",
    "return self.pretrained(x) + self.dropout(self.scaling * (x @ self.A.T @ self.B.T))",
)
lora(
    "b-random-a-zero-linear",
    I_O
    + KEEP
    + "self.down = nn.Linear(i, rank, bias=False)\nself.up = nn.Linear(rank, o, bias=False)\nnn.init.zeros_(self.down.weight)",
    "return self.pretrained(x) + self.scaling * self.up(self.down(x))",
)
lora(
    "conv",
    I_O
    + KEEP
    + "self.down = nn.Conv1d(i, rank, 1, bias=False)\nself.up = nn.Conv1d(rank, o, 1, bias=False)\nnn.init.zeros_(self.up.weight)",
    "h = x if x.dim() == 3 else x.unsqueeze(0)\nd = self.up(self.down(h.transpose(1, 2))).transpose(1, 2)\nreturn self.pretrained(x) + self.scaling * d.reshape(*x.shape[:-1], -1)",
)
lora(
    "leading-one",
    I_O + KEEP + "self.A = nn.Parameter(torch.randn(1, i, rank))\nself.B = nn.Parameter(torch.zeros(1, rank, o))",
    "h = x if x.dim() == 3 else x.unsqueeze(0)\nreturn self.pretrained(x) + self.scaling * (h @ self.A @ self.B).reshape(*x.shape[:-1], -1)",
)
lora(
    "embedding-kept",
    I_O + KEEP + "self.A = nn.Embedding(i, rank)\nself.B = nn.Embedding(rank, o)\nnn.init.zeros_(self.B.weight)",
    "return self.pretrained(x) + self.scaling * x @ self.A.weight @ self.B.weight",
)
lora(
    "frozen-copies",
    I_O
    + "self.weight = nn.Parameter(pretrained.weight.detach().clone(), requires_grad=False)\nself.bias = None if pretrained.bias is None else nn.Parameter(pretrained.bias.detach().clone(), requires_grad=False)\nself.scaling = alpha / rank\n"
    + AB,
    "return F.linear(x, self.weight, self.bias) + self.scaling * (x @ self.A.T @ self.B.T)",
)
lora(
    "register-module",
    I_O
    + "self.scaling = alpha / rank\nself.add_module('base_layer', pretrained)\nself.base_layer.weight.requires_grad_(False)\nif self.base_layer.bias is not None:\n    self.base_layer.bias.requires_grad_(False)\n"
    + AB,
    "return self.base_layer.forward(x) + self.scaling * (x @ self.A.T @ self.B.T)",
)
lora(
    "swapped-transposes",
    I_O + KEEP + "self.A = nn.Parameter(torch.zeros(o, rank))\nself.B = nn.Parameter(torch.randn(rank, i))",
    "return self.pretrained(x) + self.scaling * (self.A @ self.B @ x.unsqueeze(-1)).squeeze(-1)",
)
lora(
    "super-with-names",
    INIT.replace("self.pretrained = pretrained", "super(LoRA, self).__init__()\nself.pretrained = pretrained"),
)
lora(
    "dtype-of-weight",
    INIT,
    "x = x.to(self.A.dtype)\nreturn self.pretrained(x) + self.scaling * (x @ self.A.T @ self.B.T).to(self.pretrained.weight.dtype)",
)
lora(
    "cast-back",
    INIT,
    "y = self.pretrained(x)\nreturn (y + (x.float() @ self.A.T.float() @ self.B.T.float()) * self.scaling).to(y.dtype)",
)
lora(
    "requires-grad-false-on-weight-only",
    INIT.replace(
        "for p in pretrained.parameters():\n    p.requires_grad = False\n", "pretrained.weight.requires_grad = False\n"
    ),
)
lora("no-grad-init", INIT + "with torch.no_grad():\n    self.A.normal_(0, 1 / rank)\n    self.B.fill_(0)")
lora(
    "reset-method",
    I_O
    + KEEP
    + "self.A = nn.Parameter(torch.empty(rank, i))\nself.B = nn.Parameter(torch.empty(o, rank))\nreset(self)",
    before="def reset(m):\n    nn.init.kaiming_uniform_(m.A, a=5 ** 0.5)\n    nn.init.zeros_(m.B)",
)
lora(
    "svd-like",
    I_O
    + KEEP
    + "q, _ = torch.linalg.qr(torch.randn(max(i, rank), rank))\nself.A = nn.Parameter(q.T[:, :i].contiguous())\nself.B = nn.Parameter(torch.zeros(o, rank))",
)
lora(
    "enabled-flag",
    INIT + "self.enabled = True",
    "y = self.pretrained(x)\nif not self.enabled:\n    return y\nreturn y + self.scaling * (x @ self.A.T @ self.B.T)",
)
lora(
    "adapter-dict",
    I_O
    + KEEP
    + "self.lora_A, self.lora_B = nn.ModuleDict(), nn.ModuleDict()\nself.lora_A['default'] = nn.Linear(i, rank, bias=False)\nself.lora_B['default'] = nn.Linear(rank, o, bias=False)\nnn.init.zeros_(self.lora_B['default'].weight)\nself.active = ['default']",
    "y = self.pretrained(x)\nfor name in self.active:\n    y = y + self.lora_B[name](self.lora_A[name](x)) * self.scaling\nreturn y",
)
lora(
    "flattened-loop",
    INIT,
    "return torch.stack([self.pretrained(row) + self.scaling * (row @ self.A.T @ self.B.T) for row in x])",
)
case(
    "lora-function",
    lora="class Adapted(nn.Module):\n    def __init__(self, i, o, rank, alpha, base):\n        super().__init__()\n        self.base, self.c = base, alpha / rank\n        self.A = nn.Parameter(torch.randn(rank, i))\n        self.B = nn.Parameter(torch.zeros(o, rank))\n    def forward(self, x):\n        return self.base(x) + self.c * (x @ self.A.T @ self.B.T)\ndef LoRA(pretrained, rank=12, alpha=24):\n    return Adapted(pretrained.in_features, pretrained.out_features, rank, alpha, pretrained)",
)
case(
    "lora-dataclass",
    lora="import dataclasses\n@dataclasses.dataclass(eq=False)\nclass LoRA(nn.Module):\n    pretrained: nn.Linear\n    rank: int = 12\n    alpha: float = 24.0\n    def __post_init__(self):\n        base = self.__dict__.pop('pretrained')\n        super().__init__()\n        self.base = base\n        self.A = nn.Parameter(torch.randn(self.rank, base.in_features))\n        self.B = nn.Parameter(torch.zeros(base.out_features, self.rank))\n    def forward(self, x):\n        return self.base(x) + self.alpha / self.rank * (x @ self.A.T @ self.B.T)\n    def __new__(cls, *a, **k):\n        m = object.__new__(cls)\n        nn.Module.__init__(m)\n        return m".replace(
        "        base = self.__dict__.pop('pretrained')\n        super().__init__()\n        self.base = base\n",
        "        base = self.base = self.pretrained\n",
    ),
)
case(
    "lora-from-linear",
    lora="class LoRA(nn.Module):\n    def __init__(self, pretrained, rank=12, alpha=24):\n        super().__init__()\n        self.base = pretrained\n        self.lora_A, self.lora_B = self._factors(pretrained, rank)\n        self._alpha, self._rank = alpha, rank\n    @classmethod\n    def from_linear(cls, layer, **kw):\n        return cls(layer, **kw)\n    @staticmethod\n    def _factors(layer, rank):\n        A = nn.Linear(layer.in_features, rank, bias=False)\n        B = nn.Linear(rank, layer.out_features, bias=False)\n        B.weight.data.fill_(0)\n        return A, B\n    @property\n    def scaling(self):\n        return self._alpha / self._rank\n    def merge(self):\n        self.base.weight.data += self.scaling * self.lora_B.weight @ self.lora_A.weight\n    def forward(self, x):\n        return self.base(x) + self.scaling * self.lora_B(self.lora_A(x))",
)
case(
    "lora-inherits",
    lora="class Base(nn.Module):\n    def __init__(self, layer):\n        super().__init__()\n        self.layer = layer\n        layer.requires_grad_(False)\n    @property\n    def sizes(self):\n        return self.layer.in_features, self.layer.out_features\nclass LoRA(Base):\n    def __init__(self, pretrained, rank=12, alpha=24):\n        super().__init__(pretrained)\n        i, o = self.sizes\n        self.U = nn.Parameter(torch.zeros(o, rank))\n        self.V = nn.Parameter(torch.randn(rank, i) / 10)\n        self.c = alpha / rank\n    def delta(self):\n        return self.c * self.U @ self.V\n    def forward(self, input):\n        return F.linear(input, self.layer.weight + self.delta(), self.layer.bias)",
)
case(
    "lora-cached-delta",
    lora="class LoRA(nn.Module):\n    def __init__(self, pretrained, rank=12, alpha=24):\n        super().__init__()\n        self.base, self.c, self.W = pretrained, alpha / rank, None\n        self.A = nn.Parameter(torch.randn(rank, pretrained.in_features))\n        self.B = nn.Parameter(torch.zeros(pretrained.out_features, rank))\n    def train(self, mode=True):\n        self.W = None\n        return super().train(mode)\n    def forward(self, x):\n        if self.training:\n            return self.base(x) + self.c * (x @ self.A.T @ self.B.T)\n        if self.W is None:\n            self.W = (self.base.weight + self.c * self.B @ self.A)\n        return F.linear(x, self.W, self.base.bias)",
)
case(
    "lora-merge-methods",
    lora="class LoRA(nn.Module):\n    def __init__(self, pretrained, rank=12, alpha=24):\n        super().__init__()\n        self.base, self.c, self.merged = pretrained, alpha / rank, False\n        self.A = nn.Parameter(torch.randn(rank, pretrained.in_features))\n        self.B = nn.Parameter(torch.zeros(pretrained.out_features, rank))\n    def merge(self):\n        if not self.merged:\n            self.base.weight.data += self.c * (self.B @ self.A).data\n            self.merged = True\n    def unmerge(self):\n        if self.merged:\n            self.base.weight.data -= self.c * (self.B @ self.A).data\n            self.merged = False\n    def eval(self):\n        self.merge()\n        return super().eval()\n    def train(self, mode=True):\n        if mode:\n            self.unmerge()\n        return super().train(mode)\n    def forward(self, x):\n        y = self.base(x)\n        return y if self.merged else y + self.c * (x @ self.A.T @ self.B.T)",
)
case(
    "lora-metaclass-names",
    lora="class LoRALinear(nn.Module):\n    '''Wraps a linear layer.'''\n    def __init__(self, linear: nn.Linear, rank: int = 12, alpha: float = 24.) -> None:\n        super().__init__()\n        self.linear = linear\n        self.lora_down = nn.Parameter(torch.empty(linear.in_features, rank))\n        self.lora_up = nn.Parameter(torch.zeros(rank, linear.out_features))\n        nn.init.kaiming_uniform_(self.lora_down, a=math.sqrt(5))\n        self.scale = alpha / rank\n    def forward(self, x: torch.Tensor) -> torch.Tensor:\n        return self.linear(x) + (x @ self.lora_down @ self.lora_up) * self.scale\nLoRA = LoRALinear",
)
case(
    "lora-weight-getter",
    lora="class LoRA(nn.Linear):\n    def __init__(self, pretrained, rank=12, alpha=24):\n        nn.Module.__init__(self)\n        self.in_features, self.out_features = pretrained.in_features, pretrained.out_features\n        self.weight, self.bias = pretrained.weight, pretrained.bias\n        for p in (self.weight, self.bias):\n            if p is not None:\n                p.requires_grad = False\n        self.lora_A = nn.Parameter(torch.randn(rank, self.in_features) * 0.01)\n        self.lora_B = nn.Parameter(torch.zeros(self.out_features, rank))\n        self.scaling = alpha / rank\n    def forward(self, x):\n        return F.linear(x, self.weight + self.scaling * self.lora_B @ self.lora_A, self.bias)",
)
case(
    "lora-autocast",
    lora="class LoRA(nn.Module):\n    def __init__(self, pretrained, rank=12, alpha=24):\n        super().__init__()\n        self.pretrained = pretrained\n        self.A = nn.Parameter(torch.randn(rank, pretrained.in_features))\n        self.B = nn.Parameter(torch.zeros(pretrained.out_features, rank))\n        self.scaling = alpha / rank\n    @torch.autocast('cpu', enabled=False)\n    def forward(self, x):\n        return self.pretrained(x) + self.scaling * (x @ self.A.T @ self.B.T)",
)
lora(
    "merged-weight-kept-until-the-next-training-step",
    INIT + "self.merged = None",
    "if self.training:\n    self.merged = None\n    return self.pretrained(x) + self.scaling * (x @ self.A.T @ self.B.T)\nif self.merged is None:\n    self.merged = (self.pretrained.weight + self.scaling * self.B @ self.A).detach()\nreturn F.linear(x, self.merged, self.pretrained.bias)",
)

for head in (
    "self, pretrained, alfa=24, rang=12",
    "self, pretrained, *, rank=12, factor=24",
    "self, pretrained, dropout=0.1, rank=12, factor=24",
):
    names = [part.split("=")[0].strip() for part in head.split(",")]
    rank, alpha = (next(n for n in names if n in known) for known in (("rang", "rank"), ("alfa", "factor")))
    lora(f"named-{names[-1]}-{names[2]}", f"rank, alpha = {rank}, {alpha}\n" + INIT, head=head)
