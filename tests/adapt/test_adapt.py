"""What is adapted in the source, one test per rule and form; and that nothing else changes."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grader.notebook.adapt import Environment, adapt, adapt_source, merge, shim_config
from grader.notebook.adapt.edits import parse
from grader.notebook.adapt.shell import filter_command, filter_script, is_install
from grader.records import Adaptation, Cell, Notebook

SIZES = {66955010: 160000, 592130: 9000, 768: 64, 3072: 256}
BOX = Environment(
    data_files={"train.csv": "train.csv", "eval.csv": "data/eval.csv"},
    companions=("helper.py",),
    sizes=SIZES,
    packages=frozenset({"torch", "matplotlib"}),
)
REAL = Environment(gpu=True, packages=frozenset({"seaborn", "tensorboard"}))


def run(source, environment=BOX):
    """The adapted source and its rules; checks what has to hold always."""
    adapted, changes = adapt_source(source, environment, 7)
    assert adapted.count("\n") == source.count("\n")
    assert all(change.cell == 7 and change.reason.endswith(".") for change in changes)
    assert (adapted == source) or changes or parse(source) is None
    assert adapt_source(source, environment, 7) == (adapted, changes)
    return adapted, [change.rule for change in changes]


@pytest.mark.parametrize(
    "line",
    [
        "!pip install transformers",
        "!pip install -q 'transformers[torch]>=4.0' \\\n   datasets",
        "!pip3 install x",
        "!python -m pip install x",
        "!{sys.executable} -m pip install x",
        "!sudo apt-get install -y git-lfs",
        "!apt install x",
        "!conda install -y x",
        "! pip install x > /dev/null 2>&1",
        "!pip install x | tail -1",
        "!pip install a && pip install b; pip list",
        "!yes | pip uninstall x",
        "!PIP_QUIET=1 pip install x",
        "!!pip install x",
        "%pip install x",
        "%conda install x",
        "pip install x",
        "pip install -q transformers datasets==2.1 evaluate",
        "pip install transformers[torch] \\\n   datasets",
        "conda install -c conda-forge x",
        "python -m pip install x",
        "apt-get install x",
    ],
)
def test_install_lines(line):
    for before, after in (("", ""), ("import os\n", "\nprint(1)"), ("if 1:\n    ", "\nx = 2")):
        source = before + line.replace("\n", "\n    " if before.endswith(" ") else "\n") + after
        adapted, rules = run(source)
        assert set(rules) == {"install"}, source
        assert "install" not in adapted
        assert parse(adapted) is not None, adapted


def test_install_lines_at_their_line():
    adapted, changes = adapt_source("import os\npip install a\nx = 1\n!pip install b", BOX, 3)
    assert adapted == "import os\npass\nx = 1\npass"
    assert [(change.cell, change.before, change.after) for change in changes] == [
        (3, "pip install a", ""),
        (3, "!pip install b", ""),
    ]


def test_rest_of_a_shell_line_runs():
    assert run("!pip install x && mkdir out")[0] == "get_ipython().system('mkdir out')"
    assert run("!mkdir out; pip install x; ls")[0] == "get_ipython().system('mkdir out; ls')"


def test_captured_install():
    adapted, rules = run("%%capture\n!pip install x\nprint(1)")
    assert adapted == "\npass\nprint(1)"
    assert rules == ["cell-magic", "install"]
    adapted, _ = run("%%capture output --no-stderr\n%pip install x\noutput.show()")
    names: dict = {}
    exec(adapted.replace("%", ""), names)
    assert names["output"].stdout == ""


def test_assigned_shell_output():
    assert run("x = !pip list")[0] == "x = []"
    assert run("x = %pip list")[0] == "x = None"
    assert run("x = !ls")[0] == "x = get_ipython().getoutput('ls')"


@pytest.mark.parametrize("magic", ["bash", "sh", "shell", "script bash"])
def test_shell_cells(magic):
    adapted, rules = run(f"%%{magic}\npip install x \\\n  y\nmkdir out\n")
    assert rules == ["install"]
    assert "pip" not in adapted
    assert "mkdir out" in adapted
    assert adapted.endswith("\n\n\n")


def test_time_and_nested_cell_magics():
    assert run("%%time\ntrainer.train()") == ("\ntrainer.train()", ["cell-magic"])
    assert run("\n\n%%time\n%%capture\nx = 1\n") == ("\n\n\n\nx = 1\n", ["cell-magic", "cell-magic"])
    assert run("%time trainer.train()") == ("trainer.train()", ["line-magic"])
    assert run("import os\n%%time\nx = 1")[0] == "import os\npass\nx = 1"


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("%cd /content/drive/MyDrive", "line-magic"),
        ("%cd data", "line-magic"),
        ("%load_ext tensorboard", "line-magic"),
        ("%tensorboard --logdir logs", "line-magic"),
        ("%wandb me/project", "line-magic"),
        ("%tensorflow_version 2.x", "line-magic"),
        ("!nvidia-smi", "hardware"),
        ("!nvidia-smi -L | head", "hardware"),
        ("!wget https://x.org/train.csv", "network"),
        ("!gdown --id 1", "network"),
        ("!git clone https://x.org/y", "network"),
        ("!huggingface-cli login", "network"),
        ("model?", "help"),
        ("?model", "help"),
        ("model.forward??", "help"),
    ],
)
def test_lines_that_are_left_out(line, rule):
    assert run(line) == ("pass", [rule])
    assert run(f"for i in x:\n    {line}\n    y")[0] == "for i in x:\n    pass\n    y"


@pytest.mark.parametrize(
    "line",
    [
        "!ls",
        "!mkdir -p out",
        "!unzip data.zip",
        "!cat a.txt | grep pip",
        "!echo 'pip install x'",
        "%env A=1",
        "%matplotlib inline",
        "%load_ext autoreload",
        "%autoreload 2",
        "%timeit f()",
        "%run train.py",
        "%who",
        "!rm -rf out",
        "!python train.py",
        "!cp a b 2>&1",
    ],
)
def test_lines_that_run(line):
    adapted, rules = run(line)
    assert adapted.startswith("get_ipython().")
    assert rules == []


def test_matplotlib_backends_and_run():
    assert run("%matplotlib notebook")[0] == "get_ipython().run_line_magic('matplotlib', 'inline')"
    assert run("%run /content/drive/MyDrive/helper.py")[0] == "get_ipython().run_line_magic('run', 'helper.py')"


def test_written_file_is_adapted_and_lies_beside_the_notebook():
    adapted, rules = run("%%writefile /content/drive/MyDrive/lora.py\nimport wandb\nsize = 768\nx = m.to('cuda')\n")
    assert "'writefile', 'lora.py'" in adapted
    assert "size = 64" in adapted
    assert "m.to('cpu')" in adapted
    assert sorted(rules) == ["device", "path", "size", "stub-module", "written-file"]
    assert run("%%writefile notes.txt\nsize = 768\n")[1] == []
    assert run("%%writefile lora.py\nclass LoRA: pass\n")[1] == []


def test_syntax_errors_stay_the_students():
    for source in ("def f(:", "x = (1", "print 'x'", "if x:\npass", "pip install x\ndef f(:", "\x00"):
        adapted, rules = run(source)
        assert parse(adapted) is None
        assert set(rules) <= {"install"}
    assert run("await f()") == ("await f()", [])


@pytest.mark.parametrize(
    ("path", "local"),
    [
        ("/content/train.csv", "train.csv"),
        ("/content/drive/MyDrive/a4/train.csv", "train.csv"),
        ("/content/drive/My Drive/eval.csv", "data/eval.csv"),
        ("/kaggle/input/imdb/train.csv", "train.csv"),
        ("C:\\Users\\me\\train.csv", "train.csv"),
        ("c:/x/eval.csv", "data/eval.csv"),
        ("/Users/me/Documents/train.csv", "train.csv"),
        ("/home/me/helper.py", "helper.py"),
        ("~/train.csv", "train.csv"),
        ("/content", "."),
        ("/content/", "./"),
        ("/content/drive", "."),
        ("/content/drive/MyDrive/", "./"),
        ("/content/drive/MyDrive/a4", "a4"),
        ("/content/results", "results"),
        ("/content/drive/MyDrive/a4/out/", "a4/out/"),
        ("/kaggle/working/out", "out"),
        ("/home/me/results", "results"),
        ("C:\\out", "out"),
    ],
)
def test_paths_of_other_machines(path, local):
    assert run(f"f({path!r})") == (f"f({local!r})", ["path"])


def test_paths_in_formatted_strings():
    assert run("f'/content/drive/MyDrive/{name}.csv'") == ("f'./{name}.csv'", ["path"])
    assert run("x = f'/content/{a}/b'")[0] == "x = f'./{a}/b'"
    assert run('x = rf"/content/drive/MyDrive/a4/{a}"')[0] == 'x = rf"./a4/{a}"'


@pytest.mark.parametrize(
    "source",
    [
        "'''/content/train.csv'''",
        "f('train.csv')",
        "f('data/train.csv')",
        "f('../train.csv')",
        "f('contents/x')",
        "f('/contented')",
        "f('/tmp/x')",
        "print('see /content/train.csv')",
        "x = f'{a}/content/b'",
        "f('https://x.org/content/train.csv')",
        "b'/content/x'",
    ],
)
def test_strings_that_are_no_such_path(source):
    assert run(source) == (source, [])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("model.to('cuda')", "model.to('cpu')"),
        ("device = torch.device('cuda:0')", "device = torch.device('cpu')"),
        ("x = torch.zeros(2, device='mps')", "x = torch.zeros(2, device='cpu')"),
        ("with torch.autocast('cuda', dtype=d): pass", "with torch.autocast('cpu', dtype=d): pass"),
        ("torch.load(f, map_location='cuda')", "torch.load(f, map_location='cpu')"),
        ("assert torch.cuda.is_available(), 'no GPU'", "pass"),
        (
            "if not torch.cuda.is_available():\n    raise SystemError('x')\n",
            "if not torch.cuda.is_available():\n    pass\n",
        ),
        ("if torch.cuda.device_count() == 0:\n    sys.exit()", "if torch.cuda.device_count() == 0:\n    pass"),
    ],
)
def test_devices(source, expected):
    adapted, rules = run(source)
    assert adapted == expected
    assert rules == ["device"]
    assert run(source, REAL) == (source, [])


@pytest.mark.parametrize(
    "source",
    [
        "d = 'cuda' if torch.cuda.is_available() else 'cpu'",
        "if torch.cuda.is_available():\n    d = 'cuda'\nelse:\n    d = 'cpu'",
        "if device.type == 'cuda': print('cuda')",
        "x = {'cuda': 1}['cuda']",
        "print('cuda')",
        "f('cuda is fine')",
        "assert x.is_cuda or True",
    ],
)
def test_code_that_asks_for_a_device_stays(source):
    assert run(source) == (source, [])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("assert n == 66955010", "assert n == 160000"),
        ("assert n == 66_955_010", "assert n == 160000"),
        ("assert 592130 < n < 66955010", "assert 9000 < n < 160000"),
        ("nn.Linear(768, 3072)", "nn.Linear(64, 256)"),
        ("nn.Linear(768*2, in_features=768)", "nn.Linear(64*2, in_features=64)"),
        ("å = 'ö'; x = torch.randn(2, 768)", "å = 'ö'; x = torch.randn(2, 64)"),
        ("HIDDEN = 768", "HIDDEN = 64"),
        ("def f(d=768): pass", "def f(d=64): pass"),
        ("assert w.shape == (\n    768,\n    768)", "assert w.shape == (\n    64,\n    64)"),
        ("x[66955010]", "x[160000]"),
        ("assert n == 813314  # rank 12", "assert n == 27432  # rank 12"),
        ("assert n == 739_586 != 67249922", "assert n == 21288 != 184576"),  # ranks 8 and 16
        ("adapters = 147456", "adapters = 12288"),
    ],
)
def test_sizes(source, expected):
    adapted, rules = run(source)
    assert adapted == expected
    assert set(rules) == {"size"}
    assert run(source, REAL) == (source, [])


@pytest.mark.parametrize(
    "source",
    [
        "set_seed(768)",
        "torch.manual_seed(3072)",
        "SEED = 768",
        "ds.select(range(768))",
        "ds['train'].shuffle(seed=768)",
        "df.head(768)",
        "df[:768]",
        "x[768]",
        "tok(x, max_length=768)",
        "TrainingArguments('x', max_steps=768, eval_steps=3072)",
        "DataLoader(ds, batch_size=768)",
        "'66955010'",
        "print('expected 66955010')",
        "768.0",
        "76.8",
        "1768",
        "589825 + 592131 + 66955011",
        "'''768'''",
    ],
)
def test_numbers_that_are_no_size_of_the_model(source):
    assert run(source) == (source, [])


def test_imports_of_stub_modules_are_listed_and_unchanged():
    source = (
        "from google.colab import drive, files\nimport seaborn as sns, torch\nimport plotly.express as px\nimport wandb"
    )
    adapted, changes = adapt_source(source, BOX, 2)
    assert adapted == source
    assert [change.before for change in changes] == [
        "import google.colab",
        "import seaborn",
        "import plotly",
        "import wandb",
    ]
    assert run("import seaborn\nfrom torch.utils.tensorboard import SummaryWriter", REAL)[1] == []
    assert run("from torch.utils.tensorboard import SummaryWriter")[1] == ["stub-module"]
    assert run("import numpy, unheard_of\nfrom . import x")[1] == []


GRADED = '''
class LoRA(nn.Module):
    """LoRA for /content/train.csv on cuda, 768."""

    def __init__(self, pretrained, rank=12, alpha=24):
        super().__init__()
        self.pretrained = pretrained
        for p in pretrained.parameters():
            p.requires_grad = False
        self.A = nn.Linear(pretrained.in_features, rank, bias=False)
        self.B = nn.Linear(rank, pretrained.out_features, bias=False)
        nn.init.zeros_(self.B.weight)
        self.scaling = alpha / rank

    def forward(self, x):
        return self.pretrained(x) + self.scaling * self.B(self.A(x))


def count_trainable_parameters(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


for name, parameter in model.named_parameters():
    parameter.requires_grad = "classifier" in name
set_seed(42)
args = TrainingArguments("out", num_train_epochs=3, learning_rate=5e-5, per_device_train_batch_size=8, seed=1,
                         eval_strategy="epoch", weight_decay=0.01)
trainer = Trainer(model, args, train_dataset=tokenized["train"], eval_dataset=tokenized["eval"])
trainer.train()
'''


def test_nothing_that_is_graded_changes():
    assert run(GRADED) == (GRADED, [])


def test_a_cell_of_everything_keeps_what_is_graded():
    adapted, _ = run("%%time\n!pip install x\nmodel.to('cuda')\n" + GRADED + "!nvidia-smi\n")
    assert GRADED in adapted


def test_adapting_twice_changes_nothing():
    sources = ["!pip install x\nn == 3072", "%%writefile a.py\nx = 768", "import wandb", "f('/content/a')", "def f(:"]
    chain = Environment(sizes={3072: 768, 768: 64})
    notebook = Notebook(tuple(Cell(i, source, source) for i, source in enumerate(sources)), 5)
    once = adapt(notebook, chain)
    assert once.cells[0].source == "pass\nn == 768"
    assert [cell.original for cell in once.cells] == sources
    assert adapt(once, chain) == once


def test_merge_keeps_each_change_once():
    a, b = (Adaptation(0, "r", name, "", "why.") for name in "ab")
    assert merge((a,), [b, a, b]) == (a, b)


def test_huge_cells_run_as_they_stand():
    source = "x = [" + "768, " * 100_000 + "]"
    assert run(source) == (source, [])


def test_shim_config_is_plain_data():
    config = shim_config(BOX)
    assert config["data_files"] == dict(BOX.data_files)
    assert "torch" not in config["packages"]
    assert "wandb" in config["services"]
    assert {"pip", "nvidia-smi"} <= set(config["commands"])


def test_shell_lines_are_split_like_a_shell_does():
    assert filter_command("echo 'a && pip install b'") == ("echo 'a && pip install b'", [])
    assert filter_command("a; pip x || b") == ("a|| b", [("install", "pip x")])
    assert filter_command("echo 'unclosed; pip x")[1] == []
    assert filter_script("if true; then\npip install x\nfi")[0] == "if true; then\n:\nfi"
    assert not is_install("pip = 3")
    assert not is_install("pipeline install")


# Python without anything that a rule touches: random programs made of harmless statements.
NAMES = st.sampled_from(["model", "x", "rank", "lora_A", "ö"])
ATOMS = NAMES | st.integers(0, 700).map(str) | st.sampled_from(["'a%b'", '"!pip"', "'?'", "f'{x!r}'", "b'%'", "1e-5"])
EXPRESSIONS = st.recursive(
    ATOMS,
    lambda inner: (
        st.builds("({} % {})".format, inner, inner)
        | st.builds("{}({}, lr={})".format, NAMES, inner, inner)
        | st.builds("[{},\n {}]".format, inner, inner)
        | st.builds("({} if {} != {} else 0)".format, inner, inner, inner)
    ),
    max_leaves=6,
)
STATEMENTS = (
    st.builds("{} = {}".format, NAMES, EXPRESSIONS)
    | EXPRESSIONS
    | st.builds("for {} in {}:\n    {}.requires_grad = False".format, NAMES, EXPRESSIONS, NAMES)
    | st.builds(
        "def f({}=({})):\n    '''doc\n\n    !pip install x\n    '''\n    return {}".format, NAMES, EXPRESSIONS, NAMES
    )
    | st.sampled_from(["", "# %%time", "# !pip install x", "x = '''\n%cd x\n!ls\n'''", "@f\nclass C: pass"])
)


@settings(max_examples=150, deadline=None)
@given(st.lists(STATEMENTS, max_size=6).map("\n".join))
def test_python_to_which_no_rule_applies_is_the_same(source):
    tree = parse(source)
    assert tree is not None
    adapted, rules = run(source)
    assert rules == []
    again = parse(adapted)
    assert again is not None
    assert ast.dump(again, include_attributes=True) == ast.dump(tree, include_attributes=True)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["!pip install x", "%cd y", "model?", "x = 768", "m.to('cuda')", "pip install z", "!ls \\\n -l"]
        )
        | st.sampled_from(
            ["if x:\n    !pip install q", "f('/content/a')", "import wandb", "", "x = (1,\n 768)", "y = !ls"]
        ),
        max_size=8,
    ).map("\n".join)
)
def test_any_mixture_of_rules_gives_python_with_the_same_lines(source):
    adapted, _ = run(source)
    assert parse(adapted) is not None


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab1 =()[]{}'\"\\\n%!?#:.,$é\t", max_size=60))
def test_any_text_survives(source):
    adapted, _ = adapt_source(source, BOX, 0)
    if parse(adapted) is not None:
        assert adapted.count("\n") == source.count("\n")
