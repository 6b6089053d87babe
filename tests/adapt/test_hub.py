"""Caches elsewhere, and rows that the files of the box do not have."""

from __future__ import annotations

import pytest

from grader.inside.shims.hub import fitting

MODEL = {
    f".hf/hub/models--tiny/{name}": text.encode()
    for name, text in {
        "refs/main": "a" * 40,
        f"snapshots/{'a' * 40}/config.json": '{"model_type": "distilbert", "dim": 16, "n_heads": 2, "hidden_dim": 8, "n_layers": 1}',
        f"snapshots/{'a' * 40}/vocab.txt": "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\ngood",
    }.items()
}


def test_one_cache_serves_whatever_folder_is_named(notebook):
    ran = notebook(
        """
import os, subprocess
from unittest import mock
os.environ["HF_HOME"] = "/scratch/hf"
os.environ.update(TRANSFORMERS_CACHE="/scratch/x", HF_HUB_OFFLINE="0", MINE="1")
with mock.patch.dict(os.environ, {"MINE": "2"}):
    pass
assert os.environ["HF_HOME"].endswith("/.hf") and os.environ["HF_HUB_OFFLINE"] == "1" and os.environ["MINE"] == "1"
""",
        """
from huggingface_hub import hf_hub_download, snapshot_download
from transformers import AutoConfig, AutoTokenizer
assert AutoConfig.from_pretrained("tiny", cache_dir="/scratch/hf", force_download=True).dim == 16
assert AutoTokenizer.from_pretrained("tiny", cache_dir="../cache")("good")["input_ids"]
assert "config.json" in os.listdir(snapshot_download("tiny", cache_dir="/x"))
assert AutoConfig.from_pretrained(snapshot_download("tiny", local_dir="/workspace/m")).dim == 16
assert hf_hub_download(repo_id="tiny", filename="vocab.txt", local_dir="mine") == "mine/vocab.txt" and open("mine/vocab.txt").read()
""",
        files=MODEL,
    )
    assert [record[1] for record in ran.records] == [
        "os.environ['HF_HOME'] = '/scratch/hf'", "os.environ['TRANSFORMERS_CACHE'] = '/scratch/x'", "os.environ['HF_HUB_OFFLINE'] = '0'",
        "cache_dir='/scratch/hf'", "force_download=True", "cache_dir='../cache'", "cache_dir='/x'", "local_dir='/workspace/m'",
        "local_dir='mine'",
    ]  # fmt: skip


def test_selections_fit_the_data(notebook):
    ran = notebook(
        """
import datasets, pandas, random
data = datasets.load_dataset("csv", data_files="train.csv", split="train")
assert len(data.select(range(1000))) == len(data.shuffle(seed=1).select(range(1000))) == 4
assert data.select(range(20_000, 25_000))["index"] == [3]
assert data.select([2, 1])["index"] == [2, 1] and len(data.select(range(3))) == 3 and len(data.take(9)) == 4
parts = data.train_test_split(train_size=15_000, test_size=5_000)
assert (len(parts["train"]), len(parts["test"])) == (3, 1)
assert len(data.train_test_split(test_size=1000)["test"]) == 1 and len(data.train_test_split(test_size=0.5)["test"]) == 2
frame = pandas.read_csv("train.csv")
assert len(frame.sample(n=1000)) == len(frame.review.sample(1000)) == 4 and len(frame.sample(frac=0.5)) == 2
assert len(frame.sample(9, replace=True)) == 9
hub = datasets.load_dataset("imdb")
assert set(hub["unsupervised"]["label"]) == {-1} and hub.pop("unsupervised").column_names == ["text", "label"]
assert datasets.load_dataset("imdb", split="unsupervised")[0]["label"] == -1
"""
    )
    assert set(ran.rules) == {"rows", "hub-dataset"}


@pytest.mark.parametrize(
    ("indices", "rows", "left"),
    [
        (range(4), 4, None),
        ([], 4, None),
        (range(9), 0, None),
        (range(9), 4, [0, 1, 2, 3]),
        (range(5, 10), 4, [2, 3]),
        ([3, 0, 8], 4, [3, 0]),
        ([90, 10, 50, 10], 10, [9, 1, 5]),
        ([-1, 99], 4, [-1]),
    ],
)
def test_row_numbers_that_are_not_there(indices, rows, left):
    assert fitting(indices, rows) == left


def test_loaders_have_no_processes_of_their_own(notebook):
    ran = notebook(
        """
import torch
data = torch.utils.data.TensorDataset(torch.arange(8.0))
loader = torch.utils.data.DataLoader(data, 4, shuffle=True, num_workers=4, persistent_workers=True, prefetch_factor=2)
assert loader.num_workers == 0 and len(list(loader)) == 2
torch.utils.data.DataLoader(data, batch_size=4, num_workers=0)
"""
    )
    assert ran.records == [("argument", "DataLoader(num_workers=4)", "num_workers=0")]
