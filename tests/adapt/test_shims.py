"""The shims that change libraries, in real kernels with the real libraries: the student's code runs, and every change is recorded."""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COLD_AND_WARM = pytest.mark.parametrize("preloaded", [False, True], ids=["cold", "warm"])
"""Libraries that are imported after the shims, or before."""


def test_data_files_are_found_by_name(notebook):
    records = notebook(
        """
import csv, os, pathlib, shutil
text = open('/nowhere/train.csv').read()
assert text.startswith('index')
assert pathlib.Path('../data/train (1).csv').read_text() == text
assert os.path.exists('../data/eval.csv') and not os.path.exists('../data/other.csv')
assert pathlib.Path('x/eval.csv').is_file() and not pathlib.Path('x/eval2.csv').exists()
assert len(list(csv.reader(open(os.path.join('a', 'TRAIN.csv'))))) == 5
assert open('/drive/helper.py').read() == 'x = 1\\n'
shutil.copy('/content/drive/train.csv', '.')
shutil.copy('/nowhere/train.csv', 'copy.csv')
shutil.copy('/nowhere/train.csv', '.')
shutil.move('/elsewhere/train.csv', 'moved.csv')
assert open('train.csv').read() == open('copy.csv').read() == open('moved.csv').read() == text
try:
    open('../data/other.csv')
except FileNotFoundError:
    pass
else:
    raise AssertionError
assert open('train.csv').read() == text
"""
    ).records
    assert ("path", "/nowhere/train.csv", "train.csv") in records
    assert {rule for rule, _, _ in records} == {"path"}


LOOKS = [
    "assert sorted(os.listdir(folder)) == ['eval.csv', 'train.csv']",
    "assert os.path.exists(folder)",
    "assert os.path.isdir(folder)",
    "assert len(glob.glob(folder + '/*.csv')) == len([*Path(folder).glob('*.csv')]) == 2",
    "assert [*Path(folder).iterdir()] and Path(folder).is_dir()",
    "assert os.path.getsize(folder + '/train.csv') == (Path(folder) / 'train.csv').stat().st_size > 0",
    "assert [names for _, _, names in os.walk(folder)]",
    "if os.path.exists(folder):\n    shutil.rmtree(folder)\nos.mkdir(folder)\nassert os.listdir(folder) == []",
    "os.makedirs(folder)\nassert os.listdir(folder) == []",
    "os.mkdir('/content/drive/MyDrive/a4/out')\nassert os.listdir('/content/drive/MyDrive/a4/out') == []",
    "import polars\nassert len(polars.read_csv(os.path.join(folder, 'train.csv'))) == 4",
    "import zipfile\nzipfile.ZipFile(folder + '.zip').extractall('x')\nassert len(os.listdir('x')) == 2",
]
FOLDERS = [
    "'/content/drive/MyDrive/a4'",
    "'../data'",
    "str(Path('..') / 'data')",
    "os.path.join('/content/drive/MyDrive/a4', 'Dataset')",
]


@pytest.mark.parametrize(("look", "folder"), [*zip(LOOKS, itertools.cycle(FOLDERS), strict=False)])
def test_folders_that_hold_the_data_elsewhere(notebook, look, folder):
    ran = notebook(f"import glob, os, shutil\nfrom pathlib import Path\nfolder = {folder}\n{look}")
    assert set(ran.rules) <= {"folder", "path"}


def test_tracebacks_show_nothing_of_ours(notebook):
    ran = notebook("open('missing.txt')", "import os\nos.listdir('nowhere')", fails=True)
    for cell in ran.cells:
        assert "No such file" in cell.error.traceback and "In[" in cell.error.traceback
        assert not any(name in cell.error.traceback for name in ("hooks.py", "paths.py", "replaced("))


