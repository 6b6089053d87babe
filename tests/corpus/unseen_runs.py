"""Cases of the three trainings in handwritings that came after the first corpus: labelled before they were judged."""

from tests.corpus.base import PARTS
from tests.corpus.lora_class import MERGING
from tests.corpus.runs import FREEZE, FRESH, NO_HEAD, TRAIN, TRAINER, WRAP
from tests.corpus.training import STEPS, training

SETUP = STEPS["setup"]
LOSS = "model(input_ids=IDS, labels=LABELS).loss"
ADAM = "opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)\n"
LOOP = "for _ in range(5):\n    opt.zero_grad()\n    {loss}.backward()\n    opt.step()\n"


def loop(loss: str = LOSS, optimizer: str = ADAM, before: str = "", after: str = "") -> str:
    """A loop of the student's own: the optimizer, and lines before and after each step."""
    lines = [
        "for _ in range(5):",
        "opt.zero_grad()",
        *before.splitlines(),
        f"({loss}).backward()",
        "opt.step()",
        *after.splitlines(),
    ]
    return optimizer + "\n    ".join(lines) + "\n"


def everywhere(name: str, train: str, *, setup: str = SETUP, **more: str) -> None:
    """Add a right case in which all three runs are trained by the same lines."""
    training(
        name, setup=setup, full=FRESH + train, head=FRESH + FREEZE + train, lora=FRESH + FREEZE + WRAP + train, **more
    )


