"""Cases of the LoRA class: every form that is right, and mistakes with one root each."""

from tests.corpus.base import case, lora

SIZES = "i, o = pretrained.in_features, pretrained.out_features\nself.pretrained = pretrained\nself.scaling = alpha / rank\n"
FREEZE = "for p in pretrained.parameters():\n    p.requires_grad = False\n"
AB = "self.A = nn.Parameter(torch.randn(rank, i) * 0.01)\nself.B = nn.Parameter(torch.zeros(o, rank))\n"
INIT = SIZES + FREEZE + AB
LINEAR = (
    SIZES
    + FREEZE
    + "self.A = nn.Linear(i, rank, bias=False)\nself.B = nn.Linear(rank, o, bias=False)\nnn.init.zeros_(self.B.weight)\n"
)
CALL = "return self.pretrained(x) + self.scaling * self.B(self.A(x))"

# ---- right: how A and B are kept, and how they are oriented
lora("linear", LINEAR, CALL)
lora(
    "linear-sequential",
    SIZES
    + FREEZE
    + "self.ab = nn.Sequential(nn.Linear(i, rank, bias=False), nn.Linear(rank, o, bias=False))\nnn.init.zeros_(self.ab[1].weight)",
    "return self.pretrained(x) + self.ab(x) * self.scaling",
)
lora(
    "in-r",
    SIZES + FREEZE + "self.A = nn.Parameter(torch.randn(i, rank))\nself.B = nn.Parameter(torch.zeros(rank, o))",
    "return self.pretrained(x) + self.scaling * (x @ self.A @ self.B)",
)
lora(
    "mixed-orientation",
    SIZES + "self.A = nn.Parameter(torch.randn(i, rank))\nself.B = nn.Parameter(torch.zeros(o, rank))",
    "return self.pretrained(x) + self.scaling * F.linear(x @ self.A, self.B)",
)
lora(
    "delta-weight",
    INIT,
    "return F.linear(x, self.pretrained.weight + self.scaling * self.B @ self.A, self.pretrained.bias)",
)
lora("einsum", INIT, "return self.pretrained(x) + self.scaling * torch.einsum('...i,ri,or->...o', x, self.A, self.B)")
lora("matmul", INIT, "return self.pretrained(x) + torch.matmul(torch.matmul(x, self.A.t()), self.B.t()) * self.scaling")
lora(
    "parameter-dict",
    SIZES
    + "self.lora = nn.ParameterDict({'A': nn.Parameter(torch.randn(rank, i)), 'B': nn.Parameter(torch.zeros(o, rank))})",
    "return self.pretrained(x) + self.scaling * x @ self.lora['A'].T @ self.lora['B'].T",
)
lora(
    "parameter-list",
    SIZES + "self.ab = nn.ParameterList([torch.randn(rank, i), torch.zeros(o, rank)])",
    "return self.pretrained(x) + self.scaling * x @ self.ab[0].T @ self.ab[1].T",
)
lora(
    "module-dict",
    SIZES
    + "self.m = nn.ModuleDict({'down': nn.Linear(i, rank, bias=False), 'up': nn.Linear(rank, o, bias=False)})\nself.m['up'].weight.data.zero_()",
    "return self.pretrained(x) + self.scaling * self.m['up'](self.m['down'](x))",
)
lora(
    "register-parameter",
    SIZES
    + "self.register_parameter('a', nn.Parameter(torch.randn(rank, i)))\nself.register_parameter('b', nn.Parameter(torch.zeros(o, rank)))",
    "return self.pretrained(x) + self.scaling * x @ self.a.T @ self.b.T",
)
lora(
    "inner-module",
    SIZES + FREEZE + "self.delta = Delta(i, o, rank, alpha)",
    "return self.pretrained(x) + self.delta(x)",
    before="class Delta(nn.Module):\n    def __init__(self, i, o, r, alpha):\n        super().__init__()\n        self.a = nn.Parameter(torch.randn(i, r))\n        self.b = nn.Parameter(torch.zeros(r, o))\n        self.c = alpha / r\n    def forward(self, x):\n        return self.c * x @ self.a @ self.b",
)
lora("a-zero", SIZES + "self.A = nn.Parameter(torch.zeros(rank, i))\nself.B = nn.Parameter(torch.randn(o, rank))")
lora(
    "bias-at-zero",
    SIZES
    + "self.A = nn.Linear(i, rank, bias=False)\nself.B = nn.Linear(rank, o)\nnn.init.zeros_(self.B.weight)\nnn.init.zeros_(self.B.bias)",
    CALL,
)
# ---- right: inits and scaling
for number, init in enumerate(
    (
        "nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))",
        "nn.init.normal_(self.A, std=0.02)",
        "nn.init.xavier_uniform_(self.A)",
        "nn.init.orthogonal_(self.A)",
        "self.A.data /= math.sqrt(rank)",
        "nn.init.normal_(self.A, std=1 / rank)",
        "nn.init.uniform_(self.A, -1, 1)",
    )
):
    lora(f"init-{number}", INIT + init)