def test_other_missing_folders_stay_missing(notebook):
    looks = [
        "os.listdir('results')",
        "os.scandir('/nowhere')",
        "os.path.getsize('other.csv')",
        "(1 / os.path.isdir('runs'))",
        "os.listdir('/nowhere/data')",
        "(1 / os.path.exists('dataset'))",  # of what an earlier run saved there may be
    ]
    cells = [
        f"import os\ntry:\n    {look}\nexcept (FileNotFoundError, ZeroDivisionError):\n    pass\nelse:\n    1 / 0"
        for look in looks
    ]
    assert notebook(*cells).changes == []


@pytest.mark.parametrize("name", ["tokenized_data", "full_model", "checkpoints", "lora"])
def test_what_an_earlier_run_saved_is_not_there(notebook, name):
    folder = f"/content/drive/MyDrive/a4/{name}"
    ran = notebook(
        f"import os\nfrom pathlib import Path\nassert not (os.path.exists('{folder}') or Path('{folder}').is_dir())"
    )
    assert ran.rules == ["path"]


def test_existing_paths_are_left_alone(notebook):
    code = "assert open('mine/train.csv').read() == 'own'; assert open('train.csv').read() != 'own'"
    assert notebook(code, files={"mine/train.csv": b"own"}).changes == []


def test_folders_that_exist_elsewhere(notebook):
    records = notebook(
        """
import os, pandas
os.chdir('/nowhere/a4')
assert os.path.exists('train.csv')
open('out/deep/x.txt', 'w').write('a')
pandas.DataFrame({'a': [1]}).to_csv('tables/x.csv')
os.mkdir('sub'); os.chdir('sub')
assert open('train.csv').read().startswith('index')
"""
    ).records
    assert [record[:2] for record in records] == [
        ("folder", "os.chdir('/nowhere/a4')"),
        ("folder", "out/deep"),
        ("folder", "tables"),
        ("path", "train.csv"),
    ]


def test_folders_of_other_machines_can_be_written_to(notebook):
    """By whatever writes: Python, a library in C or Rust, a shell."""
    ran = notebook(
        """
import os, pathlib, shutil, tempfile, torch, datasets, numpy, safetensors.torch
for root in ('/cephyr/users/x', '/workspace', '/opt/a4', '/data/courses/a4', '../results', '/srv/x', '/a/b/c', '/var/tmp/x', '/etc/x'):
    os.makedirs(root + '/deep', exist_ok=True)
    pathlib.Path(root, 'more').mkdir()
    pathlib.Path(root, 'notes.txt').write_text('x')
    torch.save({'a': 1}, root + '/deep/a.pt')
    safetensors.torch.save_file({'a': torch.zeros(2)}, root + '/deep/a.safetensors')
    numpy.save(root + '/a.npy', numpy.zeros(2))
    tempfile.mkdtemp(dir=root)
    os.system(f'echo 1 > {root}/b')
    assert sorted(os.listdir(root))[:3] == ['a.npy', 'b', 'deep']
data = datasets.load_dataset('csv', data_files='train.csv', cache_dir='/scratch/hf')
data.save_to_disk('/mimer/data')
os.chdir('/workspace')
assert os.getcwd() == '/workspace' and open('train.csv').read().startswith('index')
import helper
shutil.rmtree('/workspace/deep')
"""
    )
    assert [record[:2] for record in ran.records] == [("path", "train.csv")]


@COLD_AND_WARM
def test_pandas_and_numpy(notebook, preloaded):
    records = notebook(
        """
import pandas as pd, numpy as np
assert len(pd.read_csv('../../train.csv')) == 4
assert len(pd.read_csv(filepath_or_buffer='https://example.org/a/eval.csv?raw=true')) == 4
assert np.genfromtxt('/x/train.csv', delimiter=',', dtype=str).shape == (5, 3)
assert np.product([2, 3]) == 6 and np.float is float
""",
        preloaded=preloaded,
    ).records
    assert ("renamed", "numpy.product", "numpy.prod") in records
    assert sum(rule == "path" for rule, _, _ in records) == 3