# ---- right: optimizers and schedules
everywhere(
    "learning-rate-groups",
    loop(
        optimizer="opt = torch.optim.AdamW([{'params': [p for n, p in model.named_parameters() if 'classifier' not in n], 'lr': 1e-4}, {'params': [p for n, p in model.named_parameters() if 'classifier' in n]}], lr=1e-3)\n"
    ),
)
everywhere(
    "warm-up",
    "from transformers import get_linear_schedule_with_warmup\n"
    + loop(optimizer=ADAM + "sched = get_linear_schedule_with_warmup(opt, 1, 6)\n", after="sched.step()"),
)
everywhere(
    "autocast", loop(before="with torch.autocast('cpu', dtype=torch.bfloat16):\n    loss = " + LOSS, loss="loss")
)
everywhere(
    "grad-scaler",
    loop(optimizer=ADAM + "scaler = torch.amp.GradScaler('cuda', enabled=False)\n")
    .replace(f"({LOSS}).backward()", f"scaler.scale({LOSS}).backward()")
    .replace("opt.step()", "scaler.step(opt); scaler.update()"),
)
everywhere(
    "lbfgs",
    "opt = torch.optim.LBFGS([p for p in model.parameters() if p.requires_grad], lr=0.5, max_iter=3)\ndef closure():\n    opt.zero_grad()\n    loss = "
    + LOSS
    + "\n    loss.backward()\n    return loss\nfor _ in range(4):\n    opt.step(closure)\n",
)
everywhere(
    "adafactor",
    "from transformers.optimization import Adafactor\n"
    + loop(
        optimizer="opt = Adafactor([p for p in model.parameters() if p.requires_grad], relative_step=True, warmup_init=False, lr=None)\n"
    ),
)
everywhere(
    "own-optimizer",
    loop(
        optimizer="class Sgd(torch.optim.Optimizer):\n    def __init__(self, params, lr):\n        super().__init__(params, dict(lr=lr))\n    @torch.no_grad()\n    def step(self, closure=None):\n        for g in self.param_groups:\n            for p in g['params']:\n                if p.grad is not None:\n                    p.add_(p.grad, alpha=-g['lr'])\nopt = Sgd([p for p in model.parameters() if p.requires_grad], 0.3)\n"
    ),
)
everywhere(
    "plain-optimizer-class",
    loop(
        optimizer="class Sgd:\n    def __init__(self, params, lr):\n        self.params, self.lr = list(params), lr\n    def zero_grad(self):\n        for p in self.params:\n            p.grad = None\n    def step(self):\n        for p in self.params:\n            if p.grad is not None:\n                p.data -= self.lr * p.grad\nopt = Sgd([p for p in model.parameters() if p.requires_grad], 0.3)\n"
    ),
)
everywhere(
    "sam",
    "class SAM(torch.optim.Optimizer):\n    def __init__(self, params, base, **kw):\n        super().__init__(params, dict(rho=0.05, **kw))\n        self.base = base(self.param_groups, **kw)\n    @torch.no_grad()\n    def first_step(self):\n        for g in self.param_groups:\n            for p in g['params']:\n                if p.grad is not None:\n                    self.state[p]['old'] = p.data.clone()\n                    p.add_(p.grad * 0.05)\n        self.zero_grad()\n    @torch.no_grad()\n    def second_step(self):\n        for g in self.param_groups:\n            for p in g['params']:\n                if 'old' in self.state[p]:\n                    p.data = self.state[p]['old']\n        self.base.step()\nopt = SAM([p for p in model.parameters() if p.requires_grad], torch.optim.AdamW, lr=1e-3)\nfor _ in range(5):\n    opt.zero_grad()\n    "
    + LOSS
    + ".backward()\n    opt.first_step()\n    "
    + LOSS
    + ".backward()\n    opt.second_step()\n",
)
everywhere(
    "lightning-style",
    "class Module(nn.Module):\n    def __init__(self, net):\n        super().__init__()\n        self.net, self.loss = net, nn.CrossEntropyLoss()\n    def training_step(self):\n        return self.loss(self.net(input_ids=IDS).logits, LABELS)\n    def configure_optimizers(self):\n        return torch.optim.AdamW(filter(lambda p: p.requires_grad, self.parameters()), lr=1e-3)\nmodule = Module(model)\nopt = module.configure_optimizers()\n"
    + loop("module.training_step()", optimizer=""),
)
training(
    "lora-plus",
    lora=FRESH
    + FREEZE
    + WRAP
    + loop(
        optimizer="opt = torch.optim.AdamW([{'params': [p for n, p in model.named_parameters() if n.endswith('.B')], 'lr': 1.6e-2}, {'params': [p for n, p in model.named_parameters() if p.requires_grad and not n.endswith('.B')]}], lr=1e-3)\n"
    ),
)
training(
    "frozen-after-the-optimizer",
    head=FRESH + "opt = torch.optim.AdamW(model.parameters(), lr=1e-3)\n" + FREEZE + "train(model, opt)",
)
# ---- right: losses, forward passes, wrappers
everywhere(
    "label-smoothing", loop("nn.functional.cross_entropy(model(input_ids=IDS).logits, LABELS, label_smoothing=0.1)")
)
everywhere("tuple-output", loop("model(IDS, torch.ones_like(IDS), labels=LABELS, return_dict=False)[0]"))
everywhere("checkpointing", "model.gradient_checkpointing_enable()\nmodel.train()\n" + loop())
everywhere("compiled", "model = torch.compile(model, backend='eager')\n" + loop())
everywhere(
    "data-parallel", "model = nn.DataParallel(model)\n" + loop("model(input_ids=IDS, labels=LABELS).loss.mean()")
)
everywhere(
    "average-model",
    "ema = torch.optim.swa_utils.AveragedModel(model, avg_fn=lambda a, b, n: 0.9 * a + 0.1 * b)\n"
    + loop(after="ema.update_parameters(model)")
    + "ema.eval()\nema(input_ids=IDS)\n",
)
WRAPPED = "class Classifier(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.backbone = fresh()\n    def forward(self, input_ids, attention_mask=None, labels=None):\n        out = self.backbone(input_ids=input_ids, attention_mask=attention_mask)\n        loss = None if labels is None else F.cross_entropy(out.logits, labels)\n        return loss, out.logits\nwhole = Classifier()\nmodel = whole.backbone\n"
training(
    "wrapper",
    full=WRAPPED
    + loop("whole(IDS, labels=LABELS)[0]", optimizer="opt = torch.optim.AdamW(whole.parameters(), lr=1e-3)\n"),
    head=WRAPPED + FREEZE + loop("whole(IDS, labels=LABELS)[0]"),
    lora=WRAPPED + FREEZE + WRAP + loop("whole(IDS, labels=LABELS)[0]"),
)
training(
    "wrapper-with-a-temperature",
    full=WRAPPED.replace(
        "self.backbone = fresh()", "self.backbone = fresh()\n        self.t = nn.Parameter(torch.ones(1))"
    )
    + loop(
        "F.cross_entropy(whole(IDS)[1] * whole.t, LABELS)",
        optimizer="opt = torch.optim.AdamW(whole.parameters(), lr=1e-3)\n",
    ),
)
training(
    "new-head",
    full=FRESH + "model.classifier = nn.Linear(model.config.dim, 2)\n" + TRAIN,
    head=FRESH + "model.classifier = nn.Sequential(nn.Dropout(0.1), nn.Linear(model.config.dim, 2))\n" + FREEZE + TRAIN,
)
training(
    "own-config",
    full="from transformers import AutoConfig\nconfig = AutoConfig.from_pretrained(MODEL, num_labels=2, seq_classif_dropout=0.3, attention_dropout=0.2, id2label={0: 'neg', 1: 'pos'})\nmodel = AutoModelForSequenceClassification.from_pretrained(MODEL, config=config)\n"
    + TRAIN,
)
training(
    "body-put-in",
    head="from transformers import DistilBertModel, DistilBertConfig, DistilBertForSequenceClassification\nmodel = DistilBertForSequenceClassification(DistilBertConfig.from_pretrained(MODEL, num_labels=2))\nmodel.distilbert = DistilBertModel.from_pretrained(MODEL)\n"
    + FREEZE
    + TRAIN,
)
training(
    "double-precision", full="model = fresh().double()\n" + TRAIN, head="model = fresh().double()\n" + FREEZE + TRAIN
)
training(
    "bfloat16",
    full="model = fresh().to(torch.bfloat16)\ntrain(model)",
    head="model = fresh().to(torch.bfloat16)\n" + FREEZE + "train(model)",
)
# ---- right: Trainer
everywhere(
    "trainer-optimizers",
    "args = TrainingArguments(output_dir=HOME, max_steps=5, report_to='none', disable_tqdm=True, logging_strategy='no', use_cpu=True)\nopt = torch.optim.AdamW(model.parameters(), lr=1e-3)\nTrainer(model=model, args=args, train_dataset=Rows(), optimizers=(opt, torch.optim.lr_scheduler.LambdaLR(opt, lambda s: 1.0))).train()\n",
    setup=SETUP + TRAINER,
)
everywhere(
    "trainer-compute-loss",
    "class Smooth(Trainer):\n    def compute_loss(self, model, inputs, return_outputs=False, **kw):\n        labels = inputs.pop('labels')\n        out = model(**inputs)\n        loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 1.2]))(out.logits, labels)\n        return (loss, out) if return_outputs else loss\nSmooth(model, TrainingArguments(output_dir=HOME, max_steps=5, learning_rate=1e-3, report_to='none', disable_tqdm=True, logging_strategy='no', use_cpu=True), train_dataset=Rows()).train()\n",
    setup=SETUP + TRAINER,
)
training(
    "trainer-model-init",
    setup=SETUP + TRAINER,
    full="def init(trial=None):\n    return fresh()\nTrainer(model_init=init, args=TrainingArguments(output_dir=HOME, max_steps=5, learning_rate=1e-3, report_to='none', disable_tqdm=True, logging_strategy='no', use_cpu=True), train_dataset=Rows()).train()\n",
)
training(
    "trainer-early-stopping",
    setup=SETUP + TRAINER,
    full=FRESH
    + "from transformers import EarlyStoppingCallback\nTrainer(model=model, args=TrainingArguments(output_dir=HOME, num_train_epochs=3, learning_rate=1e-3, report_to='none', disable_tqdm=True, logging_strategy='no', use_cpu=True, eval_strategy='epoch', save_strategy='epoch', load_best_model_at_end=True, metric_for_best_model='eval_loss'), train_dataset=Rows(), eval_dataset=Rows(), callbacks=[EarlyStoppingCallback(1)]).train()\n",
)
training(
    "trainer-freezing-callback",
    setup=SETUP + TRAINER,
    head=FRESH
    + "from transformers import TrainerCallback\nclass Freeze(TrainerCallback):\n    def on_train_begin(self, args, state, control, model=None, **kw):\n        model.distilbert.requires_grad_(False)\nTrainer(model=model, args=TrainingArguments(output_dir=HOME, max_steps=5, learning_rate=1e-3, report_to='none', disable_tqdm=True, logging_strategy='no', use_cpu=True), train_dataset=Rows(), callbacks=[Freeze()]).train()\n",
)
everywhere(
    "accelerator",
    "from accelerate import Accelerator\nacc = Accelerator(cpu=True)\n"
    + ADAM
    + "model, opt, data = acc.prepare(model, opt, torch.utils.data.DataLoader(Rows(), batch_size=4))\nmodel.train()\nfor _ in range(3):\n    for batch in data:\n        acc.backward(model(**batch).loss)\n        acc.clip_grad_norm_(model.parameters(), 1.0)\n        opt.step()\n        opt.zero_grad()\nmodel = acc.unwrap_model(model)\n",
    setup=SETUP + TRAINER,
)
# ---- right: how the runs are arranged
training(
    "in-a-dataclass",
    full="import dataclasses\n@dataclasses.dataclass\nclass Experiment:\n    name: str\n    model: nn.Module\n    def run(self):\n        train(self.model)\nruns = [Experiment('full', fresh())]\nfor r in runs:\n    r.run()\n",
)
training(
    "all-built-first",
    full="models = [fresh(), fresh(), fresh()]\nfor p in models[1].distilbert.parameters():\n    p.requires_grad_(False)\nmodels[2].distilbert.requires_grad_(False)\nreplace_layers(models[2], {n: LoRA(m, 4, 8) for n, m in extract_qv_layers(models[2]).items()})\n",
    head="",
    lora="",
    end="for m in models:\n    train(m)\n",
)
training(
    "weights-put-back",
    full="model = fresh()\nstart = copy.deepcopy(model.state_dict())\ntrain(model)\n",
    head="model.load_state_dict(start)\n" + FREEZE + TRAIN,
    lora="model.load_state_dict(start)\nmodel.requires_grad_(True)\n" + FREEZE + WRAP + TRAIN,
)
training(
    "gradual-unfreezing", full=FRESH + FREEZE + "train(model, steps=2)\nmodel.distilbert.requires_grad_(True)\n" + TRAIN
)
training(
    "lora-by-hand",
    lora=FRESH
    + FREEZE
    + "for block in model.distilbert.transformer.layer:\n    a = block.attention\n    a.q_lin, a.v_lin = LoRA(a.q_lin, 4, 8), LoRA(a.v_lin, 4, 8)\n"
    + TRAIN,
)
training(
    "lora-saved-adapters",
    lora=STEPS["lora"]
    + "torch.save({k: v for k, v in model.state_dict().items() if k.endswith(('.A', '.B'))}, HOME + '/adapters.pt')\nmodel.load_state_dict(torch.load(HOME + '/adapters.pt'), strict=False)\n",
)
MERGE = "with torch.no_grad():\n    for n, l in [(n, m) for n, m in model.named_modules() if isinstance(m, LoRA)]:\n        l.pretrained.weight += l.scaling * l.B @ l.A\n"
training("lora-merged-in-the-same-cell", lora=STEPS["lora"] + MERGE + "        l.B.zero_()\n")
training(
    "lora-merged-and-unwrapped",
    lora=STEPS["lora"]
    + MERGE
    + "        parent, _, child = n.rpartition('.')\n        setattr(model.get_submodule(parent), child, l.pretrained)\n",
)
training("lora-merged-later", lora=STEPS["lora"], end=MERGE)
for name, code in {
    "transposed-base": "self.register_buffer('W', pretrained.weight.detach().t().clone())\n        self.register_buffer('b', pretrained.bias.detach().clone() if pretrained.bias is not None else torch.zeros(o))",
    "buffers": "self.register_buffer('W', pretrained.weight.detach().clone())\n        self.W = self.W.t()\n        self.register_buffer('b', pretrained.bias.detach().clone() if pretrained.bias is not None else torch.zeros(o))",
    "frozen-parameters": "self.W = nn.Parameter(pretrained.weight.detach().t().clone(), requires_grad=False)\n        self.b = nn.Parameter(pretrained.bias.detach().clone() if pretrained.bias is not None else torch.zeros(o), requires_grad=False)",
}.items():
    source = f"class LoRA(nn.Module):\n    def __init__(self, pretrained, rank=12, alpha=24):\n        super().__init__()\n        i, o = pretrained.in_features, pretrained.out_features\n        {code}\n        self.A = nn.Parameter(torch.randn(i, rank) / rank)\n        self.B = nn.Parameter(torch.zeros(rank, o))\n        self.c = alpha / rank\n    def forward(self, x):\n        return x @ self.W + self.b + self.c * (x @ self.A @ self.B)\n"
    training(f"lora-{name}", def_lora=source)