lora(
    "scale-in-forward",
    INIT + "self.rank, self.alpha = rank, alpha",
    "return self.pretrained(x) + (self.alpha / self.rank) * (x @ self.A.T @ self.B.T)",
)
lora(
    "scale-divided-last",
    INIT + "self.rank, self.alpha = rank, alpha",
    "return self.pretrained(x) + self.alpha * (x @ self.A.T @ self.B.T) / self.rank",
)
lora(
    "scale-buffer",
    SIZES.replace("self.scaling = alpha / rank", "self.register_buffer('scaling', torch.tensor(alpha / rank))") + AB,
)
lora(
    "scale-property",
    INIT.replace("self.scaling = alpha / rank", "self.r, self.a = rank, alpha"),
    "c = self.a / self.r\nreturn self.pretrained(x) + c * (x @ self.A.T @ self.B.T)",
)
# ---- right: signatures
for number, head in enumerate(
    (
        "self, linear, r=12, alpha=24",
        "self, base_layer, r=8, lora_alpha=16, dropout=0.0",
        "self, W, lora_r, lora_alpha",
        "self, layer, alpha=24, rank=12",
        "self, layer, *, rank, alpha",
        "self, module, lora_rank=4, lora_alpha=8, bias=False",
        "self, original_layer: nn.Linear, rank: int = 12, alpha: float = 24.0",
        "self, pretrained, rank, alpha=None, init='normal'",
        "self, pretrained, n_rank=2, my_alpha=2",
        "self, base, size=12, factor=24",
        "self, layer, dropout=0.1, r=3, alpha=9",
        "self, layer, alpha, r",
    )
):
    names = [part.split(":")[0].split("=")[0].strip() for part in head.split(",")]
    layer = names[1]
    r = next(n for n in names if n in ("r", "rank", "lora_r", "lora_rank", "n_rank", "size"))
    a = next(n for n in names if n in ("alpha", "lora_alpha", "my_alpha", "factor"))
    lora(
        f"signature-{number}", f"pretrained, rank, alpha = {layer}, {r}, {a}\nalpha = alpha or rank\n{INIT}", head=head
    )
