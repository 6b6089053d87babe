"""Cases of `count_trainable_parameters`."""

from tests.corpus.base import case

ALL = "count/distilbert count/frozen count/any-module"
RIGHT = {
    "loop": "n = 0\nfor p in model.parameters():\n    if p.requires_grad:\n        n += p.numel()\nreturn n",
    "np-prod": "return sum(np.prod(p.shape) for p in model.parameters() if p.requires_grad)",
    "np-prod-size": "return int(sum([np.prod(p.size()) for p in filter(lambda p: p.requires_grad, model.parameters())]))",
    "math-prod": "return sum(math.prod(p.shape) for p in model.parameters() if p.requires_grad)",
    "nelement": "return sum(p.nelement() for p in model.parameters() if p.requires_grad)",
    "torch-numel": "return sum(torch.numel(p) for p in model.parameters() if p.requires_grad)",
    "named": "total = 0\nfor name, p in model.named_parameters():\n    if not p.requires_grad:\n        continue\n    total += p.numel()\nprint(total)\nreturn total",
    "tensor": "return torch.tensor([p.numel() for p in model.parameters() if p.requires_grad], dtype=torch.int64).sum()",
    "float": "return float(sum(p.numel() for p in model.parameters() if p.requires_grad))",
    "np-sum": "return np.sum([p.numel() for p in model.parameters() if p.requires_grad])",
    "np-int64": "return np.int64(sum(p.numel() for p in model.parameters() if p.requires_grad))",
    "array": "return np.array(sum(p.numel() for p in model.parameters() if p.requires_grad))",
    "flatten": "return sum(len(p.flatten()) for p in model.parameters() if p.requires_grad)",
    "view": "return sum(p.view(-1).shape[0] for p in model.parameters() if p.requires_grad)",
    "is-true": "return sum([p.numel() for p in model.parameters() if p.requires_grad is True])",
    "reduce": "return functools.reduce(lambda n, p: n + p.numel() * p.requires_grad, model.parameters(), 0)",
    "numpy": "return sum(p.detach().numpy().size for p in model.parameters() if p.requires_grad)",
    "id-set": "seen = set()\nn = 0\nfor m in model.modules():\n    for p in m.parameters(recurse=False):\n        if p.requires_grad and id(p) not in seen:\n            seen.add(id(p))\n            n += p.numel()\nreturn n",
    "by-address": "return sum({p.data_ptr(): p.numel() for p in model.parameters() if p.requires_grad}.values())",
    "by-storage": "seen = {}\nfor p in model.parameters():\n    if p.requires_grad and not p.is_meta:\n        seen[p.untyped_storage().data_ptr()] = p.untyped_storage().nbytes() // p.element_size()\nreturn sum(seen.values())",
    "multiply": "n = 0\nfor p in model.parameters():\n    if p.requires_grad:\n        k = 1\n        for s in p.shape:\n            k *= s\n        n += k\nreturn n",
}
WRONG = {
    "tensors": ("return len([p for p in model.parameters() if p.requires_grad])", ALL.replace("count/frozen ", "")),
    "all": ("return sum(p.numel() for p in model.parameters())", "count/frozen"),
    "saved": ("return sum(v.numel() for v in model.state_dict().values())", "count/frozen count/any-module"),
    "num-parameters": ("return sum(p.numel() for n, p in model.named_parameters())", "count/frozen"),
    "only-print": ("print(sum(p.numel() for p in model.parameters() if p.requires_grad))", ALL),
    "string": ("return f'{sum(p.numel() for p in model.parameters() if p.requires_grad):,}'", ALL),
    "constant": ("return 66955010", "count/frozen count/any-module"),
    "frozen-only": ("return sum(p.numel() for p in model.parameters() if not p.requires_grad)", ALL),
    "no-bias": ("return sum(p.numel() for n, p in model.named_parameters() if p.requires_grad and 'bias' not in n)", "count/distilbert count/any-module"),
    "shared-twice": ("return sum(p.numel() for m in model.modules() for p in m.parameters(recurse=False) if p.requires_grad)", "count/any-module"),
    "nested-twice": ("return sum(p.numel() for m in model.children() for p in m.parameters() if p.requires_grad)", "count/any-module"),
    "modules-sum": ("return sum(p.numel() for m in model.modules() for p in m.parameters() if p.requires_grad)", "count/distilbert count/any-module"),
    "own-only": ("return sum(p.numel() for p in model.parameters(recurse=False) if p.requires_grad)", ALL),
    "first-axis": ("return sum(p.shape[0] if p.dim() else 1 for p in model.parameters() if p.requires_grad)", "count/distilbert count/any-module"),
    "last-axis": ("return sum(p.shape[-1] if p.dim() else 1 for p in model.parameters() if p.requires_grad)", "count/distilbert count/any-module"),
    "buffers-too": ("return sum(p.numel() for p in model.parameters() if p.requires_grad) + sum(b.numel() for b in model.buffers())", "count/distilbert count/any-module"),
    "two-axes": ("return sum(p.shape[0] * p.shape[1] if p.dim() > 1 else p.numel() for p in model.parameters() if p.requires_grad)", "count/any-module"),
    "matrices-only": ("return sum(p.numel() for p in model.parameters() if p.requires_grad and p.dim() > 1)", "count/distilbert count/any-module"),
    "scalar-lost": ("return sum(p.numel() for p in model.parameters() if p.requires_grad and p.dim() > 0)", "count/any-module"),
    "distilbert-only": ("return sum(p.numel() for part in (model.distilbert, model.pre_classifier, model.classifier) for p in part.parameters() if p.requires_grad)", "count/any-module"),
    "distilbert-numpy": ("return sum(p.detach().numpy().size for part in (model.distilbert, model.pre_classifier, model.classifier) for p in part.parameters() if p.requires_grad)", "count/any-module"),
    "none-when-unknown": ("try:\n    return sum(p.detach().numpy().size for part in (model.distilbert, model.pre_classifier, model.classifier) for p in part.parameters() if p.requires_grad)\nexcept AttributeError:\n    return None", "count/any-module"),
    "linear-only": ("return sum(p.numel() for m in model.modules() if isinstance(m, nn.Linear) for p in m.parameters() if p.requires_grad)", "count/distilbert count/any-module"),
    "millions": ("return sum(p.numel() for p in model.parameters() if p.requires_grad) / 1e6", ALL),
    "rounded": ("return round(sum(p.numel() for p in model.parameters() if p.requires_grad), -3)", "count/distilbert count/any-module count/frozen"),
    "list": ("return [p.numel() for p in model.parameters() if p.requires_grad]", ALL),
    "tuple": ("n = sum(p.numel() for p in model.parameters() if p.requires_grad)\nreturn n, n", ALL),
    "early-return": ("n = 0\nfor p in model.parameters():\n    if p.requires_grad:\n        n += p.numel()\n    return n", ALL),
    "sum-of-shape": ("return sum(sum(p.shape) for p in model.parameters() if p.requires_grad)", "count/distilbert count/any-module"),
    "byte-count": ("return sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)", "count/distilbert count/any-module"),
    "nonzero": ("return int(sum((p != 0).sum() for p in model.parameters() if p.requires_grad))", "count/distilbert count/any-module"),
    "module-flag": ("return sum(p.numel() for m in model.modules() for p in m.parameters(recurse=False) if getattr(m, 'requires_grad', True))", "count/frozen count/any-module"),
    "grad-there": ("return sum(p.numel() for p in model.parameters() if p.grad is not None)", ALL),
    "first-of-layer": ("n = 0\nfor m in model.modules():\n    own = list(m.parameters(recurse=False))\n    if own and own[0].requires_grad:\n        n += sum(p.numel() for p in own)\nreturn n", "count/frozen count/any-module"),
    "off-by-one": ("return 1 + sum(p.numel() for p in model.parameters() if p.requires_grad)", "count/distilbert count/any-module"),
    "bool": ("return sum(p.numel() for p in model.parameters() if p.requires_grad) > 0", ALL),
    "nan": ("return float('nan')", ALL),
    "raises": ("return model.num_params()", ALL),
    "vector": ("return torch.tensor([sum(p.numel() for p in model.parameters() if p.requires_grad)])", ALL),
    "thaws": ("for p in model.parameters():\n    p.requires_grad = True\nreturn sum(p.numel() for p in model.parameters() if p.requires_grad)", "count/frozen"),
    "percent": ("a = sum(p.numel() for p in model.parameters())\nb = sum(p.numel() for p in model.parameters() if p.requires_grad)\nreturn 100 * b / max(a, 1)", ALL),
    "fails-on-nothing": ("return functools.reduce(lambda a, b: a + b, [p.numel() for p in model.parameters() if p.requires_grad])", "count/frozen"),
}  # fmt: skip


