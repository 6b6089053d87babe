"""Forty notebooks around public ways of writing LoRA layers, counters, freezing and training loops; written anew, nothing copied.

Each of them is a whole handwriting: its own counter, its own way to find and replace layers, its own class, freezing and training.
"""

from tests.corpus.training import STEPS, training

SETUP = (
    STEPS["setup"]
    + """
from torch.utils.data import DataLoader, Dataset, TensorDataset
MASK = torch.ones_like(IDS)
ROWS = [{"input_ids": i, "attention_mask": m, "labels": l} for i, m, l in zip(IDS, MASK, LABELS)]
LOADER = DataLoader(ROWS, batch_size=4, shuffle=True)
QUIET = dict(output_dir=HOME, report_to="none", disable_tqdm=True, logging_strategy="no", save_strategy="no", use_cpu=True)
"""
)
# ---- counters
COUNT = {
    "one-line": "return sum(p.numel() for p in model.parameters() if p.requires_grad)",
    "loop": "total = 0\nfor name, param in model.named_parameters():\n    if param.requires_grad:\n        total += param.nelement()\nreturn total",
    "numpy": "return int(np.sum([np.prod(p.size()) for p in model.parameters() if p.requires_grad]))",
    "table": "import pandas as pd\nrows = [(n, p.numel(), p.requires_grad) for n, p in model.named_parameters()]\nframe = pd.DataFrame(rows, columns=['name', 'size', 'trainable'])\nprint(frame.tail())\nreturn int(frame[frame.trainable.astype(bool)]['size'].sum()) if len(frame) else 0",
    "two-numbers-printed": "trainable, every = 0, 0\nfor p in model.parameters():\n    n = p.numel()\n    every += n\n    if p.requires_grad:\n        trainable += n\nprint(f'trainable params: {trainable:,} || all params: {every:,} || trainable%: {100 * trainable / max(every, 1):.4f}')\nreturn trainable",
    "by-module": "seen, total = set(), 0\nfor module in model.modules():\n    for p in module.parameters(recurse=False):\n        if p.requires_grad and p not in seen:\n            seen.add(p)\n            total += p.numel()\nreturn total",
    "math": "return sum(math.prod(p.shape) for p in filter(lambda p: p.requires_grad, model.parameters()))",
    "vector": "own = [p.detach().reshape(-1) for p in model.parameters() if p.requires_grad]\nreturn sum(map(len, own))",
}
# ---- finding and replacing
EXTRACT = {
    "suffix": "return {n: m for n, m in model.named_modules() if n.endswith(('q_lin', 'v_lin'))}",
    "blocks": "layers = {}\nfor i, block in enumerate(model.distilbert.transformer.layer):\n    prefix = f'distilbert.transformer.layer.{i}.attention'\n    layers[f'{prefix}.q_lin'] = block.attention.q_lin\n    layers[f'{prefix}.v_lin'] = block.attention.v_lin\nreturn layers",
    "regex": "import re\npattern = re.compile(r'.*attention\\.(q_lin|v_lin)$')\nreturn {n: m for n, m in model.named_modules() if pattern.fullmatch(n)}",
    "targets": "targets = ['q_lin', 'v_lin']\nfound = {}\nfor name, module in model.named_modules():\n    if isinstance(module, nn.Linear) and any(name.split('.')[-1] == t for t in targets):\n        found[name] = module\nreturn found",
}
REPLACE = {
    "rpartition": "for name, layer in named_layers.items():\n    parent, _, child = name.rpartition('.')\n    setattr(model.get_submodule(parent), child, layer)",
    "getattr": "for name, layer in named_layers.items():\n    *path, last = name.split('.')\n    module = model\n    for part in path:\n        module = getattr(module, part)\n    setattr(module, last, layer)\nreturn model",
    "recursive": "def visit(module, prefix=''):\n    for child_name, child in list(module.named_children()):\n        full = prefix + child_name\n        if full in named_layers:\n            setattr(module, child_name, named_layers[full])\n        else:\n            visit(child, full + '.')\nvisit(model)",
    "reduce": "for name, layer in named_layers.items():\n    path = name.split('.')\n    setattr(functools.reduce(getattr, path[:-1], model), path[-1], layer)",
    "set-submodule": "for name, layer in named_layers.items():\n    model.set_submodule(name, layer)",
}
# ---- the class
LORA = {
    "paper": """class LoRA(nn.Module):
    '''h = W0 x + (alpha / r) B A x'''
    def __init__(self, pretrained: nn.Linear, rank: int = 12, alpha: float = 24):
        super().__init__()
        self.W0 = pretrained
        self.W0.weight.requires_grad = False
        if self.W0.bias is not None:
            self.W0.bias.requires_grad = False
        self.A = nn.Parameter(torch.empty(rank, pretrained.in_features))
        self.B = nn.Parameter(torch.zeros(pretrained.out_features, rank))
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        self.scale = alpha / rank
    def forward(self, x):
        return self.W0(x) + self.scale * F.linear(F.linear(x, self.A), self.B)
""",
    "merging-linear": """class AdapterState:
    def __init__(self, r, lora_alpha, lora_dropout, merge_weights):
        self.r, self.lora_alpha = r, lora_alpha
        self.lora_dropout = nn.Dropout(p=lora_dropout) if lora_dropout > 0.0 else (lambda x: x)
        self.merged, self.merge_weights = False, merge_weights
class LoRA(nn.Linear, AdapterState):
    def __init__(self, pretrained, r=12, lora_alpha=24, lora_dropout=0.0, merge_weights=True):
        nn.Linear.__init__(self, pretrained.in_features, pretrained.out_features, bias=pretrained.bias is not None)
        AdapterState.__init__(self, r, lora_alpha, lora_dropout, merge_weights)
        self.weight.data.copy_(pretrained.weight.data)
        if self.bias is not None:
            self.bias.data.copy_(pretrained.bias.data)
            self.bias.requires_grad = False
        self.weight.requires_grad = False
        self.lora_A = nn.Parameter(self.weight.new_zeros((r, self.in_features)))
        self.lora_B = nn.Parameter(self.weight.new_zeros((self.out_features, r)))
        self.scaling = self.lora_alpha / self.r
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
    def train(self, mode=True):
        nn.Linear.train(self, mode)
        if mode and self.merge_weights and self.merged:
            self.weight.data -= (self.lora_B @ self.lora_A).data * self.scaling
            self.merged = False
        if not mode and self.merge_weights and not self.merged:
            self.weight.data += (self.lora_B @ self.lora_A).data * self.scaling
            self.merged = True
        return self
    def forward(self, x):
        result = F.linear(x, self.weight, bias=self.bias)
        if self.r > 0 and not self.merged:
            result = result + (self.lora_dropout(x) @ self.lora_A.t() @ self.lora_B.t()) * self.scaling
        return result
""",
    "einsum": """class LoRALayer(nn.Module):
    def __init__(self, layer, rank, alpha):
        super().__init__()
        self.layer, self.factor = layer, alpha / rank
        self.down = nn.Parameter(torch.randn(layer.in_features, rank) / math.sqrt(rank))
        self.up = nn.Parameter(torch.zeros(rank, layer.out_features))
    def forward(self, x):
        return self.layer(x) + self.factor * torch.einsum('...i,ir,ro->...o', x, self.down, self.up)
""",
    "parametrized": """class LowRank(nn.Module):
    def __init__(self, fan_in, fan_out, rank, alpha):
        super().__init__()
        self.lora_A = nn.Parameter(torch.zeros(rank, fan_in))
        self.lora_B = nn.Parameter(torch.zeros(fan_out, rank))
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        self.scaling = alpha / rank
    def forward(self, weight):
        return weight + torch.matmul(self.lora_B, self.lora_A).view(weight.shape) * self.scaling
    @classmethod
    def of(cls, layer, rank, alpha):
        fan_out, fan_in = layer.weight.shape
        return cls(fan_in, fan_out, rank, alpha)
def LoRA(pretrained, rank=12, alpha=24):
    from torch.nn.utils import parametrize
    pretrained.requires_grad_(False)
    parametrize.register_parametrization(pretrained, 'weight', LowRank.of(pretrained, rank, alpha))
    return pretrained
""",
    "forward-hook": """class LoRA(nn.Module):
    def __init__(self, pretrained, rank=12, alpha=24):
        super().__init__()
        self.base = pretrained.requires_grad_(False)
        self.lora_down = nn.Linear(pretrained.in_features, rank, bias=False)
        self.lora_up = nn.Linear(rank, pretrained.out_features, bias=False)
        nn.init.normal_(self.lora_down.weight, std=1 / rank)
        nn.init.zeros_(self.lora_up.weight)
        self.base.register_forward_hook(lambda m, args, out: out + self.lora_up(self.lora_down(args[0])) * alpha / rank)
    def forward(self, x):
        return self.base(x)
""",
    "layer-and-wrapper": """class LoRALayer(torch.nn.Module):
    def __init__(self, in_dim, out_dim, rank, alpha):
        super().__init__()
        std_dev = 1 / torch.sqrt(torch.tensor(rank).float())
        self.A = torch.nn.Parameter(torch.randn(in_dim, rank) * std_dev)
        self.B = torch.nn.Parameter(torch.zeros(rank, out_dim))
        self.alpha, self.rank = alpha, rank
    def forward(self, x):
        return self.alpha / self.rank * (x @ self.A @ self.B)
class LinearWithLoRA(torch.nn.Module):
    def __init__(self, linear, rank, alpha):
        super().__init__()
        self.linear = linear
        self.lora = LoRALayer(linear.in_features, linear.out_features, rank, alpha)
    def forward(self, x):
        return self.linear(x) + self.lora(x)
""",
    "layer-and-merging-wrapper": """class LoRALayer(torch.nn.Module):
    def __init__(self, in_dim, out_dim, rank, alpha):
        super().__init__()
        self.A = torch.nn.Parameter(torch.empty(in_dim, rank))
        torch.nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))
        self.B = torch.nn.Parameter(torch.zeros(rank, out_dim))
        self.scaling = alpha / rank
    def delta(self):
        return self.scaling * (self.A @ self.B)
class LinearWithLoRAMerged(torch.nn.Module):
    def __init__(self, linear, rank, alpha):
        super().__init__()
        self.linear = linear
        self.lora = LoRALayer(linear.in_features, linear.out_features, rank, alpha)
    def forward(self, x):
        combined = self.linear.weight + self.lora.delta().T
        return torch.nn.functional.linear(x, combined, self.linear.bias)
""",
    "config": """from dataclasses import dataclass, field
@dataclass
class LoRAConfig:
    r: int = 8
    lora_alpha: int = 16
    lora_dropout: float = 0.05
    target_modules: list = field(default_factory=lambda: ['q_lin', 'v_lin'])
    @property
    def scaling(self):
        return self.lora_alpha / self.r
class LoRALinear(nn.Module):
    def __init__(self, base_layer: nn.Linear, config: LoRAConfig):
        super().__init__()
        self.base_layer, self.scaling = base_layer, config.scaling
        self.lora_A = nn.Linear(base_layer.in_features, config.r, bias=False)
        self.lora_B = nn.Linear(config.r, base_layer.out_features, bias=False)
        self.lora_dropout = nn.Dropout(config.lora_dropout)
        nn.init.kaiming_uniform_(self.lora_A.weight, a=math.sqrt(5))
        nn.init.zeros_(self.lora_B.weight)
        base_layer.weight.requires_grad_(False)
    def forward(self, x):
        return self.base_layer(x) + self.lora_B(self.lora_A(self.lora_dropout(x))) * self.scaling
""",
    "named-adapters": """class LoRA(nn.Module):
    def __init__(self, base_layer, r=12, lora_alpha=24, adapter_name='default'):
        super().__init__()
        self.base_layer = base_layer
        self.lora_A, self.lora_B, self.scaling = nn.ModuleDict({}), nn.ModuleDict({}), {}
        self.active_adapters = []
        self.update_layer(adapter_name, r, lora_alpha)
    def update_layer(self, adapter_name, r, lora_alpha):
        self.lora_A[adapter_name] = nn.Linear(self.base_layer.in_features, r, bias=False)
        self.lora_B[adapter_name] = nn.Linear(r, self.base_layer.out_features, bias=False)
        self.scaling[adapter_name] = lora_alpha / r
        nn.init.normal_(self.lora_A[adapter_name].weight, std=1 / r)
        nn.init.zeros_(self.lora_B[adapter_name].weight)
        self.active_adapters.append(adapter_name)
        for p in self.base_layer.parameters():
            p.requires_grad = False
    def forward(self, x, *args, **kwargs):
        result = self.base_layer(x, *args, **kwargs)
        for name in self.active_adapters:
            result = result + self.lora_B[name](self.lora_A[name](x.to(self.lora_A[name].weight.dtype))) * self.scaling[name]
        return result
""",
    "delegating": """class LoRA(nn.Module):
    def __init__(self, module, rank=12, alpha=24, dropout=0.0):
        super().__init__()
        self.module = module
        for p in self.module.parameters():
            p.requires_grad_(False)
        kw = {'device': module.weight.device, 'dtype': module.weight.dtype}
        self.lora = nn.Sequential(nn.Dropout(dropout), nn.Linear(module.in_features, rank, bias=False, **kw), nn.Linear(rank, module.out_features, bias=False, **kw))
        self.lora[1].weight.data.normal_(0, 0.02)
        self.lora[2].weight.data.zero_()
        self.multiplier = alpha / rank
    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__('module'), name)
    def forward(self, x):
        return self.module(x) + self.lora(x) * self.multiplier
""",
    "alpha-optional": """class LoRALinear(nn.Module):
    def __init__(self, original_layer, rank=8, alpha=None, dropout_p=0.0):
        super().__init__()
        assert isinstance(original_layer, nn.Linear), 'only linear layers'
        self.original_layer = original_layer
        self.original_layer.requires_grad_(False)
        self.rank, self.alpha = rank, alpha if alpha is not None else rank
        out_features, in_features = original_layer.weight.size()
        self.lora_a = nn.Parameter(torch.zeros(in_features, rank))
        self.lora_b = nn.Parameter(torch.zeros(rank, out_features))
        self.dropout = nn.Dropout(dropout_p)
        self.reset_parameters()
    @property
    def scale(self):
        return self.alpha / self.rank
    def reset_parameters(self):
        bound = 1 / math.sqrt(self.lora_a.shape[0])
        nn.init.uniform_(self.lora_a, -bound, bound)
        nn.init.zeros_(self.lora_b)
    def extra_repr(self):
        return f'rank={self.rank}, alpha={self.alpha}'
    def forward(self, x):
        return self.original_layer(x) + self.scale * (self.dropout(x) @ self.lora_a) @ self.lora_b
""",
    "buffers": """class LoRALinear(nn.Module):
    def __init__(self, linear, rank=12, alpha=24):
        super().__init__()
        self.in_features, self.out_features, self.rank, self.alpha = linear.in_features, linear.out_features, rank, alpha
        self.register_buffer('weight', linear.weight.data.clone())
        self.register_buffer('bias', linear.bias.data.clone() if linear.bias is not None else None)
        self.W_a = nn.Parameter(torch.randn(rank, linear.in_features, dtype=linear.weight.dtype) / rank)
        self.W_b = nn.Parameter(torch.zeros(linear.out_features, rank, dtype=linear.weight.dtype))
    def forward(self, x):
        delta = F.linear(F.linear(x, self.W_a), self.W_b) * (self.alpha / self.rank)
        return F.linear(x, self.weight, self.bias) + delta
""",
    "from-linear": """class LoRALinear(nn.Linear):
    @classmethod
    def from_linear(cls, linear, rank=8, alpha=16):
        return cls(linear, rank, alpha)
    def __init__(self, linear, rank=8, alpha=16):
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None)
        with torch.no_grad():
            self.weight.copy_(linear.weight)
            if linear.bias is not None:
                self.bias.copy_(linear.bias)
        for p in self.parameters():
            p.requires_grad = False
        self.lora_scale = alpha / rank
        self.lora_a = nn.Parameter(torch.randn(rank, linear.in_features).div_(rank ** 0.5))
        self.lora_b = nn.Parameter(torch.zeros(linear.out_features, rank))
    def forward(self, input):
        frozen = super().forward(input)
        return torch.add(frozen, (input @ self.lora_a.T) @ self.lora_b.T, alpha=self.lora_scale)
""",
    "closure": """def LoRA(layer, rank=12, alpha=24):
    class Adapted(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = layer.requires_grad_(False)
            self.a = nn.Parameter(torch.randn(rank, layer.in_features) * 0.01)
            self.b = nn.Parameter(torch.zeros(layer.out_features, rank))
        def forward(self, x):
            return self.layer(x) + (alpha / rank) * (x @ self.a.T) @ self.b.T
    return Adapted()
""",
    "mixin": """class FrozenBase:
    def freeze(self, layer):
        for _, p in layer.named_parameters():
            p.requires_grad = False
        return layer
class LoRA(FrozenBase, nn.Module):
    def __init__(self, linear_layer, lora_rank=12, lora_alpha=24, lora_init_scale=0.01):
        super().__init__()
        self.linear = self.freeze(linear_layer)
        self.lora_a = nn.Parameter(torch.randn(lora_rank, linear_layer.in_features) * lora_init_scale)
        self.lora_b = nn.Parameter(torch.zeros(linear_layer.out_features, lora_rank))
        self.register_buffer('lora_scaling', torch.tensor(lora_alpha / lora_rank))
    def forward(self, x):
        return self.linear(x) + self.lora_scaling * F.linear(F.linear(x, self.lora_a), self.lora_b)
""",
}
NAME = {
    "einsum": "LoRALayer", "layer-and-wrapper": "LinearWithLoRA", "layer-and-merging-wrapper": "LinearWithLoRAMerged",
    "config": "LoRALinear", "alpha-optional": "LoRALinear", "buffers": "LoRALinear", "from-linear": "LoRALinear",
}  # fmt: skip
# ---- freezing the body
FREEZE = {
    "loop": "for param in model.distilbert.parameters():\n    param.requires_grad = False\n",
    "method": "model.distilbert.requires_grad_(False)\n",
    "base-model": "for p in model.base_model.parameters():\n    p.requires_grad_(False)\n",
    "by-name": "for name, param in model.named_parameters():\n    param.requires_grad = name.startswith(('pre_classifier', 'classifier'))\n",
    "not-classifier": "for name, param in model.named_parameters():\n    if 'classifier' not in name:\n        param.requires_grad = False\n",
    "all-then-head": "for param in model.parameters():\n    param.requires_grad = False\nfor layer in (model.pre_classifier, model.classifier):\n    for param in layer.parameters():\n        param.requires_grad = True\n",
    "apply": "model.distilbert.apply(lambda m: [p.requires_grad_(False) for p in m.parameters(recurse=False)])\n",
    "children": "for name, child in model.named_children():\n    child.requires_grad_(name != 'distilbert')\n",
}
# ---- putting the layers in place
WRAP = {
    "replace": "replace_layers(model, {n: LORA for n, m in extract_qv_layers(model).items()})\n",
    "dict-first": "new = {}\nfor n, m in extract_qv_layers(model).items():\n    new[n] = LORA\nmodel = replace_layers(model, new) or model\n",
    "by-attribute": "for layer in model.distilbert.transformer.layer:\n    for name in ('q_lin', 'v_lin'):\n        m = getattr(layer.attention, name)\n        setattr(layer.attention, name, LORA)\n",
    "partial": "make = functools.partial(lambda m, n='': LORA)\nfor layer in model.distilbert.transformer.layer:\n    layer.attention.q_lin = make(layer.attention.q_lin)\n    layer.attention.v_lin = make(layer.attention.v_lin)\n",
    "recursive": "def inject(module, targets=('q_lin', 'v_lin')):\n    for n, m in module.named_children():\n        if n in targets and isinstance(m, nn.Linear):\n            setattr(module, n, LORA)\n        else:\n            inject(m, targets)\ninject(model)\n",
}
# ---- training
OPT = (
    "optimizer = torch.optim.AdamW(filter(lambda p: p.requires_grad, model.parameters()), lr=1e-3, weight_decay=0.01)\n"
)
TRAIN = {
    "loop": OPT
    + "model.train()\nfor epoch in range(3):\n    for batch in LOADER:\n        optimizer.zero_grad()\n        loss = model(**batch).loss\n        loss.backward()\n        optimizer.step()\n",
    "scheduler": OPT
    + "from transformers import get_scheduler\nsteps = 3 * len(LOADER)\nscheduler = get_scheduler('linear', optimizer=optimizer, num_warmup_steps=0, num_training_steps=steps)\nmodel.train()\nfor epoch in range(3):\n    for batch in LOADER:\n        batch = {k: v.to('cpu') for k, v in batch.items()}\n        outputs = model(**batch)\n        outputs.loss.backward()\n        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n        optimizer.step()\n        scheduler.step()\n        optimizer.zero_grad()\n",
    "accumulation": OPT
    + "every = 2\nmodel.train()\nfor epoch in range(5):\n    for i, batch in enumerate(LOADER):\n        loss = model(**batch).loss / every\n        loss.backward()\n        if (i + 1) % every == 0:\n            optimizer.step()\n            optimizer.zero_grad(set_to_none=True)\n",
    "amp": OPT
    + "scaler = torch.amp.GradScaler('cpu', enabled=False)\nmodel.train()\nfor epoch in range(3):\n    for batch in LOADER:\n        with torch.autocast(device_type='cpu', dtype=torch.bfloat16):\n            out = model(input_ids=batch['input_ids'], attention_mask=batch['attention_mask'])\n            loss = F.cross_entropy(out.logits.float(), batch['labels'])\n        scaler.scale(loss).backward()\n        scaler.step(optimizer)\n        scaler.update()\n        optimizer.zero_grad()\n",
    "accelerate": OPT
    + "from accelerate import Accelerator\naccelerator = Accelerator(cpu=True, gradient_accumulation_steps=1)\nmodel, optimizer, loader = accelerator.prepare(model, optimizer, DataLoader(ROWS, batch_size=4))\nfor epoch in range(3):\n    model.train()\n    for batch in loader:\n        with accelerator.accumulate(model):\n            loss = model(**batch).loss\n            accelerator.backward(loss)\n            optimizer.step()\n            optimizer.zero_grad()\n    model.eval()\n    with torch.no_grad():\n        accelerator.gather_for_metrics(model(**ROWS_BATCH).logits.argmax(-1))\n".replace(
        "**ROWS_BATCH", "input_ids=IDS, attention_mask=MASK"
    ),
    "trainer": "def compute_metrics(eval_pred):\n    logits, labels = eval_pred\n    return {'accuracy': float((np.argmax(logits, axis=-1) == labels).mean())}\ntrainer = Trainer(model=model, args=TrainingArguments(num_train_epochs=3, per_device_train_batch_size=4, learning_rate=1e-3, eval_strategy='epoch', **QUIET), train_dataset=ROWS, eval_dataset=ROWS, compute_metrics=compute_metrics)\ntrainer.train()\ntrainer.evaluate()\n",
    "trainer-collator": "from datasets import Dataset as Table\nfrom transformers import DataCollatorWithPadding\ntokenizer = AutoTokenizer.from_pretrained(MODEL)\ntable = Table.from_dict({'text': ['good film', 'bad plot', 'great actor', 'poor film'] * 2, 'label': [1, 0, 1, 0] * 2}).map(lambda b: tokenizer(b['text'], truncation=True), batched=True)\nTrainer(model=model, args=TrainingArguments(max_steps=6, per_device_train_batch_size=4, learning_rate=1e-3, lr_scheduler_type='cosine', warmup_steps=1, **QUIET), train_dataset=table, data_collator=DataCollatorWithPadding(tokenizer), processing_class=tokenizer).train()\n",
    "plateau": OPT
    + "plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)\nbest, state = float('inf'), None\nfor epoch in range(3):\n    model.train()\n    running = 0.0\n    for batch in LOADER:\n        optimizer.zero_grad()\n        loss = model(**batch).loss\n        loss.backward()\n        optimizer.step()\n        running += loss.item()\n    plateau.step(running)\n    if running < best:\n        best, state = running, {k: v.clone() for k, v in model.state_dict().items()}\nmodel.load_state_dict(state)\n",
    "one-cycle": OPT
    + "cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-3, total_steps=3 * len(LOADER))\ncriterion = nn.CrossEntropyLoss()\nfor epoch in range(3):\n    for batch in LOADER:\n        labels = batch.pop('labels')\n        model.zero_grad()\n        criterion(model(**batch).logits, labels).backward()\n        optimizer.step()\n        cycle.step()\n",
    "callback": "from transformers import TrainerCallback\nclass Log(TrainerCallback):\n    def __init__(self):\n        self.seen = []\n    def on_epoch_end(self, args, state, control, **kwargs):\n        self.seen.append(state.epoch)\nclass Weighted(Trainer):\n    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):\n        labels = inputs.pop('labels')\n        outputs = model(**inputs)\n        loss = F.cross_entropy(outputs.logits, labels, weight=torch.tensor([1.0, 1.0]))\n        return (loss, outputs) if return_outputs else loss\nWeighted(model=model, args=TrainingArguments(num_train_epochs=3, learning_rate=1e-3, gradient_accumulation_steps=1, **QUIET), train_dataset=ROWS, callbacks=[Log()]).train()\n",
}
AFTER = {
    "none": "",
    "pipeline": "from transformers import pipeline\nmodel.eval()\nclassify = pipeline('text-classification', model=model, tokenizer=AutoTokenizer.from_pretrained(MODEL), device='cpu')\nprint(classify(['good film', 'bad plot']))\n",
    "evaluated": "model.eval()\nwith torch.no_grad():\n    predictions = torch.argmax(model(input_ids=IDS, attention_mask=MASK).logits, dim=-1)\nprint((predictions == LABELS).float().mean().item())\n",
    "saved": "torch.save({k: v for k, v in model.state_dict().items() if 'lora' in k.lower() or 'classifier' in k}, HOME + '/adapters.pt')\n",
    "deleted": "del model\nimport gc; gc.collect()\n",
}