def test_colab(notebook):
    records = notebook(
        """
import io
from google.colab import drive, files, userdata, output, auth
import google.colab
drive.mount('/content/drive', force_remount=True)
uploaded = files.upload()
assert sorted(uploaded) == ['eval.csv', 'helper.py', 'train.csv']
assert io.BytesIO(uploaded['train.csv']).read().startswith(b'index')
assert userdata.get('HF_TOKEN') == ''
files.download('x'); output.clear(); auth.authenticate_user(); drive.flush_and_unmount()
"""
    ).records
    assert {rule for rule, _, _ in records} == {"colab", "path"}
    assert ("colab", "files.upload()", "the data files") in records


def test_stand_ins_absorb_everything(notebook):
    records = notebook(
        """
import wandb, mlflow, graphviz, pynvml
from torch.utils.tensorboard import SummaryWriter
from bokeh.plotting import figure
writer = SummaryWriter('x'); writer.add_scalar('a', 1, 2); writer.close()
wandb.login(key='x')
with mlflow.start_run() as run:
    mlflow.log_metric('a', 1)
axes = figure(title='x').line([1], [2]); axes[0].plot()
assert f'{axes:.3f}' == '' and not axes and list(axes) == [] and 'a' + axes == 'a'
memory = pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByIndex(0))
print(f'{memory.used // 1024 ** 2} MB', round(memory.used / 1e9, 2), memory.free > 1, memory.total >= 0)
assert not isinstance(3, wandb.Table)
@wandb.trace
def f():
    return 3
assert f() == 3
class Mine(wandb.Callback):
    pass
assert Mine().__class__ is Mine
try:
    raise wandb.CommError('x')
except wandb.CommError:
    pass
"""
    ).records
    assert {before for _, before, _ in records} == {
        "import bokeh",
        "import graphviz",
        "import mlflow",
        "import pynvml",
        "import torch.utils.tensorboard",
        "import wandb",
    }


def test_services_give_back_what_they_were_given(notebook):
    ran = notebook(
        """
import argparse, os, wandb
run = wandb.init(project='x', config={'lr': 1e-3, 'epochs': 2})
config = wandb.config
assert config.lr == 1e-3 and config['epochs'] == 2 and run.config.lr == 1e-3 and wandb.run is run
config.update({'batch': 4}); config.seed = 3; config.update(argparse.Namespace(rank=8)); config.setdefaults({'lr': 1, 'k': 2})
assert (config.batch, config['seed'], config.rank, config.lr, config.k) == (4, 3, 8, 1e-3, 2) and not hasattr(config, 'other')
run.summary['best'] = 1; assert run.summary['best'] == 1
run.log({'a': 1}); run.finish()
""",
        """
tried = []
def train():
    with wandb.init(config={'lr': 9, 'epochs': 1}) as run:
        tried.append((wandb.config.lr, run.config['n'], wandb.config.epochs, wandb.config.size))
sweep = wandb.sweep({'parameters': {'lr': {'values': [0.5, 1]}, 'n': {'value': 3}, 'size': {'min': 2, 'max': 3}}}, project='y')
wandb.agent(sweep, train, count=10)
assert tried == [(0.5, 3, 1, 2)]
""",
        """
import gdown, kagglehub
from kaggle_secrets import UserSecretsClient
from huggingface_hub import HfApi, create_repo
assert gdown.download('https://x/y', 'train.csv', quiet=False) == 'train.csv' and UserSecretsClient().get_secret('x') == ''
assert open(os.path.join(kagglehub.dataset_download('a/b'), 'train.csv')).read()
assert HfApi().create_repo(repo_id='me/x') == create_repo('me/x') == 'me/x'
HfApi().upload_folder(folder_path='.', repo_id='me/x')
""",
        """
import torch, bitsandbytes as bnb
from bitsandbytes.optim import PagedAdamW8bit
layer = bnb.nn.Linear8bitLt(2, 3, has_fp16_weights=False)
before = layer.weight.clone()
for optimizer in (bnb.optim.AdamW8bit(layer.parameters(), lr=1e-2, optim_bits=8), PagedAdamW8bit(layer.parameters(), lr=1e-2)):
    layer(torch.ones(1, 2)).sum().backward(); optimizer.step(); optimizer.zero_grad()
    assert isinstance(optimizer, torch.optim.AdamW) and not torch.equal(before, layer.weight)
""",
    )
    assert not any(rule == "stand-in" for rule in ran.rules)