def _function(body: str) -> str:
    return "def count_trainable_parameters(model):\n" + "\n".join(f"    {line}" for line in body.splitlines())


for name, body in RIGHT.items():
    case(f"count-{name}", count=_function(body))
for name, (body, loses) in WRONG.items():
    case(f"count-{name}", count=_function(body), loses=loses)

case(
    "count-annotated",
    count="def count_trainable_parameters(model: nn.Module, verbose: bool = False) -> int:\n    return sum(p.numel() for p in model.parameters() if p.requires_grad)",
)
case(
    "count-lambda",
    count="count_trainable_parameters = lambda m: sum(p.numel() for p in m.parameters() if p.requires_grad)",
)
case(
    "count-renamed",
    count="def trainable(model):\n    return sum(p.numel() for p in model.parameters() if p.requires_grad)",
)
case(
    "count-redefined",
    count="def count_trainable_parameters(model):\n    return 0\ndef count_trainable_parameters(model):\n    return sum(p.numel() for p in model.parameters() if p.requires_grad)",
)
case("count-missing", count="", loses=ALL)
case(
    "count-two-arguments",
    count="def count_trainable_parameters(model, name):\n    return sum(p.numel() for p in model.parameters() if p.requires_grad)",
    loses=ALL,
)
case(
    "count-equal-to-everything",
    count="class Yes(int):\n    __eq__ = lambda s, o: True\n    __hash__ = int.__hash__\n    __int__ = lambda s: 66955010\ndef count_trainable_parameters(model):\n    return Yes(5)",
    loses=ALL,
)
case(
    "count-array-protocol",
    count="class Any:\n    __array__ = lambda s, *a, **k: np.array(66955010)\n    __int__ = lambda s: 66955010\ndef count_trainable_parameters(model):\n    return Any()",
    loses=ALL,
)
case(
    "count-float-subclass",
    count="class Yes(float):\n    __float__ = lambda s: 66955010.0\n    __eq__ = lambda s, o: True\ndef count_trainable_parameters(model):\n    return Yes(0.5)",
    loses=ALL,
)