lora("args-kwargs", "pretrained, rank, alpha = args\n" + INIT, head="self, *args, **kwargs")
# ---- right: extras
lora(
    "dropout",
    LINEAR + "self.drop = nn.Dropout(0.1)",
    "return self.pretrained(x) + self.scaling * self.B(self.A(self.drop(x)))",
)
lora(
    "functional-dropout",
    LINEAR,
    "return self.pretrained(x) + self.scaling * self.B(F.dropout(self.A(x), 0.2, self.training))",
)
lora(
    "device-dtype",
    SIZES
    + "kw = dict(device=pretrained.weight.device, dtype=pretrained.weight.dtype)\nself.A = nn.Parameter(torch.randn(rank, i, **kw))\nself.B = nn.Parameter(torch.zeros(o, rank, **kw))",
)
lora("extra-repr", INIT + "self.extra_repr = lambda: f'rank={rank}'")
lora("assertions", "assert isinstance(pretrained, nn.Linear) and rank > 0\n" + INIT)
lora("no-freezing", SIZES + AB)
lora("requires-grad-method", SIZES + "pretrained.requires_grad_(False)\n" + AB)
lora("weight-sizes", "o, i = pretrained.weight.shape\nself.pretrained, self.scaling = pretrained, alpha / rank\n" + AB)
lora(
    "properties",
    INIT + "self.in_features, self.out_features, self.weight, self.bias = i, o, pretrained.weight, pretrained.bias",
)
lora(
    "reshapes",
    INIT,
    "flat = x.reshape(-1, x.shape[-1])\ny = self.pretrained(flat) + self.scaling * flat @ self.A.T @ self.B.T\nreturn y.view(*x.shape[:-1], -1)",
)
lora(
    "expression",
    INIT,
    "y = self.pretrained(x)\ny = y + (self.scaling * (self.B @ (self.A @ x.transpose(-1, -2)))).transpose(-1, -2)\nreturn y",
)
# ---- right: where the base's weights are
lora(
    "base-buffers",
    "i, o, self.scaling = pretrained.in_features, pretrained.out_features, alpha / rank\nself.register_buffer('W', pretrained.weight.detach().clone())\nself.register_buffer('b', None if pretrained.bias is None else pretrained.bias.detach().clone())\n"
    + AB,
    "return F.linear(x, self.W, self.b) + self.scaling * x @ self.A.T @ self.B.T",
)
lora(
    "base-transposed",
    "i, o, self.scaling = pretrained.in_features, pretrained.out_features, alpha / rank\nself.register_buffer('W', pretrained.weight.detach().t().clone())\nself.register_buffer('b', torch.zeros(o) if pretrained.bias is None else pretrained.bias.detach().clone())\n"
    + AB,
    "return x @ self.W + self.b + self.scaling * x @ self.A.T @ self.B.T",
)
lora(
    "base-parameters",
    "i, o, self.scaling = pretrained.in_features, pretrained.out_features, alpha / rank\nself.W = nn.Parameter(pretrained.weight.data, requires_grad=False)\nself.b = nn.Parameter(pretrained.bias.data, requires_grad=False) if pretrained.bias is not None else None\n"
    + AB,
    "return F.linear(x, self.W, self.b) + self.scaling * x @ self.A.T @ self.B.T",
)
lora(
    "base-deepcopy",
    "self.base = copy.deepcopy(pretrained)\n" + INIT.replace("self.pretrained = pretrained\n", ""),
    "return self.base(x) + self.scaling * x @ self.A.T @ self.B.T",
)
lora("base-and-copy", INIT + "self.register_buffer('W0', pretrained.weight.detach().clone())")
lora(
    "base-in-sequential",
    INIT.replace("self.pretrained = pretrained", "self.seq = nn.Sequential(pretrained)"),
    "return self.seq(x) + self.scaling * x @ self.A.T @ self.B.T",
)
lora(
    "new-linear-loaded",
    "i, o, self.scaling = pretrained.in_features, pretrained.out_features, alpha / rank\nself.pretrained = nn.Linear(i, o, bias=pretrained.bias is not None)\nself.pretrained.load_state_dict(pretrained.state_dict())\n"
    + AB,
)
case(
    "lora-subclass",
    lora="class LoRA(nn.Linear):\n    def __init__(self, pretrained, rank=12, alpha=24):\n        super().__init__(pretrained.in_features, pretrained.out_features, bias=pretrained.bias is not None)\n        self.load_state_dict(pretrained.state_dict())\n        self.weight.requires_grad = False\n        if self.bias is not None:\n            self.bias.requires_grad = False\n        self.A = nn.Parameter(torch.randn(rank, self.in_features))\n        self.B = nn.Parameter(torch.zeros(self.out_features, rank))\n        self.c = alpha / rank\n    def forward(self, x):\n        return super().forward(x) + self.c * x @ self.A.T @ self.B.T",
)
lora(
    "parametrization",
    "self.linear = pretrained\ntorch.nn.utils.parametrize.register_parametrization(self.linear, 'weight', Delta(pretrained, rank, alpha))",
    "return self.linear(x)",
    before="class Delta(nn.Module):\n    def __init__(self, layer, rank, alpha):\n        super().__init__()\n        layer.requires_grad_(False)\n        self.A = nn.Parameter(torch.randn(rank, layer.in_features))\n        self.B = nn.Parameter(torch.zeros(layer.out_features, rank))\n        self.c = alpha / rank\n    def forward(self, W):\n        return W + self.c * self.B @ self.A",
)
MERGING = "class LoRA(nn.Module):\n    def __init__(self, pretrained, rank=12, alpha=24):\n        super().__init__()\n        self.base, self.c, self.merged = pretrained.requires_grad_(False), alpha / rank, False\n        self.A = nn.Parameter(torch.randn(rank, pretrained.in_features))\n        self.B = nn.Parameter(torch.zeros(pretrained.out_features, rank))\n    def train(self, mode=True):\n        super().train(mode)\n        if mode == self.merged:\n            sign = -1 if mode else 1\n            self.base.weight.data += sign * self.c * self.B.data @ self.A.data\n            self.merged = not mode\n        return self\n    def forward(self, x):\n        return self.base(x) if self.merged else self.base(x) + self.c * x @ self.A.T @ self.B.T"
case("lora-merge-on-eval", lora=MERGING)
# ---- right: names
case("lora-layer-name", edit=("class LoRA(", "class LoRALayer("))
case("lora-renamed", edit=("class LoRA(", "class AdaptedLinear("))
case(
    "lora-sizes-and-wrapper",
    lora="class LoRALayer(nn.Module):\n    def __init__(self, i, o, rank, alpha):\n        super().__init__()\n        self.A = nn.Parameter(torch.randn(i, rank))\n        self.B = nn.Parameter(torch.zeros(rank, o))\n        self.c = alpha / rank\n    def forward(self, x):\n        return self.c * (x @ self.A @ self.B)\nclass LinearWithLoRA(nn.Module):\n    def __init__(self, linear, rank, alpha):\n        super().__init__()\n        self.linear = linear\n        self.lora = LoRALayer(linear.in_features, linear.out_features, rank, alpha)\n    def forward(self, x):\n        return self.linear(x) + self.lora(x)",
)