NET = """from transformers import AutoModel
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.distilbert = AutoModel.from_pretrained(MODEL)
        self.pre_classifier, self.norm, self.classifier = nn.Linear(16, 16), nn.LayerNorm(16), nn.Linear(16, 2)
    def forward(self, input_ids, attention_mask=None, labels=None):
        first = self.distilbert(input_ids, attention_mask=attention_mask).last_hidden_state[:, 0]
        return self.classifier(torch.tanh(self.norm(self.pre_classifier(first))))
model = Net()
"""
NET_LOOP = loop("F.cross_entropy(model(IDS), LABELS)")
training(
    "own-class-around-the-body", full=NET + NET_LOOP, head=NET + FREEZE + NET_LOOP, lora=NET + FREEZE + WRAP + NET_LOOP
)
CONV = NET.replace("nn.Linear(16, 16), nn.LayerNorm(16)", "nn.Conv1d(16, 16, 1), nn.BatchNorm1d(16)").replace(
    "torch.tanh(self.norm(self.pre_classifier(first)))",
    "torch.tanh(self.norm(self.pre_classifier(first[..., None])))[..., 0]",
)
LSTM = NET.replace(
    "nn.Linear(16, 16), nn.LayerNorm(16)", "nn.LSTM(16, 16, batch_first=True), nn.LayerNorm(16)"
).replace("self.pre_classifier(first)", "self.pre_classifier(first[:, None])[0][:, 0]")
SEQUENTIAL = NET.replace("nn.Linear(16, 2)\n", "nn.Sequential(nn.Linear(16, 5), nn.ReLU(), nn.Linear(5, 2))\n")
for name, net in {"convolution": CONV, "lstm": LSTM, "sequential": SEQUENTIAL}.items():
    training(f"own-head-{name}", full=net + NET_LOOP, head=net + FREEZE + NET_LOOP, lora=net + FREEZE + WRAP + NET_LOOP)
