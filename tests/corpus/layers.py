"""Cases of `extract_qv_layers` and `replace_layers`."""

from tests.corpus.base import case

EXTRACT_RIGHT = {
    "hard-coded": "return {f'distilbert.transformer.layer.{i}.attention.{n}': getattr(model.distilbert.transformer.layer[i].attention, n) for i in range(6) for n in ('q_lin', 'v_lin')}",
    "isinstance": "return {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) and ('q_lin' in n or 'v_lin' in n)}",
    "split": "return {n: m for n, m in model.named_modules() if n.split('.')[-1] in ('q_lin', 'v_lin')}",
    "enumerate": "d = {}\nfor i, layer in enumerate(model.distilbert.transformer.layer):\n    d[f'distilbert.transformer.layer.{i}.attention.q_lin'] = layer.attention.q_lin\n    d[f'distilbert.transformer.layer.{i}.attention.v_lin'] = layer.attention.v_lin\nreturn d",
    "get-submodule": "names = [f'distilbert.transformer.layer.{i}.attention.{x}_lin' for x in 'qv' for i in range(6)]\nreturn {n: model.get_submodule(n) for n in names}",
    "ordered": "import collections\nreturn collections.OrderedDict((n, m) for n, m in model.named_modules() if n.endswith(('q_lin', 'v_lin')))",
    "recursion": "found = {}\ndef walk(m, path):\n    for n, c in m.named_children():\n        if n in ('q_lin', 'v_lin'):\n            found[path + n] = c\n        walk(c, path + n + '.')\nwalk(model, '')\nreturn found",
    "regex": "import re\nreturn {n: m for n, m in dict(model.named_modules()).items() if re.search(r'\\.[qv]_lin$', n)}",
}
EXTRACT_WRONG = {
    "keys-too": "return {n: m for n, m in model.named_modules() if n.endswith(('q_lin', 'k_lin', 'v_lin'))}",
    "query-only": "return {n: m for n, m in model.named_modules() if n.endswith('q_lin')}",
    "query-key": "return {n: m for n, m in model.named_modules() if n.endswith(('q_lin', 'k_lin'))}",
    "all-attention": "return {n: m for n, m in model.named_modules() if 'attention' in n and isinstance(m, nn.Linear)}",
    "relative": "return {n: m for n, m in model.distilbert.named_modules() if n.endswith(('q_lin', 'v_lin'))}",
    "last-name": "return {n.split('.')[-1]: m for n, m in model.named_modules() if n.endswith(('q_lin', 'v_lin'))}",
    "list": "return [m for n, m in model.named_modules() if n.endswith(('q_lin', 'v_lin'))]",
    "pairs": "return [(n, m) for n, m in model.named_modules() if n.endswith(('q_lin', 'v_lin'))]",
    "none": "d = {n: m for n, m in model.named_modules() if n.endswith(('q_lin', 'v_lin'))}\nprint(d)",
    "weights": "return {n: m.weight for n, m in model.named_modules() if n.endswith(('q_lin', 'v_lin'))}",
    "parameters": "return {n: p for n, p in model.named_parameters() if 'q_lin' in n or 'v_lin' in n}",
    "copies": "return {n: copy.deepcopy(m) for n, m in model.named_modules() if n.endswith(('q_lin', 'v_lin'))}",
    "five-blocks": "return {f'distilbert.transformer.layer.{i}.attention.{n}': getattr(model.distilbert.transformer.layer[i].attention, n) for i in range(5) for n in ('q_lin', 'v_lin')}",
    "from-one": "return {f'distilbert.transformer.layer.{i+1}.attention.{n}': getattr(model.distilbert.transformer.layer[i].attention, n) for i in range(6) for n in ('q_lin', 'v_lin')}",
    "swapped": "d = {n: m for n, m in model.named_modules() if n.endswith(('q_lin', 'v_lin'))}\nreturn dict(zip(d, reversed(d.values())))",
    "empty": "return {n: m for n, m in model.named_modules() if n.endswith(('query', 'value'))}",
    "raises": "return {n: m for n, m in model.modules() if n.endswith(('q_lin', 'v_lin'))}",
    "q-in-name": "return {n: m for n, m in model.named_modules() if 'q_lin' in n or 'lin' in n}",
    "underscores": "return {n.replace('.', '_'): m for n, m in model.named_modules() if n.endswith(('q_lin', 'v_lin'))}",
    "with-weight": "return {n + '.weight': m for n, m in model.named_modules() if n.endswith(('q_lin', 'v_lin'))}",
    "early-return": "d = {}\nfor n, m in model.named_modules():\n    if n.endswith(('q_lin', 'v_lin')):\n        d[n] = m\n        return d",
    "attention-blocks": "return {n: m for n, m in model.named_modules() if n.endswith('attention')}",
    "by-module": "return {m: n for n, m in model.named_modules() if n.endswith(('q_lin', 'v_lin'))}",
    "index-keys": "return dict(enumerate(m for n, m in model.named_modules() if n.endswith(('q_lin', 'v_lin'))))",
    "head-too": "return {n: m for n, m in model.named_modules() if n.endswith(('q_lin', 'v_lin', 'classifier'))}",
}
REPLACE_RIGHT = {
    "getattr-walk": "for name, layer in named_layers.items():\n    *path, last = name.split('.')\n    m = model\n    for p in path:\n        m = getattr(m, p)\n    setattr(m, last, layer)",
    "returns-model": "for name, layer in named_layers.items():\n    parent, _, child = name.rpartition('.')\n    setattr(model.get_submodule(parent), child, layer)\nreturn model",
    "reduce": "for name, layer in named_layers.items():\n    *path, last = name.split('.')\n    setattr(functools.reduce(getattr, path, model), last, layer)",
    "set-submodule": "for name, layer in named_layers.items():\n    model.set_submodule(name, layer)",
    "modules-dict": "for name, layer in named_layers.items():\n    *path, last = name.split('.')\n    m = model\n    for p in path:\n        m = m._modules[p]\n    m._modules[last] = layer",
    "recursion": "def put(m, path, layer):\n    if len(path) == 1:\n        setattr(m, path[0], layer)\n    else:\n        put(getattr(m, path[0]), path[1:], layer)\nfor n, l in named_layers.items():\n    put(model, n.split('.'), l)",
    "by-search": "for name, module in list(model.named_modules()):\n    for child, _ in list(module.named_children()):\n        full = f'{name}.{child}' if name else child\n        if full in named_layers:\n            setattr(module, child, named_layers[full])",
    "index": "for name, layer in named_layers.items():\n    *path, last = name.split('.')\n    m = model\n    for p in path:\n        m = m[int(p)] if p.isdigit() else getattr(m, p)\n    if last.isdigit():\n        m[int(last)] = layer\n    else:\n        setattr(m, last, layer)",
    "true": "for name, layer in named_layers.items():\n    parent, _, child = name.rpartition('.')\n    model.get_submodule(parent).add_module(child, layer)\nreturn True",
    "dict": "modules = dict(model.named_modules())\nfor name, layer in named_layers.items():\n    parent, _, child = name.rpartition('.')\n    setattr(modules[parent], child, layer)",
}
REPLACE_WRONG = {
    "dotted-setattr": "for name, layer in named_layers.items():\n    setattr(model, name, layer)",
    "last-name-on-model": "for name, layer in named_layers.items():\n    setattr(model, name.split('.')[-1], layer)",
    "local-only": "for name, layer in named_layers.items():\n    m = model.get_submodule(name)\n    m = layer",
    "in-dict-only": "modules = dict(model.named_modules())\nfor name, layer in named_layers.items():\n    modules[name] = layer",
    "weights-only": "for name, layer in named_layers.items():\n    model.get_submodule(name).load_state_dict(layer.state_dict())",
    "parent-replaced": "for name, layer in named_layers.items():\n    *path, last = name.split('.')\n    setattr(model.get_submodule('.'.join(path[:-1])), path[-1] if path else last, layer)",
    "copy-of-model": "model = copy.deepcopy(model)\nfor name, layer in named_layers.items():\n    parent, _, child = name.rpartition('.')\n    setattr(model.get_submodule(parent), child, layer)\nreturn model",
    "copies-layers": "for name, layer in named_layers.items():\n    parent, _, child = name.rpartition('.')\n    setattr(model.get_submodule(parent), child, copy.deepcopy(layer))",
    "first-only": "for name, layer in named_layers.items():\n    parent, _, child = name.rpartition('.')\n    setattr(model.get_submodule(parent), child, layer)\n    return model",
    "distilbert-names": "for name, layer in named_layers.items():\n    i = int(name.split('.')[3])\n    setattr(model.distilbert.transformer.layer[i].attention, name.split('.')[-1], layer)",
    "q-and-v": "for i in range(6):\n    for n in ('q_lin', 'v_lin'):\n        setattr(model.distilbert.transformer.layer[i].attention, n, named_layers[f'distilbert.transformer.layer.{i}.attention.{n}'])",
    "needs-parent": "for name, layer in named_layers.items():\n    i = name.rindex('.')\n    setattr(model.get_submodule(name[:i]), name[i + 1:], layer)",
    "all-linears": "layers = list(named_layers.values())\nfor m in model.modules():\n    for n, c in list(m.named_children()):\n        if isinstance(c, nn.Linear):\n            setattr(m, n, layers[0])",
    "same-for-all": "last = list(named_layers.values())[-1]\nfor name in named_layers:\n    parent, _, child = name.rpartition('.')\n    setattr(model.get_submodule(parent), child, last)",
    "by-position": "names = [n for n, m in model.named_modules() if n.endswith(('q_lin', 'v_lin'))]\nfor name, layer in zip(names, named_layers.values()):\n    parent, _, child = name.rpartition('.')\n    setattr(model.get_submodule(parent), child, layer)",
    "also-old": "for name, layer in named_layers.items():\n    parent, _, child = name.rpartition('.')\n    p = model.get_submodule(parent)\n    setattr(p, child + '_old', getattr(p, child))\n    setattr(p, child, layer)",
    "nothing": "return model",
    "raises": "for name, layer in named_layers:\n    setattr(model, name, layer)",
    "parameter": "for name, layer in named_layers.items():\n    model.get_submodule(name).weight = layer.weight",
    "suffix-match": "for name, layer in named_layers.items():\n    for m in model.modules():\n        if hasattr(m, name.split('.')[-1]):\n            setattr(m, name.split('.')[-1], layer)",
    "dict-attribute": "for name, layer in named_layers.items():\n    parent, _, child = name.rpartition('.')\n    model.get_submodule(parent).__dict__[child] = layer",
    "drops-head": "for name, layer in named_layers.items():\n    parent, _, child = name.rpartition('.')\n    setattr(model.get_submodule(parent), child, layer)\nif hasattr(model, 'classifier'):\n    model.classifier = nn.Linear(2, 2)",
    "freezes-not": "for name, layer in named_layers.items():\n    parent, child = name.split('.', 1)\n    setattr(getattr(model, parent), child, layer)",
}  # fmt: skip


def _function(head: str, body: str) -> str:
    return f"def {head}:\n" + "\n".join(f"    {line}" for line in body.splitlines())


for part, right, wrong, head, criterion in (
    ("extract", EXTRACT_RIGHT, EXTRACT_WRONG, "extract_qv_layers(model)", "layers/extract"),
    ("replace", REPLACE_RIGHT, REPLACE_WRONG, "replace_layers(model, named_layers)", "layers/replace"),
):
    for name, body in right.items():
        case(f"{part}-{name}", **{part: _function(head, body)})
    for name, body in wrong.items():
        case(f"{part}-{name}", **{part: _function(head, body)}, loses=criterion)

case("extract-renamed", edit=("def extract_qv_layers", "def find_attention_projections"))
case("replace-renamed", edit=("def replace_layers", "def put_back"))
case("extract-missing", extract="", loses="layers/extract")
case("replace-missing", replace="", loses="layers/replace")
case(
    "layers-two-candidates",
    extract="def one(model):\n    return {n: m for n, m in model.named_modules() if n.endswith('q_lin')}\ndef two(model):\n    return {n: m for n, m in model.named_modules() if n.endswith('v_lin')}",
    loses="layers/extract",
)
