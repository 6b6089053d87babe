"""Cases of the functions in handwritings that came after the first corpus: labelled before they were judged."""

from tests.corpus.base import case

# ---- right: counting
for name, body in {
    "state-dict": "return sum(v.numel() for k, v in model.state_dict(keep_vars=True).items() if v.requires_grad) if len({id(p) for p in model.parameters()}) == len(model.state_dict()) else sum(p.numel() for p in model.parameters() if p.requires_grad)",
    "pandas": "import pandas as pd\ndf = pd.DataFrame([(n, p.numel(), p.requires_grad) for n, p in model.named_parameters()], columns=['n', 'k', 't'])\nreturn df.loc[df['t'] == True, 'k'].sum()",
    "map": "return sum(map(torch.Tensor.numel, filter(lambda p: p.requires_grad, model.parameters())))",
    "generator": "def sizes():\n    for p in model.parameters():\n        if p.requires_grad:\n            yield p.numel()\nreturn sum(sizes())",
    "stack": "n = torch.zeros(1, dtype=torch.long)\nfor p in model.parameters():\n    n += p.numel() if p.requires_grad else 0\nreturn n.item()",
    "flat-vector": "return torch.nn.utils.parameters_to_vector([torch.zeros(1)] + [p for p in model.parameters() if p.requires_grad]).numel() - 1",
    "total-minus-frozen": "total = sum(p.numel() for p in model.parameters())\nfrozen = sum(p.numel() for p in model.parameters() if not p.requires_grad)\nreturn total - frozen",
    "np-int32": "return np.int32(sum(p.numel() for p in model.parameters() if p.requires_grad))",
    "walrus": "n = 0\nit = model.parameters()\nwhile (p := next(it, None)) is not None:\n    n += p.numel() * int(p.requires_grad)\nreturn n",
    "shape-numel": "return sum(p.shape.numel() for p in model.parameters() if p.requires_grad)",
    "ravel": "return sum(p.detach().ravel().size(0) for p in model.parameters() if p.requires_grad)",
    "torch-sum": "return torch.sum(torch.tensor([0] + [p.numel() for p in model.parameters() if p.requires_grad]))",
}.items():
    case(
        f"count-{name}",
        count="def count_trainable_parameters(model):\n" + "\n".join("    " + line for line in body.splitlines()),
    )
case(
    "count-method-like",
    count="class Counter:\n    def __call__(self, model):\n        return sum(p.numel() for p in model.parameters() if p.requires_grad)\ncount_trainable_parameters = Counter()",
)
case(
    "count-partial",
    count="def count(model, trainable):\n    return sum(p.numel() for p in model.parameters() if p.requires_grad == trainable)\ncount_trainable_parameters = functools.partial(count, trainable=True)",
)
case(
    "count-cached",
    count="@functools.lru_cache\ndef count_trainable_parameters(model):\n    return sum(p.numel() for p in model.parameters() if p.requires_grad)",
)
case(
    "count-keyword-default",
    count="def count_trainable_parameters(model=None, *, fmt=False):\n    n = sum(p.numel() for p in model.parameters() if p.requires_grad)\n    return f'{n}' if fmt else n",
)
# ---- wrong: counting
for name, (body, loses) in {
    "hf-method": ("return model.num_parameters(only_trainable=True)", "count/any-module"),
    "hf-method-all": ("return model.num_parameters()", "count/frozen count/any-module"),
    "children-only": ("return sum(p.numel() for c in model.children() for p in c.parameters(recurse=False) if p.requires_grad)", "count/distilbert count/frozen count/any-module"),
    "first-frozen-stops": ("n = 0\nfor p in model.parameters():\n    if not p.requires_grad:\n        break\n    n += p.numel()\nreturn n", "count/frozen"),
    "weights-by-name": ("return sum(p.numel() for n, p in model.named_parameters() if p.requires_grad and n.endswith('weight'))", "count/distilbert count/any-module"),
    "frozen-by-name": ("return sum(p.numel() for n, p in model.named_parameters() if 'distilbert' not in n or p.requires_grad)", "count/frozen"),
    "state-dict-all": ("return sum(v.numel() for v in model.state_dict().values())", "count/frozen count/any-module"),
    "two-dim-product": ("return sum(p.size(0) * p.size(-1) for p in model.parameters() if p.requires_grad and p.dim())", "count/distilbert count/any-module"),
    "comma-string": ("return format(sum(p.numel() for p in model.parameters() if p.requires_grad), ',d')", "count/distilbert count/frozen count/any-module"),
    "dict": ("return {'trainable': sum(p.numel() for p in model.parameters() if p.requires_grad)}", "count/distilbert count/frozen count/any-module"),
    "int32-overflow": ("return int(np.array([p.numel() for p in model.parameters() if p.requires_grad], dtype=np.int16).sum())", "count/distilbert"),
}.items():  # fmt: skip
    case(
        f"count-{name}",
        count="def count_trainable_parameters(model):\n" + "\n".join("    " + line for line in body.splitlines()),
        loses=loses,
    )