# ---- wrong: all is lost where no layer can be wrapped
ID, FW, RS, GR = "lora/identity", "lora/forward", "lora/rank-scaling", "lora/gradients"
EVERYTHING = f"{ID} {FW} {RS} {GR}"
case("lora-missing", lora="", loses=EVERYTHING)
case("lora-no-super", edit=("super().__init__()", "pass"), loses=EVERYTHING)
case(
    "lora-wants-weight",
    lora="class LoRA(nn.Module):\n    def __init__(self, W, rank=12, alpha=24):\n        super().__init__()\n        self.W = W\n        self.A = nn.Parameter(torch.randn(W.shape[1], rank))\n        self.B = nn.Parameter(torch.zeros(rank, W.shape[0]))\n    def forward(self, x):\n        return x @ self.W.T + x @ self.A @ self.B",
    loses=EVERYTHING,
)
case(
    "lora-wants-sizes",
    lora="class LoRA(nn.Module):\n    def __init__(self, i, o, rank=12, alpha=24):\n        super().__init__()\n        self.A = nn.Parameter(torch.randn(i, rank))\n        self.B = nn.Parameter(torch.zeros(rank, o))\n    def forward(self, x):\n        return x @ self.A @ self.B",
    loses=EVERYTHING,
)
lora("misspelt", INIT.replace("nn.Parameter", "nn.parameter"), loses=EVERYTHING)
lora("no-return", forward="y = self.pretrained(x)", loses=EVERYTHING)
lora("tuple", forward="return self.pretrained(x), self.A", loses=EVERYTHING)
# ---- wrong: identity
lora(
    "both-random",
    SIZES + "self.A = nn.Parameter(torch.randn(rank, i))\nself.B = nn.Parameter(torch.randn(o, rank))",
    loses=ID,
)
lora(
    "b-small",
    SIZES + "self.A = nn.Parameter(torch.randn(rank, i))\nself.B = nn.Parameter(torch.randn(o, rank) * 1e-3)",
    loses=ID,
)
lora(
    "b-tiny",
    SIZES + "self.A = nn.Parameter(torch.randn(rank, i))\nself.B = nn.Parameter(torch.randn(o, rank) * 1e-4)",
    loses=ID,
)
lora("linear-default-init", LINEAR.replace("nn.init.zeros_(self.B.weight)\n", ""), CALL, loses=ID)
lora("new-linear", INIT.replace("self.pretrained = pretrained", "self.pretrained = nn.Linear(i, o)"), loses=ID)
lora("no-base", INIT, "return self.scaling * (x @ self.A.T @ self.B.T)", loses=ID)
lora("bias-lost", INIT, "return x @ self.pretrained.weight.T + self.scaling * (x @ self.A.T @ self.B.T)", loses=ID)
lora(
    "bias-twice",
    INIT,
    "y = self.pretrained(x) + self.scaling * (x @ self.A.T @ self.B.T)\nreturn y if self.pretrained.bias is None else y + self.pretrained.bias",
    loses=ID,
)
lora(
    "base-in-list",
    INIT.replace("self.pretrained = pretrained", "self.pretrained = [pretrained]"),
    "return self.pretrained[0](x) + self.scaling * (x @ self.A.T @ self.B.T)",
    loses=ID,
)
lora(
    "base-in-closure",
    INIT.replace("self.pretrained = pretrained", "self.base = lambda x: pretrained(x)"),
    "return self.base(x) + self.scaling * (x @ self.A.T @ self.B.T)",
    loses=ID,
)
lora(
    "base-plain-tensor",
    INIT.replace("self.pretrained = pretrained", "self.W, self.b = pretrained.weight.detach(), pretrained.bias"),
    "return F.linear(x, self.W, self.b) + self.scaling * (x @ self.A.T @ self.B.T)",
    loses=ID,
)
lora("base-scaled", INIT, "return 0.5 * self.pretrained(x) + self.scaling * (x @ self.A.T @ self.B.T)", loses=ID)
lora("base-rounded", INIT + "pretrained.weight.data = pretrained.weight.data.round(decimals=2)", loses=ID)
lora("base-normalised", INIT + "pretrained.weight.data /= pretrained.weight.data.norm()", loses=ID)
lora("base-reset", INIT + "pretrained.reset_parameters()", loses=ID)
lora(
    "bias-default",
    SIZES + FREEZE + "self.A = nn.Linear(i, rank)\nself.B = nn.Linear(rank, o)\nnn.init.zeros_(self.B.weight)",
    CALL,
    loses=ID,
)
lora(
    "b-bias",
    SIZES
    + FREEZE
    + "self.A = nn.Linear(i, rank, bias=False)\nself.B = nn.Linear(rank, o)\nnn.init.zeros_(self.B.weight)",
    CALL,
    loses=ID,
)
lora(
    "nonpersistent",
    "i, o, self.scaling = pretrained.in_features, pretrained.out_features, alpha / rank\nself.register_buffer('W', pretrained.weight.detach(), persistent=False)\nself.b = pretrained.bias\n"
    + AB,
    "return F.linear(x, self.W, self.b) + self.scaling * x @ self.A.T @ self.B.T",
    loses=ID,
)
lora(
    "dropout-on-all",
    INIT + "self.drop = nn.Dropout(0.3)",
    "return self.drop(self.pretrained(x) + self.scaling * (x @ self.A.T @ self.B.T))",
    loses=ID,
)
lora("ones", SIZES + "self.A = nn.Parameter(torch.ones(rank, i))\nself.B = nn.Parameter(torch.ones(o, rank))", loses=ID)
# ---- wrong: forward
lora(
    "a-bias",
    SIZES
    + FREEZE
    + "self.A = nn.Linear(i, rank)\nself.B = nn.Linear(rank, o, bias=False)\nnn.init.zeros_(self.B.weight)\nnn.init.ones_(self.A.bias)",
    CALL,
    loses=FW,
)
for name, between in {
    "relu": "torch.relu",
    "tanh": "torch.tanh",
    "gelu": "F.gelu",
    "leaky-relu": "F.leaky_relu",
    "silu": "F.silu",
    "abs": "torch.abs",
}.items():
    lora(
        f"between-{name}", LINEAR, f"return self.pretrained(x) + self.scaling * self.B({between}(self.A(x)))", loses=FW
    )