training("lora-rank-above-the-width", lora=STEPS["lora"].replace("4, 8", "24, 24"))
training("lora-square-rank", lora=STEPS["lora"].replace("4, 8", "16, 16"))
training(
    "lora-conv-factors",
    def_lora="class LoRA(nn.Module):\n    def __init__(self, pretrained, rank=12, alpha=24):\n        super().__init__()\n        self.base, self.c = pretrained, alpha / rank\n        self.A = nn.Parameter(torch.randn(1, pretrained.in_features, rank))\n        self.B = nn.Parameter(torch.zeros(1, rank, pretrained.out_features))\n    def forward(self, x):\n        return self.base(x) + self.c * (x @ self.A[0] @ self.B[0])\n",
)
# ---- wrong
training(
    "head-inverted",
    head=FRESH + "for n, p in model.named_parameters():\n    p.requires_grad = 'classifier' not in n\n" + TRAIN,
    loses="head/frozen head/trained",
)
training("full-lora-frozen-model", full=FRESH + FREEZE + TRAIN, loses="full/trained full/accuracy")
training(
    "full-no-grad-body",
    full=FRESH
    + "opt = torch.optim.AdamW(model.parameters(), lr=1e-3)\nfor _ in range(4):\n    with torch.no_grad():\n        h = model.distilbert(input_ids=IDS)[0][:, 0]\n    loss = F.cross_entropy(model.classifier(torch.relu(model.pre_classifier(h))), LABELS)\n    opt.zero_grad(); loss.backward(); opt.step()\n",
    loses="full/trained",
)
training(
    "full-layer-norms-frozen",
    full=FRESH + "for n, p in model.named_parameters():\n    p.requires_grad = 'layer_norm' not in n.lower()\n" + TRAIN,
    loses="full/trained",
)
training(
    "full-optimizer-of-another-model",
    full=FRESH
    + "other = fresh()\nopt = torch.optim.AdamW(other.parameters(), lr=1e-3)\nfor _ in range(4):\n    opt.zero_grad()\n    model(input_ids=IDS, labels=LABELS).loss.backward()\n    opt.step()\n",
    loses="full/trained",
)
training(
    "full-never-stepped",
    full=FRESH
    + "opt = torch.optim.AdamW(model.parameters(), lr=1e-3)\nfor _ in range(4):\n    opt.zero_grad()\n    model(input_ids=IDS, labels=LABELS).loss.backward()\n",
    loses="full/trained full/accuracy",
)
training("head-eval-instead-of-freeze", head=FRESH + "model.distilbert.eval()\n" + TRAIN, loses="head/frozen")
training(
    "head-no-grad-body",
    head=FRESH
    + "opt = torch.optim.AdamW(model.parameters(), lr=1e-3)\nfor _ in range(4):\n    with torch.no_grad():\n        h = model.distilbert(input_ids=IDS)[0][:, 0]\n    loss = F.cross_entropy(model.classifier(torch.relu(model.pre_classifier(h))), LABELS)\n    opt.zero_grad(); loss.backward(); opt.step()\n",
    loses="head/frozen",
)
training(
    "head-only-classifier",
    head=FRESH + "for n, p in model.named_parameters():\n    p.requires_grad = n.startswith('classifier')\n" + TRAIN,
    loses="head/trained",
)
training(
    "head-of-the-trained-checkpoint",
    full=STEPS["full"] + "model.save_pretrained(HOME + '/m')\n",
    head="model = AutoModelForSequenceClassification.from_pretrained(HOME + '/m')\n" + FREEZE + TRAIN,
    loses="head/frozen",
)
training(
    "head-all-frozen",
    head=FRESH + "model.requires_grad_(False)\ntry:\n    train(model)\nexcept Exception as e:\n    print(e)\n",
    loses=NO_HEAD,
)
training(
    "head-reinitialised-body",
    head=FRESH
    + "model.distilbert.transformer.apply(lambda m: m.reset_parameters() if isinstance(m, nn.Linear) else None)\n"
    + FREEZE
    + TRAIN,
    loses="head/frozen",
)
training(
    "lora-of-the-trained-checkpoint",
    full=STEPS["full"] + "model.save_pretrained(HOME + '/m')\n",
    lora="model = AutoModelForSequenceClassification.from_pretrained(HOME + '/m')\n" + FREEZE + WRAP + TRAIN,
    loses="lora/model",
)
training(
    "lora-body-unfrozen-after", lora=FRESH + FREEZE + WRAP + "model.requires_grad_(True)\n" + TRAIN, loses="lora/model"
)
training(
    "lora-query-key",
    lora=FRESH
    + FREEZE
    + "for block in model.distilbert.transformer.layer:\n    a = block.attention\n    a.q_lin, a.k_lin = LoRA(a.q_lin, 4, 8), LoRA(a.k_lin, 4, 8)\n"
    + TRAIN,
    loses="lora/model",
)
training(
    "lora-swapped-layers",
    lora=FRESH
    + FREEZE
    + "d = extract_qv_layers(model)\nreplace_layers(model, dict(zip(d, [LoRA(m, 4, 8) for m in reversed(d.values())])))\n"
    + TRAIN,
    loses="lora/model",
)
training(
    "lora-into-a-copy",
    lora=FRESH
    + FREEZE
    + "other = copy.deepcopy(model)\nreplace_layers(other, {n: LoRA(m, 4, 8) for n, m in extract_qv_layers(other).items()})\n"
    + TRAIN,
    loses="lora/model lora/accuracy",
)
training(
    "lora-b-frozen",
    lora=FRESH
    + FREEZE
    + WRAP
    + "for n, p in model.named_parameters():\n    if n.endswith('.B'):\n        p.requires_grad = False\n"
    + TRAIN,
    loses="lora/model",
)
training(
    "lora-base-stepped",
    lora=FRESH
    + FREEZE
    + WRAP
    + "for n, p in model.named_parameters():\n    if 'pretrained' in n:\n        p.requires_grad = True\n"
    + TRAIN,
    loses="lora/model",
)
training(
    "lora-only-adapters-given",
    lora=FRESH
    + FREEZE
    + WRAP
    + "train(model, torch.optim.AdamW([p for m in model.modules() if isinstance(m, LoRA) for p in (m.A, m.B)], lr=1e-3))",
    loses="lora/model",
)
training(
    "lora-layers-of-another-model",
    lora="source = fresh()\ntrain(source, steps=6)\n"
    + FRESH
    + FREEZE
    + "replace_layers(model, {n: LoRA(m.requires_grad_(False), 4, 8) for n, m in extract_qv_layers(source).items()})\n"
    + TRAIN,
    loses="lora/model",
)
training(
    "merge-on-eval-never-unmerged",
    def_lora=MERGING.replace("if mode == self.merged:", "if not mode:"),
    lora=FRESH
    + FREEZE
    + WRAP
    + "for _ in range(2):\n    train(model, steps=2)\n    model.eval()\nmodel.train()\n"
    + TRAIN,
    loses="lora/gradients",
)
training(
    "lora-merged-weight-of-a-later-epoch",
    def_lora=PARTS["lora"].replace(
        "def forward(self, x):\n",
        """def forward(self, x):
        if not self.training:
            self.merged = getattr(self, 'merged', None)
            if self.merged is None:
                self.merged = (self.pretrained.weight + self.scaling * self.B @ self.A).detach()
            return F.linear(x, self.merged, self.pretrained.bias)
        self.merged = None
""",
    ),
    lora=STEPS["lora"]
    + "best = {n: t.clone() for n, t in model.state_dict().items()}\n"
    + TRAIN
    + "model.eval()\nmodel(input_ids=IDS)\nmodel.load_state_dict(best)\n",
)
training(
    "error-that-cannot-be-said",
    lora=STEPS["lora"]
    + "class Odd(Exception):\n    __str__ = lambda s: 1 / 0\ndef refuse(*a, **k):\n    raise Odd\nmodel.__class__ = type('Own', (type(model),), {'forward': refuse})\n",
    loses="lora/accuracy",
)