# ---- right: extracting and replacing
def function(part, name, head, body, loses=""):
    case(
        f"{part}-{name}",
        **{part: f"def {head}:\n" + "\n".join("    " + line for line in body.splitlines())},
        loses=loses,
    )


EXTRACT = "extract_qv_layers(model)"
function(
    "extract",
    "defaultdict",
    EXTRACT,
    "import collections\nd = collections.defaultdict(lambda: None)\nfor n, m in model.named_modules():\n    if n.endswith('q_lin') or n.endswith('v_lin'):\n        d[n] = m\nreturn d",
)
function(
    "extract",
    "own-dict",
    EXTRACT,
    "class Layers(dict):\n    pass\nreturn Layers((n, m) for n, m in model.named_modules() if n.endswith(('q_lin', 'v_lin')))",
)
function(
    "extract",
    "prefix-argument",
    "extract_qv_layers(model, names=('q_lin', 'v_lin'), verbose=True)",
    "return {n: m for n, m in model.named_modules() if any(n.endswith(x) for x in names)}",
)
function(
    "extract",
    "base-model",
    EXTRACT,
    "prefix = model.base_model_prefix\nreturn {f'{prefix}.{n}': m for n, m in model.base_model.named_modules() if n.split('.')[-1] in {'q_lin', 'v_lin'}}",
)
function(
    "extract",
    "update",
    EXTRACT,
    "out = {}\nfor k in range(model.config.n_layers):\n    att = model.distilbert.transformer.layer[k].attention\n    out.update({f'distilbert.transformer.layer.{k}.attention.{w}': m for w, m in att.named_children() if w[0] in 'qv' and w.endswith('_lin')})\nreturn out",
)
function(
    "extract",
    "by-identity",
    EXTRACT,
    "wanted = {id(b.attention.q_lin) for b in model.distilbert.transformer.layer} | {id(b.attention.v_lin) for b in model.distilbert.transformer.layer}\nreturn {n: m for n, m in model.named_modules() if id(m) in wanted}",
)
function(
    "extract",
    "from-parameters",
    EXTRACT,
    "names = [n[:-len('.weight')] for n, p in model.named_parameters() if n.endswith(('q_lin.weight', 'v_lin.weight'))]\nreturn {n: model.get_submodule(n) for n in names}",
)
function(
    "extract",
    "eval-string",
    EXTRACT,
    "d = {}\nfor i in range(6):\n    for a in ['q_lin', 'v_lin']:\n        name = f'distilbert.transformer.layer.{i}.attention.{a}'\n        d[name] = eval(f'model.distilbert.transformer.layer[{i}].attention.{a}')\nreturn d",
)
function(
    "extract",
    "mappingproxy",
    EXTRACT,
    "import types\nreturn types.MappingProxyType({n: m for n, m in model.named_modules() if n.endswith(('q_lin', 'v_lin'))})",
)
function(
    "extract",
    "generator",
    EXTRACT,
    "for n, m in model.named_modules():\n    if n.endswith(('q_lin', 'v_lin')):\n        yield n, m",
    "layers/extract",
)
function(
    "extract",
    "module-prefix",
    EXTRACT,
    "return {'model.' + n: m for n, m in model.named_modules() if n.endswith(('q_lin', 'v_lin'))}",
    "layers/extract",
)
function(
    "extract",
    "nested",
    EXTRACT,
    "return {i: {'q_lin': b.attention.q_lin, 'v_lin': b.attention.v_lin} for i, b in enumerate(model.distilbert.transformer.layer)}",
    "layers/extract",
)
function(
    "extract",
    "output-instead-of-value",
    EXTRACT,
    "return {n: m for n, m in model.named_modules() if n.endswith(('q_lin', 'out_lin'))}",
    "layers/extract",
)
function(
    "extract",
    "new-linears",
    EXTRACT,
    "return {n: nn.Linear(m.in_features, m.out_features) for n, m in model.named_modules() if n.endswith(('q_lin', 'v_lin'))}",
    "layers/extract",
)
function(
    "extract",
    "names-only",
    EXTRACT,
    "return [n for n, m in model.named_modules() if n.endswith(('q_lin', 'v_lin'))]",
    "layers/extract",
)
function(
    "extract",
    "from-zero-to-four",
    EXTRACT,
    "return {n: m for n, m in model.named_modules() if n.endswith(('q_lin', 'v_lin')) and int(n.split('.')[3]) < 5}",
    "layers/extract",
)
function(
    "extract",
    "global-model",
    EXTRACT,
    "return {n: m for n, m in bert.named_modules() if n.endswith(('q_lin', 'v_lin'))}",
    "layers/extract",
)
function(
    "extract",
    "overwritten-key",
    EXTRACT,
    "d = {}\nfor n, m in model.named_modules():\n    if n.endswith(('q_lin', 'v_lin')):\n        d[n.rpartition('.')[0]] = m\nreturn d",
    "layers/extract",
)

