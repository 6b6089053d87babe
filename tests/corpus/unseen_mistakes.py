"""Mistakes in the LoRA class that came after the first corpus, one root each: labelled before they were judged."""

from tests.corpus.base import PARTS, case, lora
from tests.corpus.unseen_class import AB, I_O, INIT, KEEP

# ---- wrong: the class
ID, FW, RS, GR = "lora/identity", "lora/forward", "lora/rank-scaling", "lora/gradients"
ALL = f"{ID} {FW} {RS} {GR}"
lora(
    "layer-norm-between",
    I_O
    + KEEP
    + "self.A = nn.Linear(i, rank, bias=False)\nself.B = nn.Linear(rank, o, bias=False)\nself.norm = nn.LayerNorm(rank)\nnn.init.zeros_(self.B.weight)",
    "return self.pretrained(x) + self.scaling * self.B(self.norm(self.A(x)))",
    loses=f"{FW} {RS}",
)
lora("base-twice", INIT, "y = self.pretrained(x)\nreturn y + y + self.scaling * (x @ self.A.T @ self.B.T)", loses=ID)
lora("base-in-scaling", INIT, "return self.scaling * (self.pretrained(x) + x @ self.A.T @ self.B.T)", loses=ID)
lora(
    "residual",
    INIT,
    "y = self.pretrained(x) + self.scaling * (x @ self.A.T @ self.B.T)\nreturn y + x if y.shape == x.shape else y",
    loses=ID,
)
lora(
    "residual-for-square-only",
    INIT,
    "return x + self.pretrained(x) + self.scaling * (x @ self.A.T @ self.B.T)",
    loses=ID,
)
case("lora-no-forward", lora=PARTS["lora"].replace("def forward", "def foward"), loses=ALL)
case(
    "lora-forward-inside-of-init",
    lora=PARTS["lora"]
    .replace("    def forward", "        def forward")
    .replace("        return", "            return"),
    loses=ALL,
)
lora("residual-in-place-of-the-base", INIT, "return x + self.scaling * (x @ self.A.T @ self.B.T)", loses=ID)
lora(
    "gate",
    INIT + "self.gate = nn.Parameter(torch.zeros(1))",
    "return self.pretrained(x) + torch.tanh(self.gate) * self.scaling * (x @ self.A.T @ self.B.T)",
    loses=f"{FW} {RS} {GR}",
)
lora("random-uniform-b", INIT + "nn.init.xavier_uniform_(self.B)", loses=ID)
lora("kaiming-b-zeros-a-missing", INIT + "nn.init.zeros_(self.A)", loses=GR)
lora(
    "weight-detached",
    INIT,
    "return F.linear(x, self.pretrained.weight + self.scaling * (self.B @ self.A).detach(), self.pretrained.bias)",
    loses=GR,
)
lora(
    "no-grad-decorator",
    INIT,
    "with torch.inference_mode():\n    d = x @ self.A.T\nreturn self.pretrained(x) + self.scaling * (d.clone() @ self.B.T)",
    loses=GR,
)
lora("scale-alpha-over-two", INIT.replace("alpha / rank", "alpha / 2"), loses=RS)
lora("scale-constant-default", INIT.replace("alpha / rank", "2"), loses=RS)
lora("scale-alpha-over-out", INIT.replace("alpha / rank", "alpha / o"), loses=RS)
lora("scale-alpha-over-rank-squared", INIT.replace("alpha / rank", "alpha / rank ** 2"), loses=RS)
lora("scale-max-one", INIT.replace("alpha / rank", "max(1, alpha / rank)"), loses=RS)
lora(
    "scale-in-both",
    INIT,
    "return self.pretrained(x) + self.scaling * ((self.scaling * x) @ self.A.T @ self.B.T)",
    loses=RS,
)
lora("rank-clipped", "rank = min(rank, 8)\n" + INIT, loses=RS)
lora(
    "rank-default-used",
    INIT.replace("torch.randn(rank, i)", "torch.randn(12, i)").replace("torch.zeros(o, rank)", "torch.zeros(o, 12)"),
    loses=RS,
)
lora("sizes-swapped", "o, i = pretrained.in_features, pretrained.out_features\n" + KEEP + AB, loses=FW)
lora(
    "weight-not-transposed",
    INIT,
    "return x @ self.pretrained.weight + (0 if self.pretrained.bias is None else self.pretrained.bias) + self.scaling * (x @ self.A.T @ self.B.T)",
    loses=ID,
)
lora(
    "bias-dropped-when-merging",
    INIT,
    "return F.linear(x, self.pretrained.weight + self.scaling * self.B @ self.A)",
    loses=ID,
)
lora(
    "tensor-not-parameter", INIT.replace("nn.Parameter(torch.randn(rank, i) * 0.02)", "torch.randn(rank, i)"), loses=GR
)
lora(
    "requires-grad-tensor",
    INIT.replace("nn.Parameter(torch.zeros(o, rank))", "torch.zeros(o, rank, requires_grad=True)"),
    loses=GR,
)
lora("prints-only", INIT, "print(self.pretrained(x).shape)", loses=ALL)
lora("forward-misspelt", INIT, "return x", loses=f"{ID} {FW} {RS} {GR}")
lora("numpy-scaling-int", INIT.replace("alpha / rank", "np.int64(alpha) // np.int64(rank)"), loses=RS)
lora("rank-and-alpha-ignored", "rank, alpha = 12, 24\n" + INIT, loses=RS)
lora(
    "dropout-always-on-input",
    INIT,
    "return self.pretrained(F.dropout(x, 0.1)) + self.scaling * (x @ self.A.T @ self.B.T)",
    loses=f"{ID} {FW}",
)
lora(
    "new-linear-same-bias",
    INIT.replace("self.pretrained = pretrained", "self.pretrained = nn.Linear(i, o, bias=pretrained.bias is not None)"),
    loses=ID,
)
lora(
    "copied-weight-no-bias",
    INIT.replace(
        "self.pretrained = pretrained",
        "self.pretrained = nn.Linear(i, o, bias=False)\nself.pretrained.weight.data = pretrained.weight.data.clone()",
    ),
    loses=ID,
)
lora(
    "a-only",
    I_O + KEEP + "self.A = nn.Parameter(torch.zeros(o, i))",
    "return self.pretrained(x) + self.scaling * x @ self.A.T",
    loses=f"{FW} {RS} {GR}",
)
lora(
    "trained-base-instead",
    INIT.replace("p.requires_grad = False", "p.requires_grad = True")
    + "self.A.requires_grad = self.B.requires_grad = False",
    loses=GR,
)

# ---- wrong: the output of some inputs, or of all, has another shape
lora(
    "flattens",
    INIT,
    "x = x.reshape(-1, x.shape[-1])\n" + "return self.pretrained(x) + self.scaling * (x @ self.A.T @ self.B.T)",
    loses=FW,
)
lora(
    "flattens-at-the-end",
    INIT,
    "y = self.pretrained(x) + self.scaling * (x @ self.A.T @ self.B.T)\nreturn y.flatten(0, -2)",
    loses=FW,
)
lora(
    "adds-a-dimension",
    INIT,
    "y = self.pretrained(x) + self.scaling * (x @ self.A.T @ self.B.T)\nreturn y.unsqueeze(0)",
    loses=ALL,
)
lora(
    "squeezed-mean",
    INIT,
    "y = self.pretrained(x) + self.scaling * (x @ self.A.T @ self.B.T)\nreturn y.mean(1) if y.dim() == 3 else y",
    loses=FW,
)