lora(
    "between-sigmoid",
    LINEAR,
    "return self.pretrained(x) + self.scaling * self.B(torch.sigmoid(self.A(x)))",
    loses=f"{FW} {RS}",
)
lora("softmax", LINEAR, "return self.pretrained(x) + self.scaling * self.B(self.A(x).softmax(-1))", loses=f"{FW} {RS}")
lora(
    "bias-truth",
    INIT,
    "y = F.linear(x, self.pretrained.weight)\nif self.pretrained.bias:\n    y = y + self.pretrained.bias\nreturn y + self.scaling * (x @ self.A.T @ self.B.T)",
    loses=FW,
)
lora(
    "needs-bias",
    INIT,
    "return x @ self.pretrained.weight.T + self.pretrained.bias + self.scaling * (x @ self.A.T @ self.B.T)",
    loses=FW,
)
lora(
    "two-d-only",
    INIT,
    "return self.pretrained(x) + self.scaling * torch.mm(torch.mm(x, self.A.t()), self.B.t())",
    loses=FW,
)
lora(
    "three-d-only",
    INIT,
    "return self.pretrained(x) + self.scaling * torch.einsum('nti,ri,or->nto', x, self.A, self.B)",
    loses=f"{FW} {GR}",
)
lora(
    "square-only",
    SIZES + "self.A = nn.Parameter(torch.randn(rank, i))\nself.B = nn.Parameter(torch.zeros(i, rank))",
    loses=FW,
)
lora(
    "hard-coded-768",
    SIZES + FREEZE + "self.A = nn.Parameter(torch.randn(rank, 768))\nself.B = nn.Parameter(torch.zeros(768, rank))",
    loses=FW,
)
lora(
    "output-relu",
    INIT,
    "return self.pretrained(x) + torch.relu(self.scaling * (x @ self.A.T @ self.B.T))",
    loses=f"{FW} {RS} {GR}",
)
lora("adapter-unused", INIT, "return self.pretrained(x)", loses=f"{FW} {RS} {GR}")
lora(
    "always-dropout",
    LINEAR,
    "return self.pretrained(x) + self.scaling * self.B(F.dropout(self.A(x), 0.5))",
    loses=f"{FW} {RS}",
)
lora(
    "b-only",
    LINEAR,
    "return self.pretrained(x) + self.scaling * self.B(x[..., :self.B.in_features])",
    loses=f"{FW} {RS} {GR}",
)
lora(
    "one-matrix",
    SIZES + "self.D = nn.Parameter(torch.zeros(o, i))",
    "return self.pretrained(x) + self.scaling * (x @ self.D.T)",
    loses=f"{FW} {RS} {GR}",
)
lora(
    "chained-on-base",
    SIZES + "self.A = nn.Parameter(torch.randn(rank, o))\nself.B = nn.Parameter(torch.zeros(o, rank))",
    "y = self.pretrained(x)\nreturn y + self.scaling * (y @ self.A.T @ self.B.T)",
    loses=f"{FW} {RS}",
)
lora(
    "three-factors",
    SIZES
    + "self.A = nn.Parameter(torch.randn(rank, i))\nself.M = nn.Parameter(torch.randn(rank, rank))\nself.B = nn.Parameter(torch.zeros(o, rank))",
    "return self.pretrained(x) + self.scaling * (x @ self.A.T @ self.M @ self.B.T)",
    loses=f"{FW} {RS}",
)
lora("squared", INIT, "return self.pretrained(x) + self.scaling * ((x * x) @ self.A.T @ self.B.T)", loses=f"{FW} {RS}")
lora(
    "mean-of-batch",
    INIT,
    "return self.pretrained(x) + self.scaling * (x.mean(0, keepdim=True) @ self.A.T @ self.B.T)",
    loses=FW,
)
# ---- wrong: rank and scaling
for name, scale in {"alpha": "alpha", "floor": "alpha // rank", "sqrt": "alpha / math.sqrt(rank)", "one": "1.0", "inverse": "rank / alpha", "two": "2.0", "times": "alpha * rank", "zero-point": "alpha / (rank + 1)", "minus": "-alpha / rank", "of-sizes": "alpha / pretrained.in_features", "integer": "int(alpha / rank)", "default": "24 / 12", "rounded": "round(alpha / rank, 1)", "twice": "2 * alpha / rank", "default-alpha": "24 / rank"}.items():  # fmt: skip
    lora(f"scale-{name}", INIT.replace("alpha / rank", scale), loses=RS)