def _function(head: str, body: str) -> str:
    return f"def {head}:\n" + "\n".join(f"    {line}" for line in body.splitlines()) + "\n"


def notebook(name: str, count: str, extract: str, replace: str, lora: str, freeze: str, wrap: str, train: str, after: str = "none", loses: str = "") -> None:  # fmt: skip
    """Add a notebook from ways of writing its parts."""
    call = f"{NAME.get(lora, 'LoRA')}({'m, LoRAConfig(r=4, lora_alpha=8)' if lora == 'config' else 'm, 4, 8'})"
    fresh = "model = AutoModelForSequenceClassification.from_pretrained(MODEL, num_labels=2)\n"
    run = TRAIN[train] + AFTER[after]
    training(
        f"public-{name}",
        setup=SETUP,
        def_count=_function("count_trainable_parameters(model)", COUNT[count]),
        def_extract=_function("extract_qv_layers(model)", EXTRACT[extract]),
        def_replace=_function("replace_layers(model, named_layers)", REPLACE[replace]),
        def_lora=LORA[lora],
        full=fresh + "print(count_trainable_parameters(model))\n" + run,
        head=fresh + FREEZE[freeze] + "print(count_trainable_parameters(model))\n" + run,
        lora=fresh + FREEZE[freeze] + WRAP[wrap].replace("LORA", call) + run,
        loses=loses,
    )