REPLACE = "replace_layers(model, named_layers)"
PUT = "parent, _, child = name.rpartition('.')\n    setattr(model.get_submodule(parent), child, layer)"
function(
    "replace",
    "while-iterating",
    REPLACE,
    "for name, module in model.named_modules():\n    if name in named_layers:\n        parent, _, child = name.rpartition('.')\n        setattr(model.get_submodule(parent) if parent else model, child, named_layers[name])\nreturn model",
)
function(
    "replace",
    "keys",
    REPLACE,
    "for name in list(named_layers.keys()):\n    layer = named_layers[name]\n    "
    + PUT
    + "\n    print('replaced', name)",
)
function("replace", "pops", REPLACE, "while named_layers:\n    name, layer = named_layers.popitem()\n    " + PUT)
function(
    "replace",
    "exec",
    REPLACE,
    "import re\nfor name, layer in named_layers.items():\n    parts = name.split('.')\n    target = model\n    for part in parts[:-1]:\n        target = target[part] if isinstance(target, nn.ModuleDict) else target[int(part)] if isinstance(target, (nn.ModuleList, nn.Sequential)) else getattr(target, part)\n    if isinstance(target, (nn.Sequential, nn.ModuleList)):\n        target[int(parts[-1])] = layer\n    elif isinstance(target, nn.ModuleDict):\n        target[parts[-1]] = layer\n    else:\n        setattr(target, parts[-1], layer)\nreturn model",
)
function(
    "replace",
    "to-device",
    REPLACE,
    "device = next(model.parameters()).device\nfor name, layer in named_layers.items():\n    layer = layer.to(device)\n    "
    + PUT,
)
function(
    "replace",
    "model-device",
    REPLACE,
    "for name, layer in named_layers.items():\n    layer.to(model.device)\n    " + PUT + "\nreturn model",
)
function(
    "replace",
    "recursive-children",
    REPLACE,
    "def visit(module, path):\n    for n, child in module.named_children():\n        full = f'{path}.{n}' if path else n\n        if full in named_layers:\n            module._modules[n] = named_layers[full]\n        else:\n            visit(child, full)\nvisit(model, '')\nreturn model",
)
function(
    "replace",
    "by-identity",
    REPLACE,
    "old = {id(model.get_submodule(n)): l for n, l in named_layers.items()}\nfor m in list(model.modules()):\n    for n, c in list(m.named_children()):\n        if id(c) in old:\n            setattr(m, n, old[id(c)])",
)
function(
    "replace",
    "dict-items-sorted",
    REPLACE,
    "for name, layer in sorted(named_layers.items(), key=lambda kv: kv[0]):\n    " + PUT + "\nreturn named_layers",
)
function(
    "replace",
    "annotated",
    "replace_layers(model: nn.Module, named_layers: dict[str, nn.Module], strict: bool = True) -> nn.Module",
    "for name, layer in named_layers.items():\n    if strict and name not in dict(model.named_modules()):\n        raise KeyError(name)\n    "
    + PUT
    + "\nreturn model",
)
function(
    "replace",
    "asserts-sizes",
    REPLACE,
    "for name, layer in named_layers.items():\n    old = model.get_submodule(name)\n    assert isinstance(old, nn.Linear) and isinstance(layer, nn.Module)\n    "
    + PUT,
)
function(
    "replace",
    "other-names",
    "replace_layers(m, d)",
    "for k, v in d.items():\n    p, c = k.rsplit('.', 1) if '.' in k else ('', k)\n    setattr(m.get_submodule(p), c, v)",
)
function(
    "replace",
    "shadowed-variable",
    REPLACE,
    "for name, layer in named_layers.items():\n    for part in name.split('.')[:-1]:\n        model = getattr(model, part)\n    setattr(model, name.split('.')[-1], layer)",
    "layers/replace",
)
function(
    "replace",
    "strips-root",
    REPLACE,
    "for name, layer in named_layers.items():\n    name = name.replace('distilbert.', '', 1)\n    " + PUT,
    "layers/replace",
)
function(
    "replace",
    "first-part",
    REPLACE,
    "for name, layer in named_layers.items():\n    setattr(model, name.split('.')[0], layer)",
    "layers/replace",
)
function(
    "replace",
    "wraps-again",
    REPLACE,
    "for name, layer in named_layers.items():\n    parent, _, child = name.rpartition('.')\n    setattr(model.get_submodule(parent), child, LoRA(layer))",
    "layers/replace",
)
function(
    "replace",
    "sequential-wrap",
    REPLACE,
    "for name, layer in named_layers.items():\n    parent, _, child = name.rpartition('.')\n    setattr(model.get_submodule(parent), child, nn.Sequential(layer))",
    "layers/replace",
)
function(
    "replace",
    "seen-by-suffix",
    REPLACE,
    "for name, module in model.named_modules():\n    for n, layer in named_layers.items():\n        for c in dict(module.named_children()):\n            if n.endswith(c):\n                setattr(module, c, layer)",
    "layers/replace",
)
function(
    "replace",
    "ends-early",
    REPLACE,
    "for i, (name, layer) in enumerate(named_layers.items()):\n    if i == len(named_layers) - 1:\n        break\n    "
    + PUT,
    "layers/replace",
)