@pytest.mark.parametrize(
    ("cell", "named"),
    [
        ("import spacy\nnlp = spacy.load('en_core_web_sm')\n[token.text for token in nlp('a b')]", "spacy"),
        ("from torchvision import transforms\ntransforms.Resize(3)", "torchvision"),
        ("import wandb\nwandb.api.best() < 'y'", "wandb"),
        ("import wandb\nimport math\nmath.log(3, wandb)\n", None),
        ("import wandb\n[1, 2] + [wandb.x] + wandb.Settings", None),
        ("import torchvision, tensorflow as tf\ntf.random.set_seed(3)\nfrom torchvision import datasets", None),
        ("import wandb\nwandb.init()\nwandb.log({'a': 1})\n1 / 0", None),
        ("import json, wandb\njson.dumps(wandb.config_of)", "a package that is missing"),
    ],
)
def test_it_is_recorded_where_a_stand_in_took_part(notebook, cell, named):
    ran = notebook(cell, fails=True)
    assert [before for rule, before, _ in ran.records if rule == "stand-in"] == ([named] if named else [])


def test_nltk_does_without_its_data(notebook):
    ran = notebook(
        """
import nltk
nltk.download('punkt'); nltk.download(['stopwords', 'wordnet'], quiet=True)
from nltk.corpus import stopwords
from nltk.stem import PorterStemmer, WordNetLemmatizer
from nltk.tokenize import sent_tokenize, word_tokenize
assert 'the' in set(stopwords.words('english')) and stopwords.fileids() == ['english']
assert word_tokenize("It's good. Really!") == ['It', "'s", 'good', '.', 'Really', '!']
assert sent_tokenize('Good film. Bad plot.') == ['Good film.', 'Bad plot.']
assert WordNetLemmatizer().lemmatize('films') == 'films' and PorterStemmer().stem('films') == 'film'
""",
        "from nltk.corpus import brown\nbrown.words()",
        fails=True,
    )
    assert [cell.status for cell in ran.cells] == ["ok", "error"], ran.cells[0]
    assert {before for rule, before, _ in ran.records if rule == "stand-in"} == {
        "nltk's punkt", "nltk's stopwords", "nltk's wordnet"
    }  # fmt: skip


def test_missing_packages_stay_missing(notebook):
    code = """
import seaborn
assert seaborn.mine == 1
for name in ('torchlora', 'unheard_of'):
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise AssertionError(name)
"""
    assert notebook(code, files={"seaborn.py": b"mine = 1\n"}).changes == []


STUDENTS = {
    line.split(">=")[0]
    for line in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["students"]
}
IMPORTS = """
from importlib.metadata import packages_distributions
import importlib
for module, packages in packages_distributions().items():
    if set(packages) & {STUDENTS} and not module.startswith(('_', 'polars_')):
        importlib.import_module(module)
import torch, pandas as pd, nest_asyncio
frame = pd.DataFrame({'a': [1, 2], 'b': [3, 4]})
import seaborn, plotly.express, polars, altair
seaborn.barplot(frame, x='a', y='b'); plotly.express.line(frame, x='a', y='b').show(); polars.from_pandas(frame)
from wordcloud import WordCloud
WordCloud().generate('good film')
from bs4 import BeautifulSoup
assert BeautifulSoup('good<br/>film', 'lxml').get_text(' ') == 'good film'
import contractions, torchinfo, torchmetrics, loralib, lightning, ignite.engine
assert contractions.fix("don't") == 'do not'
torchinfo.summary(torch.nn.Linear(2, 2), (1, 2)); loralib.Linear(3, 4, r=2)
assert torchmetrics.Accuracy(task='binary')(torch.tensor([1, 0]), torch.tensor([1, 1])) == 0.5
class Mine(lightning.LightningModule):
    def __init__(self):
        super().__init__(); self.layer = torch.nn.Linear(2, 1)
    def training_step(self, batch, _index):
        return self.layer(batch).sum()
    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=1e-3)
trainer = lightning.Trainer(max_epochs=1, accelerator='auto', logger=False)
trainer.fit(Mine(), torch.utils.data.DataLoader(torch.ones(4, 2), num_workers=2))
import ipywidgets
slider = ipywidgets.IntSlider(value=7)
ipywidgets.interact(lambda x: print('shown', x), x=slider)
assert slider.value == 7
"""


