"""What is adapted in the syntax tree of a cell, one test per rule and form; and that nothing else changes."""

from __future__ import annotations

import ast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from grader.inside.shims.literals import Literals
from grader.notebook.adaptations import REASONS

from .conftest import CONFIG, SIZES, noted

REAL = CONFIG | {"sizes": {}}


def adapted(source, config=CONFIG):
    """The adapted tree and the records of what was changed; checks what has to hold always."""
    with noted(config) as records:
        tree = Literals().visit(ast.parse(source))
    assert {reason for *_, reason in records} <= REASONS.keys()
    compile(tree, "<cell>", "exec")
    return tree, records


def run(source, config=CONFIG):
    """The adapted source, as Python writes a tree, and its rules."""
    tree, records = adapted(source, config)
    assert records or ast.dump(tree, include_attributes=True) == ast.dump(ast.parse(source), include_attributes=True)
    return ast.unparse(tree), [record[0] for record in records]


def same(source):
    """A source as Python writes its tree."""
    return ast.unparse(ast.parse(source))


@pytest.mark.parametrize(
    ("path", "local"),
    [
        ("/content/train.csv", "train.csv"),
        ("/content/drive/MyDrive/a4/train.csv", "train.csv"),
        ("/content/drive/My Drive/eval.csv", "eval.csv"),
        ("/kaggle/input/imdb/train.csv", "train.csv"),
        ("C:\\Users\\me\\train.csv", "train.csv"),
        ("c:/x/eval.csv", "eval.csv"),
        ("/Users/me/Documents/train.csv", "train.csv"),
        ("/home/me/helper.py", "helper.py"),
        ("/content/drive/MyDrive/A4/Train.CSV", "train.csv"),
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
    assert run("x = f'/content{a}'")[0] == "x = f'.{a}'"
    assert run('x = rf"/content/drive/MyDrive/a4/{a}"')[0] == "x = f'./a4/{a}'"


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
    assert run(source) == (same(source), [])


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("model.to('cuda')", "model.to('cpu')"),
        ("device = torch.device('cuda:0')", "device = torch.device('cpu')"),
        ("x = torch.zeros(2, device='mps')", "x = torch.zeros(2, device='cpu')"),
        ("with torch.autocast('cuda', dtype=d): pass", "with torch.autocast('cpu', dtype=d): pass"),
        ("torch.load(f, map_location='cuda')", "torch.load(f, map_location='cpu')"),
        (
            "d = 'mps' if torch.backends.mps.is_available() else 'cuda'",
            "d = 'mps' if torch.backends.mps.is_available() else 'cpu'",
        ),
        ("assert torch.cuda.is_available(), 'no GPU'", "assert True, 'no GPU'"),
        (
            "if not torch.cuda.is_available():\n    raise SystemError('x')\n",
            "if not torch.cuda.is_available():\n    pass\n",
        ),
        ("if torch.cuda.device_count() == 0:\n    sys.exit()", "if torch.cuda.device_count() == 0:\n    pass"),
    ],
)
def test_devices(source, expected):
    assert run(source) == (same(expected), ["device"])


@pytest.mark.parametrize(
    "source",
    [
        "d = 'cuda' if torch.cuda.is_available() else 'cpu'",
        "d = 'mps' if torch.backends.mps.is_available() else 'cuda' if torch.cuda.is_available() else 'cpu'",
        "d = 'cuda:0' if has_gpu.is_available() else 'cpu'",
        "if torch.cuda.is_available():\n    d = 'cuda'\nelse:\n    d = 'cpu'",
        "if device.type == 'cuda': print('cuda')",
        "x = {'cuda': 1}['cuda']",
        "print('cuda')",
        "f('cuda is fine')",
        "assert x.is_cuda or True",
    ],
)
def test_code_that_asks_for_a_device_stays(source):
    assert run(source) == (same(source), [])


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
    changed, rules = run(source)
    assert changed == same(expected)
    assert set(rules) == {"size"}
    assert run(source, REAL) == (same(source), [])


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
    assert run(source) == (same(source), [])


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
    assert run(GRADED) == (same(GRADED), [])


def test_a_change_is_recorded_with_what_stood_there():
    _, records = adapted("assert n == 66_955_010")
    assert [record[:3] for record in records] == [("size", "66955010", "160000")]


def test_sizes_are_those_of_the_given_model():
    assert run("n == 3072", CONFIG | {"sizes": {"3072": 768, "768": 64}})[0] == "n == 768"
    assert set(map(int, CONFIG["sizes"])) == set(SIZES)


def test_pasted_data_runs_as_it_stands():
    source = "x = [" + "768, " * 100_000 + "]"
    assert run(source) == (same(source), [])


def test_paths_in_commands():
    lines = {
        "get_ipython().system('ls /content/drive/MyDrive/a4 /content')": "get_ipython().system('ls ./a4 .')",
        "get_ipython().run_line_magic('cd', '/content/')": "get_ipython().run_line_magic('cd', './')",
        "get_ipython().system('curl https://x.org/content/a')": "get_ipython().system('curl https://x.org/content/a')",
        "get_ipython().system('ls /contents /tmp/content')": "get_ipython().system('ls /contents /tmp/content')",
    }
    assert {line: run(line)[0] for line in lines} == lines


def test_modules_that_do_not_parse_are_left_to_the_compiler():
    literals = Literals()
    for source in (b"def f(:", b"x = (1", b"\x00", b"\xff\xfe"):
        assert literals.parsed(source) is source


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
    assert run(source)[1] == []


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(["x = 768", "m.to('cuda')", "f('/content/a')", "f(f'/content/{a}')", "x = (1,\n 768)"])
        | st.sampled_from(["if a.is_available():\n    raise X", "x = m.f(d='mps')[768]", "n = 66955010"]),
        max_size=8,
    ).map("\n".join)
)
def test_any_mixture_of_rules_gives_python_with_the_same_lines(source):
    tree, _ = adapted(source)
    wanted = [(type(n).__name__, n.lineno) for n in ast.parse(source).body]
    assert [(type(n).__name__, n.lineno) for n in tree.body] == wanted
