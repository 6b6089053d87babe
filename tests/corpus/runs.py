"""Cases of the three trainings: ways that are right, and mistakes with one root each."""

from tests.corpus.training import STEPS, training

FREEZE = "for p in model.distilbert.parameters():\n    p.requires_grad = False\n"
WRAP = "replace_layers(model, {n: LoRA(m, 4, 8) for n, m in extract_qv_layers(model).items()})\n"
FRESH, TRAIN = "model = fresh()\n", "train(model)\n"
TRAINER = """
class Rows(torch.utils.data.Dataset):
    __len__ = lambda s: 8
    __getitem__ = lambda s, i: {"input_ids": IDS[i], "attention_mask": torch.ones(6, dtype=torch.long), "labels": LABELS[i]}
def train(model, optimizer=None, **more):
    args = TrainingArguments(output_dir=HOME, num_train_epochs=2, per_device_train_batch_size=4, learning_rate=1e-3, report_to="none", disable_tqdm=True, log_level="error", logging_strategy="no", eval_strategy="epoch", use_cpu=True, **more)
    Trainer(model=model, args=args, train_dataset=Rows(), eval_dataset=Rows()).train()
"""
SETUP = STEPS["setup"]

# ---- right
training("base")
training("trainer", setup=SETUP + TRAINER)
training(
    "trainer-best-at-end",
    setup=SETUP + TRAINER.replace("use_cpu=True", "use_cpu=True, save_strategy='epoch', load_best_model_at_end=True"),
)
training("trainer-two-calls", setup=SETUP + TRAINER, end="train(model)")
training(
    "in-functions",
    full="def run(kind):\n    model = fresh()\n    if kind != 'full':\n        for p in model.distilbert.parameters():\n            p.requires_grad = False\n    if kind == 'lora':\n        replace_layers(model, {n: LoRA(m, 4, 8) for n, m in extract_qv_layers(model).items()})\n    train(model)\nfor kind in ('full', 'head', 'lora'):\n    run(kind)",
    head="",
    lora="",
)
training(
    "models-deleted",
    full=STEPS["full"] + "del model",
    head=STEPS["head"] + "del model",
    lora=STEPS["lora"] + "del model",
)
training(
    "one-download",
    full="first = fresh()\nmodel = copy.deepcopy(first)\ntrain(model)",
    head="model = copy.deepcopy(first)\n" + FREEZE + TRAIN,
    lora="model = copy.deepcopy(first)\n" + FREEZE + WRAP + TRAIN,
)
training("other-order", full=STEPS["lora"], head=STEPS["full"], lora=STEPS["head"])
training("requires-grad-method", head=FRESH + "model.distilbert.requires_grad_(False)\n" + TRAIN)
training(
    "freeze-by-name",
    head=FRESH + "for n, p in model.named_parameters():\n    p.requires_grad = 'classifier' in n\n" + TRAIN,
)
training(
    "freeze-all-open-head",
    head=FRESH
    + "model.requires_grad_(False)\nmodel.pre_classifier.requires_grad_(True)\nmodel.classifier.requires_grad_(True)\n"
    + TRAIN,
)
training(
    "freeze-after-wrapping",
    lora=FRESH
    + WRAP
    + "for n, p in model.named_parameters():\n    p.requires_grad = n.endswith(('.A', '.B')) or 'classifier' in n\n"
    + TRAIN,
)
training(
    "trial-runs",
    full=STEPS["full"] + STEPS["full"],
    lora=STEPS["lora"] + STEPS["lora"].replace("4, 8", "2, 2"),
    end=STEPS["head"],
)
training("several-ranks", lora="".join(STEPS["lora"].replace("4, 8", pair) for pair in ("1, 2", "3, 6", "8, 8")))
training("many-trials", full=STEPS["full"] * 25)
training(
    "accumulation",
    full=FRESH
    + "opt = torch.optim.AdamW(model.parameters(), lr=1e-3)\nfor i in range(8):\n    (model(input_ids=IDS, labels=LABELS).loss / 2).backward()\n    if i % 2:\n        opt.step()\n        opt.zero_grad()",
)
training(
    "two-optimizers",
    full=FRESH
    + "a = torch.optim.AdamW(model.distilbert.parameters(), lr=1e-3)\nb = torch.optim.AdamW(list(model.pre_classifier.parameters()) + list(model.classifier.parameters()), lr=1e-2)\nfor _ in range(4):\n    model(input_ids=IDS, labels=LABELS).loss.backward()\n    a.step(); b.step(); a.zero_grad(); b.zero_grad()",
)
training(
    "closure",
    full=FRESH
    + "opt = torch.optim.SGD(model.parameters(), lr=0.1)\ndef closure():\n    opt.zero_grad()\n    loss = model(input_ids=IDS, labels=LABELS).loss\n    loss.backward()\n    return loss\nfor _ in range(4):\n    opt.step(closure)",
)
training(
    "optimizer-per-epoch",
    full=FRESH + "for _ in range(3):\n    train(model)",
    head=FRESH + FREEZE + "for _ in range(3):\n    train(model)",
)
training(
    "optimizer-with-frozen", lora=FRESH + FREEZE + WRAP + "train(model, torch.optim.AdamW(model.parameters(), lr=1e-3))"
)
BY_HAND = "for _ in range(4):\n    model.zero_grad()\n    model(input_ids=IDS, labels=LABELS).loss.backward()\n    with torch.no_grad():\n        for p in model.parameters():\n            if p.grad is not None:\n                p -= 0.5 * p.grad\n"
training("by-hand", full=FRESH + BY_HAND, head=FRESH + FREEZE + BY_HAND, lora=FRESH + FREEZE + WRAP + BY_HAND)
training(
    "gradient-looked-at-before",
    full=FRESH + "model(input_ids=IDS, labels=LABELS).loss.backward()\n" + TRAIN,
    head=FRESH + "model(input_ids=IDS, labels=LABELS).loss.backward()\n" + FREEZE + TRAIN,
)
training(
    "early-stopping",
    full=FRESH
    + "train(model, steps=2)\nbest = copy.deepcopy(model.state_dict())\ntrain(model)\nmodel.load_state_dict(best)",
)
training(
    "models-in-a-container",
    full="models = nn.ModuleDict({k: fresh() for k in ('full', 'head', 'lora')})\ntrain(models['full'])",
    head="model = models['head']\n" + FREEZE + TRAIN,
    lora="model = models['lora']\n" + FREEZE + WRAP + TRAIN,
)
training(
    "other-models-too",
    full="toy = nn.Linear(2, 1)\nopt = torch.optim.SGD(toy.parameters(), lr=0.1)\nfor _ in range(3):\n    toy(torch.ones(4, 2)).sum().backward()\n    opt.step()\n"
    + STEPS["full"],
)
training(
    "activations-kept",
    full=FRESH + "model.distilbert.register_forward_hook(lambda m, i, o: setattr(m, 'last', o[0]))\n" + TRAIN,
)
training(
    "half-precision-body",
    head=FRESH
    + "model.distilbert.to(torch.bfloat16)\nmodel.pre_classifier.register_forward_pre_hook(lambda m, a: (a[0].float(),))\n"
    + FREEZE
    + TRAIN,
)
training(
    "peft",
    lora="from peft import LoraConfig, get_peft_model\nmodel = get_peft_model(fresh(), LoraConfig(r=4, lora_alpha=8, target_modules=['q_lin', 'v_lin'], modules_to_save=['pre_classifier', 'classifier']))\n"
    + TRAIN,
)
training(
    "merge-on-eval",
    def_lora=__import__("tests.corpus.lora_class", fromlist=["MERGING"]).MERGING,
    lora=STEPS["lora"] + "model.eval()",
)
training("sgd", full=FRESH + "train(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))")
# ---- wrong
NO_FULL, NO_HEAD, NO_LORA = (
    "full/trained full/accuracy",
    "head/frozen head/trained head/accuracy",
    "lora/model lora/accuracy",
)
training("no-full", full="", loses=NO_FULL)
training("no-head", head="", loses=NO_HEAD)
training("no-lora", lora="", loses=NO_LORA)
training("nothing", full="", head="", lora="", loses=f"{NO_FULL} {NO_HEAD} {NO_LORA}")
training(
    "full-embeddings-frozen",
    full=FRESH + "model.distilbert.embeddings.requires_grad_(False)\n" + TRAIN,
    loses="full/trained",
)
training("full-head-frozen", full=FRESH + "model.classifier.requires_grad_(False)\n" + TRAIN, loses="full/trained")
training(
    "full-only-head-stepped",
    full=FRESH + "train(model, torch.optim.AdamW(model.classifier.parameters(), lr=1e-3))",
    loses="full/trained",
)
training(
    "full-without-embeddings",
    full=FRESH
    + "train(model, torch.optim.AdamW([p for n, p in model.named_parameters() if 'embeddings' not in n], lr=1e-3))",
    loses="full/trained",
)
training(
    "full-without-last-block",
    full=FRESH
    + "train(model, torch.optim.AdamW([p for n, p in model.named_parameters() if 'layer.5' not in n], lr=1e-3))",
    loses="full/trained",
)
training(
    "full-rate-zero", full=FRESH + "train(model, torch.optim.AdamW(model.parameters(), lr=0.0))", loses="full/trained"
)
training("head-not-frozen", head=FRESH + TRAIN, loses="head/frozen")
training("head-typo", head=FRESH + FREEZE.replace("requires_grad", "require_grad") + TRAIN, loses="head/frozen")
training("head-module-attribute", head=FRESH + "model.distilbert.requires_grad = False\n" + TRAIN, loses="head/frozen")
training(
    "head-only-attention-frozen",
    head=FRESH + "for n, p in model.named_parameters():\n    p.requires_grad = 'attention' not in n\n" + TRAIN,
    loses="head/frozen",
)
training(
    "head-embeddings-open",
    head=FRESH + FREEZE + "model.distilbert.embeddings.requires_grad_(True)\n" + TRAIN,
    loses="head/frozen",
)
training(
    "head-last-block-open",
    head=FRESH + FREEZE + "model.distilbert.transformer.layer[5].requires_grad_(True)\n" + TRAIN,
    loses="head/frozen",
)
training("head-reused", head=FREEZE + TRAIN, loses="head/frozen")
training("head-from-config", head="model = type(model)(model.config)\n" + FREEZE + TRAIN, loses="head/frozen")
training(
    "head-optimizer-only",
    head=FRESH
    + "train(model, torch.optim.AdamW(list(model.pre_classifier.parameters()) + list(model.classifier.parameters()), lr=1e-3))",
    loses="head/frozen",
)
training("head-frozen-too-late", head=FRESH + TRAIN + FREEZE, loses="head/frozen")
training(
    "head-frozen-elsewhere",
    head="other = fresh()\nother.distilbert.requires_grad_(False)\n" + FRESH + TRAIN,
    loses="head/frozen",
)
training(
    "head-pre-classifier-frozen",
    head=FRESH + FREEZE + "model.pre_classifier.requires_grad_(False)\n" + TRAIN,
    loses="head/trained",
)
training(
    "head-classifier-frozen",
    head=FRESH + FREEZE + "model.classifier.requires_grad_(False)\n" + TRAIN,
    loses="head/trained",
)
training(
    "head-one-layer-stepped",
    head=FRESH + FREEZE + "train(model, torch.optim.AdamW(model.classifier.parameters(), lr=1e-3))",
    loses="head/trained",
)
training(
    "head-bias-frozen",
    head=FRESH + FREEZE + "model.classifier.bias.requires_grad = False\n" + TRAIN,
    loses="head/trained",
)
training(
    "lora-body-open",
    lora=FRESH + WRAP.replace("replace", "for p in ():\n    pass\nreplace") + TRAIN,
    loses="lora/model",
)
training("lora-typo", lora=FRESH + FREEZE.replace("requires_grad", "require_grad") + WRAP + TRAIN, loses="lora/model")
training("lora-adapters-frozen", lora=FRESH + WRAP + FREEZE + TRAIN, loses="lora/model")
training("lora-head-frozen", lora=FRESH + "model.requires_grad_(False)\n" + WRAP + TRAIN, loses="lora/model")
training(
    "lora-classifier-frozen",
    lora=FRESH + FREEZE + "model.classifier.requires_grad_(False)\n" + WRAP + TRAIN,
    loses="lora/model",
)
training(
    "lora-optimizer-too-early",
    lora=FRESH
    + FREEZE
    + "opt = torch.optim.AdamW([p for p in model.parameters()], lr=1e-3)\n"
    + WRAP
    + "train(model, opt)",
    loses="lora/model",
)
training(
    "lora-head-not-stepped",
    lora=FRESH
    + FREEZE
    + WRAP
    + "train(model, torch.optim.AdamW([p for n, p in model.named_parameters() if n.endswith(('.A', '.B'))], lr=1e-3))",
    loses="lora/model",
)
training(
    "lora-a-not-stepped",
    lora=FRESH
    + FREEZE
    + WRAP
    + "train(model, torch.optim.AdamW([p for n, p in model.named_parameters() if p.requires_grad and not n.endswith('.A')], lr=1e-3))",
    loses="lora/model",
)
training(
    "lora-keys-too",
    lora=FRESH
    + FREEZE
    + WRAP
    + "for b in model.distilbert.transformer.layer:\n    b.attention.k_lin = LoRA(b.attention.k_lin, 4, 8)\n"
    + TRAIN,
    loses="lora/model",
)
training(
    "lora-feed-forward-too",
    lora=FRESH
    + FREEZE
    + WRAP
    + "for b in model.distilbert.transformer.layer:\n    b.ffn.lin1 = LoRA(b.ffn.lin1, 4, 8)\n"
    + TRAIN,
    loses="lora/model",
)
training(
    "lora-classifier-wrapped",
    lora=FRESH + FREEZE + WRAP + "model.pre_classifier = LoRA(model.pre_classifier, 4, 8)\n" + TRAIN,
    loses="lora/model",
)
training(
    "lora-queries-only",
    lora=FRESH
    + FREEZE
    + "replace_layers(model, {n: LoRA(m, 4, 8) for n, m in extract_qv_layers(model).items() if 'q_lin' in n})\n"
    + TRAIN,
    loses="lora/model",
)
training(
    "lora-five-blocks",
    lora=FRESH
    + FREEZE
    + "replace_layers(model, {n: LoRA(m, 4, 8) for n, m in extract_qv_layers(model).items() if '.5.' not in n})\n"
    + TRAIN,
    loses="lora/model",
)
training(
    "lora-one-shared",
    lora=FRESH
    + FREEZE
    + "layers = extract_qv_layers(model)\none = LoRA(next(iter(layers.values())), 4, 8)\nreplace_layers(model, {n: one for n in layers})\n"
    + TRAIN,
    loses="lora/model",
)
training(
    "lora-reused-full",
    head=STEPS["head"],
    lora="model = fresh()\ntrain(model)\n" + FREEZE + WRAP + TRAIN,
    loses="lora/model",
)
training(
    "lora-on-the-full-model",
    full="first = fresh()\ntrain(first)",
    lora="model = first\n" + FREEZE + WRAP + TRAIN,
    loses="lora/model",
)
training(
    "lora-same-cell-as-full",
    full="",
    head=STEPS["head"],
    lora="model = fresh()\ntrain(model)\n" + FREEZE + WRAP + TRAIN,
    loses="lora/model",
)
training(
    "lora-never-placed",
    lora=FRESH + FREEZE + "layers = {n: LoRA(m, 4, 8) for n, m in extract_qv_layers(model).items()}\n" + TRAIN,
    loses=NO_LORA,
)
training("lora-from-config", lora="model = type(model)(model.config)\n" + FREEZE + WRAP + TRAIN, loses="lora/model")