@pytest.mark.slow
def test_packages_of_a_course_are_there(notebook):
    ran = notebook(IMPORTS.replace("{STUDENTS}", repr(STUDENTS)))
    assert "shown 7" in ran.cells[0].output
    assert "stub-module" not in ran.rules


@pytest.mark.slow
def test_libraries_do_not_see_stub_modules(notebook):
    notebook(
        """
import transformers.utils.import_utils as utils
assert not utils._is_package_available('wandb')[0]
from transformers.integrations import is_wandb_available, is_tensorboard_available, is_mlflow_available
assert not (is_wandb_available() or is_tensorboard_available() or is_mlflow_available())
import wandb
assert not utils._is_package_available('tensorboard')[0]
"""
    )


def test_prompts_and_logins(notebook):
    rules = notebook(
        """
import getpass, os
assert input('name? ') == '' and getpass.getpass('token') == ''
assert os.environ["WANDB_API_KEY"] == os.environ["HF_TOKEN"] == ""
from huggingface_hub import login, notebook_login
login('x'); notebook_login()
try:
    while True:
        input('again')
except EOFError:
    pass
else:
    raise AssertionError
"""
    ).rules
    assert sorted(rules) == ["login", "login", "prompt", "prompt", "prompt"]


def test_plots(notebook):
    records = notebook(
        """
import matplotlib
matplotlib.use('TkAgg')
import matplotlib.pyplot as plt
plt.style.use('seaborn-whitegrid')
plt.style.use('ggplot')
from tqdm.notebook import tqdm, trange
assert sum(tqdm(range(3))) == 3
"""
    ).records
    assert ("plot", "plt.style.use('seaborn-whitegrid')", "") in records


DEVICES = """
gpu = "CUDA".lower()  # a name that no literal gives
import torch
model = torch.nn.Linear(2, 2)
for device in (gpu, gpu + ':0', 'MPS'.lower(), 0, torch.device(gpu)):
    model = model.to(device)
    x = torch.zeros(2).to(device)
    assert x.device.type == 'cpu'
model.cuda(); model.to(device=gpu); x.cuda(non_blocking=True); x.pin_memory()
assert x.to(gpu, torch.float64).dtype is torch.float64
assert x.to(torch.float16).dtype is torch.float16 and x.to(model.weight).dtype is torch.float32
assert not torch.cuda.is_available()
torch.cuda.empty_cache(); torch.cuda.synchronize(); torch.cuda.set_device(0); torch.cuda.manual_seed_all(1)
torch.cuda.reset_peak_memory_stats(); torch.cuda.max_memory_allocated(); torch.cuda.memory_summary()
torch.cuda.list_gpu_processes()
with torch.cuda.device(0):
    assert torch.zeros(2).device.type == 'cpu'
torch.cuda.get_device_name(0); torch.cuda.get_device_properties(0).total_memory; torch.cuda.mem_get_info()
start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
start.record(); end.record(); assert start.elapsed_time(end) >= 0
with torch.cuda.amp.autocast():
    model(x)
scaler = torch.cuda.amp.GradScaler()
loss = model(x).sum(); scaler.scale(loss).backward()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1); scaler.step(optimizer); scaler.update()
assert torch.compile(model) is model
torch.save(model.state_dict(), 'new/folder/m.pt'); torch.load('new/folder/m.pt', map_location=gpu)
with torch.device('meta'):
    assert torch.zeros(2).is_meta and torch.nn.Linear(2, 2).weight.is_meta
assert torch.nn.Linear(2, 2).to('meta').weight.is_meta
"""