lora(
    "scale-squared",
    INIT,
    "return self.pretrained(x) + self.scaling * self.scaling * (x @ self.A.T @ self.B.T)",
    loses=RS,
)
lora("scale-left-out", INIT, "return self.pretrained(x) + (x @ self.A.T @ self.B.T)", loses=RS)
lora("rank-fixed", "rank = 12\n" + INIT, loses=RS)
lora("rank-is-alpha", "rank, alpha = alpha, rank\n" + INIT, loses=RS)
lora("rank-plus-one", INIT.replace("(rank,", "(rank + 1,").replace("(o, rank)", "(o, rank + 1)"), loses=RS)
lora(
    "rank-doubled",
    INIT + "self.A = nn.Parameter(torch.randn(2 * rank, i))\nself.B = nn.Parameter(torch.zeros(o, 2 * rank))",
    loses=RS,
)
lora("subtracts", INIT, "return self.pretrained(x) - self.scaling * (x @ self.A.T @ self.B.T)", loses=RS)
lora("scale-zero", INIT + "self.scaling = 0.0", loses=f"{FW} {RS} {GR}")
# ---- wrong: gradients
lora(
    "both-zero",
    SIZES + "self.A = nn.Parameter(torch.zeros(rank, i))\nself.B = nn.Parameter(torch.zeros(o, rank))",
    loses=GR,
)
lora(
    "no-grad",
    INIT,
    "with torch.no_grad():\n    return self.pretrained(x) + self.scaling * (x @ self.A.T @ self.B.T)",
    loses=GR,
)
lora("detached-a", INIT, "return self.pretrained(x) + self.scaling * (x @ self.A.detach().T @ self.B.T)", loses=GR)
lora(
    "detached-inner", INIT, "return self.pretrained(x) + self.scaling * ((x @ self.A.T).detach() @ self.B.T)", loses=GR
)
lora(
    "detached-adapter",
    INIT,
    "return self.pretrained(x) + (self.scaling * (x @ self.A.T @ self.B.T)).detach()",
    loses=GR,
)
lora("data", INIT, "return self.pretrained(x) + self.scaling * (x @ self.A.data.T @ self.B.data.T)", loses=GR)
lora(
    "base-no-grad",
    INIT,
    "with torch.no_grad():\n    y = self.pretrained(x)\nreturn y + self.scaling * (x @ self.A.T @ self.B.T)",
    loses=GR,
)
lora(
    "input-detached",
    INIT,
    "x = x.detach()\nreturn self.pretrained(x) + self.scaling * (x @ self.A.T @ self.B.T)",
    loses=GR,
)
lora(
    "adapter-input-detached",
    INIT,
    "return self.pretrained(x) + self.scaling * (x.detach() @ self.A.T @ self.B.T)",
    loses=GR,
)
lora("a-frozen", INIT + "self.A.requires_grad = False", loses=GR)
lora("b-frozen", INIT + "self.B.requires_grad = False", loses=GR)
lora("all-frozen", INIT + "for p in self.parameters():\n    p.requires_grad = False", loses=GR)
lora(
    "factor-buffers",
    SIZES + "self.register_buffer('A', torch.randn(rank, i))\nself.register_buffer('B', torch.zeros(o, rank))",
    loses=GR,
)
lora(
    "plain-tensors",
    SIZES + "self.A = torch.randn(rank, i, requires_grad=True)\nself.B = torch.zeros(o, rank, requires_grad=True)",
    loses=GR,
)
lora(
    "plain-list",
    SIZES + "self.ab = [nn.Parameter(torch.randn(rank, i)), nn.Parameter(torch.zeros(o, rank))]",
    "return self.pretrained(x) + self.scaling * (x @ self.ab[0].T @ self.ab[1].T)",
    loses=GR,
)
lora(
    "linears-in-list",
    SIZES
    + "self.ab = [nn.Linear(i, rank, bias=False), nn.Linear(rank, o, bias=False)]\nnn.init.zeros_(self.ab[1].weight)",
    "return self.pretrained(x) + self.scaling * self.ab[1](self.ab[0](x))",
    loses=GR,
)
lora(
    "through-numpy",
    INIT,
    "d = torch.from_numpy((self.B @ self.A).detach().numpy())\nreturn self.pretrained(x) + self.scaling * (x @ d.T)",
    loses=GR,
)
lora(
    "new-tensor",
    INIT,
    "d = (self.B @ self.A).clone().detach().requires_grad_(True)\nreturn self.pretrained(x) + self.scaling * (x @ d.T)",
    loses=GR,
)
# ---- wrong: adversarial
lora("nan", INIT, "return self.pretrained(x) * float('nan')", loses=EVERYTHING)
lora(
    "integers",
    INIT,
    "return (self.pretrained(x) + self.scaling * (x @ self.A.T @ self.B.T)).round().int()",
    loses=f"{ID} {FW} {GR}",
)
lora(
    "object",
    INIT,
    "class Y:\n    shape = x.shape\n    __array__ = lambda s, *a, **k: x.numpy()\nreturn Y()",
    loses=EVERYTHING,
)