notebook("paper-and-a-loop", "one-line", "suffix", "rpartition", "paper", "loop", "replace", "loop")
notebook("paper-and-trainer", "loop", "blocks", "getattr", "paper", "base-model", "dict-first", "trainer", "evaluated")
notebook("paper-with-pipelines", "numpy", "targets", "reduce", "paper", "not-classifier", "recursive", "trainer-collator", "pipeline")  # fmt: skip
notebook("merging-and-a-loop", "two-numbers-printed", "suffix", "getattr", "merging-linear", "loop", "replace", "loop", "evaluated")  # fmt: skip
notebook("merging-and-trainer", "table", "regex", "recursive", "merging-linear", "by-name", "by-attribute", "trainer")
notebook("merging-keeps-the-best", "math", "blocks", "rpartition", "merging-linear", "all-then-head", "recursive", "plateau")  # fmt: skip
notebook("einsum-and-a-schedule", "by-module", "targets", "reduce", "einsum", "children", "replace", "scheduler")
notebook("einsum-and-accelerate", "vector", "suffix", "set-submodule", "einsum", "apply", "partial", "accelerate", "deleted")  # fmt: skip
notebook("parametrized-and-a-loop", "one-line", "blocks", "rpartition", "parametrized", "method", "replace", "loop")
notebook("parametrized-and-trainer", "loop", "suffix", "getattr", "parametrized", "loop", "by-attribute", "trainer", "evaluated")  # fmt: skip
notebook("parametrized-and-amp", "numpy", "regex", "recursive", "parametrized", "base-model", "dict-first", "amp")
notebook("hook-and-a-loop", "math", "targets", "rpartition", "forward-hook", "loop", "replace", "accumulation")
notebook("hook-and-trainer", "two-numbers-printed", "blocks", "reduce", "forward-hook", "not-classifier", "partial", "trainer", "deleted")  # fmt: skip
notebook("two-classes-and-a-loop", "one-line", "suffix", "getattr", "layer-and-wrapper", "loop", "partial", "scheduler", "evaluated")  # fmt: skip
notebook("two-classes-and-trainer", "table", "blocks", "rpartition", "layer-and-wrapper", "all-then-head", "replace", "trainer")  # fmt: skip
notebook("two-classes-and-a-plateau", "by-module", "targets", "set-submodule", "layer-and-wrapper", "by-name", "recursive", "plateau", "saved")  # fmt: skip
notebook("two-classes-merged", "vector", "regex", "recursive", "layer-and-merging-wrapper", "method", "by-attribute", "one-cycle")  # fmt: skip
notebook("two-classes-merged-and-trainer", "one-line", "suffix", "reduce", "layer-and-merging-wrapper", "children", "dict-first", "trainer-collator")  # fmt: skip
notebook("config-and-a-loop", "loop", "blocks", "rpartition", "config", "loop", "replace", "loop", "saved")
notebook("config-and-trainer", "two-numbers-printed", "targets", "getattr", "config", "apply", "recursive", "callback")
notebook("config-and-accelerate", "numpy", "suffix", "recursive", "config", "base-model", "by-attribute", "accelerate")
notebook("named-adapters-and-a-loop", "math", "regex", "reduce", "named-adapters", "loop", "replace", "accumulation")
notebook("named-adapters-and-trainer", "table", "blocks", "set-submodule", "named-adapters", "not-classifier", "recursive", "trainer", "pipeline")  # fmt: skip
notebook("named-adapters-and-amp", "one-line", "suffix", "rpartition", "named-adapters", "all-then-head", "dict-first", "amp", "evaluated")  # fmt: skip
notebook(
    "delegating-and-a-loop", "by-module", "targets", "getattr", "delegating", "method", "by-attribute", "scheduler"
)
notebook("delegating-and-trainer", "vector", "blocks", "recursive", "delegating", "loop", "replace", "callback", "evaluated")  # fmt: skip
notebook("delegating-and-accelerate", "loop", "regex", "rpartition", "delegating", "by-name", "partial", "accelerate", "deleted")  # fmt: skip
notebook("optional-alpha-and-a-loop", "one-line", "suffix", "reduce", "alpha-optional", "children", "replace", "one-cycle")  # fmt: skip
notebook("optional-alpha-and-trainer", "numpy", "targets", "getattr", "alpha-optional", "base-model", "recursive", "trainer", "saved")  # fmt: skip
notebook(
    "buffers-and-a-loop", "two-numbers-printed", "blocks", "set-submodule", "buffers", "loop", "dict-first", "loop"
)
notebook("buffers-and-trainer", "math", "suffix", "rpartition", "buffers", "apply", "by-attribute", "trainer-collator", "pipeline")  # fmt: skip
notebook("buffers-and-a-plateau", "table", "regex", "getattr", "buffers", "all-then-head", "partial", "plateau", "deleted")  # fmt: skip
notebook("from-linear-and-a-loop", "loop", "targets", "recursive", "from-linear", "not-classifier", "replace", "amp")
notebook("from-linear-and-trainer", "one-line", "blocks", "reduce", "from-linear", "method", "recursive", "callback", "evaluated")  # fmt: skip
notebook("from-linear-and-a-schedule", "by-module", "suffix", "rpartition", "from-linear", "loop", "by-attribute", "scheduler", "saved")  # fmt: skip
notebook("closure-and-a-loop", "vector", "regex", "getattr", "closure", "children", "partial", "accumulation")
notebook("closure-and-trainer", "numpy", "targets", "set-submodule", "closure", "by-name", "replace", "trainer")
notebook("mixin-and-a-loop", "math", "blocks", "recursive", "mixin", "base-model", "dict-first", "one-cycle", "evaluated")  # fmt: skip
notebook("mixin-and-trainer", "two-numbers-printed", "suffix", "reduce", "mixin", "loop", "recursive", "trainer-collator", "deleted")  # fmt: skip
notebook("mixin-and-accelerate", "table", "targets", "rpartition", "mixin", "apply", "by-attribute", "accelerate", "pipeline")  # fmt: skip