@COLD_AND_WARM
def test_devices(notebook, preloaded):
    records = notebook(DEVICES, preloaded=preloaded).records
    assert {rule for rule, _, _ in records} == {"device", "folder"}
    assert ("device", ".to('cuda')", "cpu") in records


LIBRARIES = """
import datasets, torch
from datasets import Dataset, DatasetDict, load_dataset, load_metric
data = load_dataset("csv", data_files={"train": "/x/train.csv", "test": "../eval.csv"})
assert data["train"].num_rows == data["test"].num_rows == 4
assert load_dataset("csv", data_files=["/y/train.csv"], split="train").num_rows == 4
assert load_dataset("csv", data_files="train.csv", ignore_verifications=True, use_auth_token=True)["train"].num_rows == 4
assert load_dataset("csv", None, None, "/y/train.csv")["train"].num_rows == 4
assert load_dataset("csv", data_dir="/content/drive", data_files={"train": "train.csv"})["train"].num_rows == 4
assert set(load_dataset("csv", data_dir="/content/drive")) == {"train", "test"}
assert set(load_dataset("/content/drive/data")) == {"train", "test"}
hub = load_dataset("stanfordnlp/imdb")
assert hub["train"].column_names == ["text", "label"] and hub["train"].features["label"].names == ["neg", "pos"]
assert load_dataset("imdb", split="train[:2]").num_rows == 2
assert Dataset.from_csv("/z/train.csv").num_rows == DatasetDict.from_csv({"a": "/z/eval.csv"})["a"].num_rows == 4

from transformers import AdamW, BertTokenizerFast, DistilBertConfig, DistilBertForSequenceClassification
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, EvaluationStrategy
from transformers import Trainer, TrainingArguments, pipeline
words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "good", "film", *"0123456789"]
with open("vocab.txt", "w") as file:
    file.write("\\n".join(words))
config = DistilBertConfig(vocab_size=len(words), dim=16, hidden_dim=32, n_heads=2, n_layers=1, num_labels=2)
DistilBertForSequenceClassification(config).save_pretrained("m")
BertTokenizerFast("vocab.txt").save_pretrained("m")
model = AutoModelForSequenceClassification.from_pretrained("m", num_labels=2, device_map="auto", use_auth_token=True)
tokenizer = AutoTokenizer.from_pretrained("m")
from transformers.models.distilbert.modeling_distilbert import MultiHeadSelfAttention
assert sum(isinstance(module, MultiHeadSelfAttention) and hasattr(module, "q_lin") for module in model.modules()) == 1
one = tokenizer.encode_plus("good film", return_tensors="pt")
assert len(tokenizer.batch_encode_plus(["good"], pad_to_max_length=True, max_length=8)["input_ids"][0]) == 8
tokens = data.map(lambda rows: tokenizer(rows["review"], truncation=True, max_length=16), batched=True)

class Weighted(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False):
        outputs = model(**inputs)
        return (outputs.loss, outputs) if return_outputs else outputs.loss

assert TrainingArguments("out", optim="adamw_hf", report_to="none").optim == "adamw_torch"
arguments = TrainingArguments(
    "out/x", evaluation_strategy="epoch", num_train_epochs=1, per_gpu_train_batch_size=2, no_cuda=False, fp16=True,
    overwrite_output_dir=True, logging_dir="logs", report_to="wandb", push_to_hub=True, warmup_ratio=0.5, tf32=True,
    use_mps_device=True, optim="adamw_8bit", save_safetensors=True, learning_rate=1e-3, seed=7, weight_decay=0.01,
    group_by_length=False,
)
assert arguments.eval_strategy == "epoch" and arguments.per_device_train_batch_size == 2
assert arguments.learning_rate == 1e-3 and arguments.seed == 7 and arguments.weight_decay == 0.01
assert arguments.get_warmup_steps(10) == 5 and not arguments.fp16
trainer = Weighted(
    model=model, args=arguments, train_dataset=tokens["train"], eval_dataset=tokens["test"], tokenizer=tokenizer
)
trainer.train()
trainer.push_to_hub(); model.push_to_hub("x")
assert trainer.tokenizer is tokenizer
pipeline("text-classification", model=model, tokenizer=tokenizer, device=0)("good film")
AdamW(model.parameters(), lr=1e-3, correct_bias=False)
for wrong in ({"learning_rat": 1}, {"evaluation_strateg": "epoch"}):
    try:
        TrainingArguments("out", **wrong)
    except TypeError:
        continue
    raise AssertionError(wrong)
"""


