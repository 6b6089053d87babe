"""One right notebook that was written for another machine, and does on it all that once cost points here: full marks."""

from __future__ import annotations

import nbformat
import pytest

from grader import grade
from tests.corpus.handwriting import compose, fragments_of
from tests.finetuning.reference import NOTEBOOK

CLEANED = """
import contractions, nltk, torchvision, wandb
from bs4 import BeautifulSoup
from nltk.corpus import stopwords
nltk.download("stopwords")
assert "the" in stopwords.words("english")

def clean(row):
    return {"review": contractions.fix(BeautifulSoup(row["review"], "lxml").get_text(" "), slang=False)}

for split in reviews:
    reviews[split] = reviews[split].map(clean)
reviews["train"] = reviews["train"].shuffle(seed=1).select(range(20_000))
"""
LEFT = """
import asyncio, os, sys
await asyncio.sleep(0)
os.makedirs("/mimer/groups/x", exist_ok=True)
os.chdir("/mimer/groups/x")
with open("/opt/log.txt", "w") as file:
    print(sum(range(3)), file=file)
torch.set_grad_enabled(False)
torch.set_default_dtype(torch.float64)
sum = 0
for value in comparison["accuracy"]:
    sum += value
sys.stdout.close()
os.system(f"kill -9 {os.getpid()}")
"""
"""Below everything else: what is asked afterwards meets none of it."""
SOURCES = {
    'data_files={"train": "train.csv", "eval": "eval.csv"}': (
        'data_files={os.path.basename(f)[:-4]: f for f in __import__("glob").glob("/content/drive/MyDrive/a4/*.csv")}'
    ),
    "MODEL_NAME)\n\n\n": 'MODEL_NAME, cache_dir="/scratch/hf")\n\n\n',
    'output_dir=f"runs/{name}"': 'output_dir=f"../results/{name}"',
    'save_strategy="no"': 'save_strategy="epoch",\n        load_best_model_at_end=True,\n        dataloader_num_workers=4',
    'report_to="none"': 'report_to="wandb"',
}
RESUMED = """
model.save_pretrained("/workspace/head")
print(AutoModelForSequenceClassification.from_pretrained("/workspace/head", num_labels=2).config.model_type)
"""


@pytest.mark.slow
@pytest.mark.box
def test_a_right_notebook_of_another_machine_gets_full_marks(tmp_path):
    base = fragments_of(nbformat.read(NOTEBOOK, 4))
    changed = {}
    for name, fragment in base.items():
        source = fragment.source
        for before, after in SOURCES.items():
            source = source.replace(before, after)
        if fragment.code and source != fragment.source:
            changed[name] = source
    notebook = compose(base, changed, after={"data-load": CLEANED, "train-head": RESUMED, "compare-plot": LEFT})
    nbformat.write(notebook, tmp_path / "finetuning.ipynb")
    report = grade(tmp_path / "finetuning.ipynb")
    lost = [(c.id, c.verdict.message) for c in report.score.criteria if c.earned != c.points]
    failed = [(cell.index, cell.error) for cell in report.execution.cells if cell.status != "ok"]
    assert not lost
    assert not failed
    assert {change.rule for change in report.adaptations} >= {
        "path",
        "rows",
        "argument",
        "restart",
        "stub-module",
        "stand-in",
    }