# ---- wrong, in public clothes
LORA["weight-decomposed"] = """class LoRA(nn.Module):
    def __init__(self, linear, rank=12, alpha=24):
        super().__init__()
        self.linear = linear.requires_grad_(False)
        self.A = nn.Parameter(torch.randn(linear.in_features, rank) / rank ** 0.5)
        self.B = nn.Parameter(torch.zeros(rank, linear.out_features))
        self.scaling = alpha / rank
        self.m = nn.Parameter(linear.weight.detach().norm(p=2, dim=1, keepdim=True))
    def forward(self, x):
        numerator = self.linear.weight + self.scaling * (self.A @ self.B).T
        directional = numerator / numerator.norm(p=2, dim=1, keepdim=True)
        return F.linear(x, self.m * directional, self.linear.bias)
"""
notebook("weight-decomposed", "one-line", "suffix", "rpartition", "weight-decomposed", "loop", "replace", "loop", loses="lora/forward lora/rank-scaling lora/model")  # fmt: skip
LORA["rank-stabilised"] = LORA["paper"].replace("alpha / rank\n", "alpha / rank ** 0.5\n").replace("(alpha / r)", "c")
notebook("rank-stabilised", "loop", "blocks", "getattr", "rank-stabilised", "method", "replace", "trainer", loses="lora/rank-scaling")  # fmt: skip
LORA["plain-alpha"] = LORA["layer-and-wrapper"].replace("self.alpha / self.rank *", "self.alpha *")
NAME["plain-alpha"] = "LinearWithLoRA"
notebook("plain-alpha", "numpy", "targets", "reduce", "plain-alpha", "loop", "partial", "scheduler", loses="lora/rank-scaling")  # fmt: skip
FREEZE["optimizer-only"] = ""
TRAIN["head-groups"] = TRAIN["loop"].replace(
    OPT,
    "optimizer = torch.optim.AdamW([{'params': model.pre_classifier.parameters()}, {'params': model.classifier.parameters()}, {'params': [p for n, p in model.named_parameters() if 'W0' not in n and ('.A' in n or '.B' in n)]}], lr=1e-3)\n",
)
notebook("frozen-by-the-optimizer-alone", "math", "suffix", "rpartition", "paper", "optimizer-only", "replace", "head-groups", loses="full/trained head/frozen lora/model")  # fmt: skip