@pytest.mark.slow
@COLD_AND_WARM
def test_datasets_and_transformers(notebook, preloaded):
    records = notebook(LIBRARIES, preloaded=preloaded).records
    expected = {
        ("argument", "TrainingArguments(evaluation_strategy='epoch')", "eval_strategy='epoch'"),
        ("argument", "TrainingArguments(report_to='wandb')", "report_to='none'"),
        ("argument", "TrainingArguments(fp16=True)", ""),
        ("argument", "TrainingArguments(warmup_ratio=0.5)", "warmup_steps=0.5"),
        ("argument", "load_dataset(ignore_verifications=True)", ""),
        ("argument", "Trainer(tokenizer=...)", "processing_class=..."),
        ("argument", "Weighted.compute_loss(num_items_in_batch=...)", ""),
        ("argument", "from_pretrained(use_auth_token=True)", ""),
        ("device", "from_pretrained(device_map=...)", ""),
        ("hub-dataset", "load_dataset('stanfordnlp/imdb')", "the course's csv files"),
        ("login", "push_to_hub()", ""),
        ("path", "../eval.csv", "eval.csv"),
        ("renamed", "datasets.load_metric", "evaluate.load"),
        ("renamed", "transformers.AdamW", "torch.optim.AdamW"),
    }
    assert expected <= set(records)
    assert not any("learning_rate" in before or "seed" in before for _, before, _ in records)


@pytest.mark.slow
def test_a_current_notebook_records_nothing(notebook):
    code = """
from transformers import Trainer, TrainingArguments
import torch
arguments = TrainingArguments("out", eval_strategy="no", num_train_epochs=3, learning_rate=5e-5, report_to="none")
model = torch.nn.Linear(2, 2).to("cpu")
Trainer(model=model, args=arguments, processing_class=None)
"""
    assert notebook(code).changes == []


def test_downloads_of_data_files_and_folders_of_data_sets(notebook):
    records = notebook(
        """
import urllib.error, urllib.request
import requests
from datasets import load_dataset
url = 'https://example.org/a4/train.csv?raw=1'
urllib.request.urlretrieve(url, 'mine.csv')
text = open('train.csv').read()
assert open('mine.csv').read() == text == urllib.request.urlopen(url).read().decode()
got = requests.get(url, timeout=5)
got.raise_for_status()
assert got.text == text and requests.get(url, stream=True).content.decode() == text
files = {'train': 'train.csv', 'test': 'eval.csv'}
for folder in ('/content/drive/MyDrive/data', 'data', './data/'):
    assert load_dataset(folder, data_files=files)['test'].num_rows == 4, folder
assert set(load_dataset('data')) == {'train', 'test'}
for call in (lambda: urllib.request.urlopen('https://example.invalid/other.csv'), lambda: load_dataset('owner/other')):
    try:
        call()
    except (urllib.error.URLError, ConnectionError):
        pass
    else:
        raise AssertionError
"""
    ).records
    assert {rule for rule, _, _ in records} == {"path"}


