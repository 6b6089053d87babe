"""The tables of docs/bundles.md, made from the shipped calibration: `python -m tests.calibration_tables` writes them anew."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from grader.bundles import Bundle, load_bundle
from grader.bundles.calibration import Result, upper_bound
from grader.bundles.grid import EDGE, METHODS, Setting

PAGE = Path(__file__).parents[1] / "docs" / "bundles.md"
_WORDS = {"clips": "no clipping", "warmup": "warm-up", "weight_decay": "weight decay", "reviews": "reviews"}


def shipped(bundle: Bundle) -> list[Result]:
    """All trainings of a bundle's calibration."""
    lines = (bundle.path / "calibration.jsonl").read_text(encoding="utf-8").splitlines()
    return [Result.from_json(json.loads(line)) for line in lines]


def tables(bundle: Bundle) -> dict[str, str]:
    """The tables by name, in Markdown."""
    runs = shipped(bundle)
    stored = json.loads((bundle.path / "thresholds.json").read_text(encoding="utf-8"))
    return {
        "thresholds": "\n".join(_thresholds(stored["methods"])),
        "broken": "\n".join(_broken(runs)),
        "grid": "\n".join(_grid([run for run in runs if not run.setting.broken])),
    }


def written(page: str, found: dict[str, str]) -> str:
    """The page with its tables replaced, each between two comments of its name."""
    for name, table in found.items():
        marked = re.compile(f"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        assert marked.search(page), name
        page = marked.sub(lambda match, table=table: f"{match[1]}{table}\n{match[2]}", page)
    return page


def _thresholds(methods: dict[str, dict]) -> Iterator[str]:
    heads = (
        "method",
        "accuracy",
        "or correlation",
        "right runs",
        "by accuracy",
        "by direction",
        "lost",
        "to review",
        "lost, 95 % bound",
    )
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for method, found in methods.items():
        right = found["right"]
        yield (
            f"| {method} | {found['accuracy']:.2f} | {found['correlation']:.2f} | {right['runs']} at {right['settings']} settings |"
            f" {right['by_accuracy']} | {right['passed'] - right['by_accuracy']} | {right['lost']} | {right['reviewed']} |"
            f" {100 * right['lost_bound']:.1f} % |"
        )
    runs, accurate, passed, lost, reviewed = (
        sum(found["right"][name] for found in methods.values())
        for name in ("runs", "by_accuracy", "passed", "lost", "reviewed")
    )
    bound = 100 * upper_bound(lost, runs)
    yield f"| all | | | {runs} | {accurate} | {passed - accurate} | {lost} | {reviewed} | {bound:.1f} % |"


def _broken(runs: Sequence[Result]) -> Iterator[str]:
    yield "| broken models | trained | luckiest accuracy | highest correlation |"
    yield "|---|---|---|---|"
    kinds = {
        "shuffled": "shuffled labels",
        "random": "labels drawn anew",
        "constant": "one label for all",
        "untrained": "nothing trained",
    }
    for kind, words in kinds.items():
        for method in METHODS:
            own = [run for run in runs if (run.setting.broken, run.setting.method) == (kind, method)]
            if own:
                accuracy, correlation = (
                    max(getattr(run, name) or 0.0 for run in own) for name in ("accuracy", "correlation")
                )
                yield f"| {words}, {method} | {len(own)} | {accuracy:.3f} | {correlation:.2f} |"


def _grid(runs: Sequence[Result]) -> Iterator[str]:
    yield "| rate | epochs | batch | else | full | head | LoRA | adapter | least correlation |"
    yield "|---|---|---|---|---|---|---|---|---|"
    rows: dict[tuple, dict[str, list[Result]]] = {}
    for run in runs:
        setting = run.setting
        changes = {
            name: value for name, value in setting.changes.items() if name not in ("method", "initial", "rank", "alpha")
        }
        key = (setting.lr, setting.epochs, setting.batch, _else(setting, changes))
        if setting in EDGE:
            key = (*key[:3], "edge")
        rows.setdefault(key, {}).setdefault(setting.method, []).append(run)
    for (lr, epochs, batch, other), by_method in sorted(rows.items(), key=lambda row: (bool(row[0][3]), row[0])):
        cells = []
        for method in METHODS:
            values = [run.accuracy or 0.0 for run in by_method.get(method, ())]
            cells.append(f"{min(values):.3f} to {max(values):.3f}" if values else "")
        adapters = {(run.setting.initial, run.setting.rank, run.setting.alpha) for run in by_method.get("lora", ())}
        shown = ", ".join(f"{initial}, {rank}, {alpha:g}" for initial, rank, alpha in sorted(adapters))
        least = min(run.correlation or 0.0 for own in by_method.values() for run in own)
        yield f"| {lr:g} | {epochs} | {batch} | {other} | {' | '.join(cells)} | {shown} | {least:.2f} |"


def _else(setting: Setting, changes: dict[str, object]) -> str:
    """What differs from the defaults beside rate, epochs and batch."""
    parts = [setting.optimizer] if "optimizer" in changes else []
    parts += [setting.schedule] if "schedule" in changes else []
    parts += ["no clipping"] if "clips" in changes else []
    parts += [f"{_WORDS[name]} {changes[name]}" for name in ("warmup", "weight_decay", "reviews") if name in changes]
    return ", ".join(parts)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), tables(load_bundle())), encoding="utf-8")