@COLD_AND_WARM
def test_metrics_that_the_network_has(notebook, preloaded):
    records = notebook(
        """
import evaluate
assert evaluate.load('f1').compute(predictions=[1, 0, 1], references=[1, 0, 0]) == {'f1': 2 / 3}
assert evaluate.load('precision').compute(predictions=[1, 0, 1], references=[1, 0, 0], average='macro') == {'precision': 0.75}
both = evaluate.combine([evaluate.load('f1'), 'recall'])
both.add_batch(predictions=[1, 0], references=[1, 1])
both.add_batch(predictions=[1, 1], references=[1, 1])
assert both.compute()['recall'] == 0.75
try:
    evaluate.load('acuracy')
except FileNotFoundError:
    pass
else:
    raise AssertionError
""",
        preloaded=preloaded,
    ).records
    assert {(rule, what) for rule, what, _ in records if rule != "stub-module"} == {
        ("metric", f"evaluate.load('{n}')") for n in ("f1", "precision", "recall")
    }


def test_own_layers_are_drawn_as_of_the_real_width(notebook):
    code = """
import torch
from torch import nn
torch.manual_seed(1); narrow = nn.Linear(768, 2)
torch.manual_seed(1); wide = nn.Linear(60, 2)
torch.manual_seed(1); factor = nn.Linear(768, 12, bias=False)
assert narrow.weight.abs().max() < 0.26 / 64 ** 0.5 < factor.weight.abs().max()
assert 0.9 < wide.weight.abs().max() * 60 ** 0.5 < 1
assert narrow.weight.requires_grad and narrow.weight.is_leaf
"""
    changed = [record for record in notebook(code, config={"head_gain": 0.25}).records if "drawn" in record[2]]
    assert changed == [("size", "Linear(in_features=64, out_features=2, bias=True)", "drawn 4 times narrower")]
    real = code.replace("< 0.26 / 64 ** 0.5 <", "> 0.8 / 64 ** 0.5 <")
    assert not [record for record in notebook(real).records if "drawn" in record[2]]


def test_steps_of_sgd_are_no_longer_than_the_trainers(notebook):
    code = """
import torch
def moved(gradient, **options):
    weight = torch.nn.Parameter(torch.zeros(4))
    weight.grad = torch.tensor(gradient)
    torch.optim.SGD([weight], 0.1, **options).step()
    return [round(number, 4) for number in weight.tolist()]
print(moved([0.3, 0.0, 0.0, -0.4]), moved([30.0, 0.0, 0.0, -40.0], momentum=0.9))
"""
    seen = notebook(code, config={"head_gain": 0.25})
    assert seen.records.count(("size", "SGD", "clipped at a norm of 1")) == 1
    assert seen.cells[0].output.strip() == "[-0.03, 0.0, 0.0, 0.04] [-0.06, 0.0, 0.0, 0.08]"
    real = notebook(code)
    assert not [record for record in real.records if record[1] == "SGD"]
    assert real.cells[0].output.strip() == "[-0.03, 0.0, 0.0, 0.04] [-3.0, 0.0, 0.0, 4.0]"


def test_other_own_layers_are_drawn_as_of_the_real_width(notebook):
    code = """
import torch
from torch import nn
real = 3 * 256  # not to be taken for a size
convolution, factor = nn.Conv1d(768, 4, 1), nn.Conv1d(768, 4, 1, bias=False)
assert convolution.weight.abs().max() < 0.26 / 64 ** 0.5 < factor.weight.abs().max()
gates, small = nn.LSTM(768, 768), nn.GRU(768, 20)
assert gates.weight_ih_l0.abs().max() < 1.01 / real ** 0.5 < 1 / 20 ** 0.5 * 0.9 < small.weight_ih_l0.abs().max()
attention = nn.MultiheadAttention(768, 4)
assert 0.9 * (6 / 4 / real) ** 0.5 < attention.in_proj_weight.abs().max() < 1.01 * (6 / 4 / real) ** 0.5
assert nn.LayerNorm(768).weight.eq(1).all() and nn.Embedding(9, 768).weight.std() > 0.8
"""
    changed = [record for record in notebook(code, config={"head_gain": 0.25}).records if "drawn" in record[2]]
    assert [record[1].partition("(")[0] for record in changed] == [
        "Conv1d",
        "LSTM",
        "NonDynamicallyQuantizableLinear",
        "MultiheadAttention",
    ]
