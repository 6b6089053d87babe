"""The tables of docs/bundles.md, made from the shipped calibration: `python -m tests.calibration_tables` writes them anew."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from grader.bundles.bundle import Bundle, load_bundle
from grader.bundles.calibration import Result, upper_bound
from grader.bundles.grid import EDGE, METHODS, Setting

_COUNTS = ("runs", "settings", "passed", "by_accuracy", "lost", "reviewed")
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
        "kinship": "\n".join(_kinship([run for run in runs if run.kinship is not None and not run.setting.broken])),
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
    measured = "right runs | by accuracy | by direction | lost | to review | lost, 95 % bound | to review, 95 % bound"
    yield f"| | accuracy | or correlation | {measured} |"
    yield "|---" * 10 + "|"
    every = []
    for method, found in methods.items():
        yield _counted(method, f"{found['accuracy']:.2f} | {found['correlation']:.2f}", found["right"])
        every.append(found["right"])
    yield _counted("heads of one's own", " | ", own := methods["head"]["own_heads"])
    yield _counted("all", " | ", {name: sum(found[name] for found in (*every, own)) for name in _COUNTS})
    for method, found in methods.items():
        yield _counted(f"edge, {method}", " | ", found["edge"])


def _counted(name: str, minimums: str, found: dict[str, int]) -> str:
    runs, settings, passed, accurate, lost, reviewed = (found[count] for count in _COUNTS)
    bounds = " | ".join(f"{100 * upper_bound(count, runs):.1f} %" for count in (lost, reviewed))
    directed = passed - accurate
    return f"| {name} | {minimums} | {runs} at {settings} settings | {accurate} | {directed} | {lost} | {reviewed} | {bounds} |"


def _kinship(runs: Sequence[Result]) -> Iterator[str]:
    yield "| rate | epochs | batch | else | adapter | kinship | accuracy | correlation |"
    yield "|---|---|---|---|---|---|---|---|"
    rows: dict[Setting, list[Result]] = {}
    for run in runs:
        rows.setdefault(run.setting, []).append(run)
    for setting, own in sorted(rows.items(), key=lambda row: min(run.kinship or 0.0 for run in row[1])):
        kinships = [run.kinship or 0.0 for run in own]
        if min(kinships) < 0.995:
            shown = [f"{min(kinships):.3f} to {max(kinships):.3f}"]
            for name, places in (("accuracy", 3), ("correlation", 2)):
                values = [getattr(run, name) or 0.0 for run in own]
                shown.append(f"{min(values):.{places}f} to {max(values):.{places}f}")
            trained = f"{setting.lr:g} | {setting.epochs} | {setting.batch} | {_else(setting)} | {_adapter(setting)}"
            yield f"| {trained} | {' | '.join(shown)} |"


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
        for method in (*METHODS, "head of one's own"):
            own = [run for run in runs if (run.setting.broken, _group(run.setting)) == (kind, method)]
            if own:
                accuracy, correlation = (
                    max(getattr(run, name) or 0.0 for run in own) for name in ("accuracy", "correlation")
                )
                yield f"| {words}, {method} | {len(own)} | {accuracy:.3f} | {correlation:.2f} |"


def _group(setting: Setting) -> str:
    return "head of one's own" if setting.head else setting.method


def _grid(runs: Sequence[Result]) -> Iterator[str]:
    yield "| rate | epochs | batch | else | full | head | LoRA | adapter | least correlation |"
    yield "|---|---|---|---|---|---|---|---|---|"
    rows: dict[tuple, dict[str, list[Result]]] = {}
    for run in runs:
        setting = run.setting
        key = (setting.lr, setting.epochs, setting.batch, _else(setting))
        if setting in EDGE:
            key = (*key[:3], ", ".join(filter(None, ("edge", key[3], setting.method == "lora" and _adapter(setting)))))
        rows.setdefault(key, {}).setdefault(setting.method, []).append(run)
    for (lr, epochs, batch, other), by_method in sorted(rows.items(), key=lambda row: (bool(row[0][3]), row[0])):
        cells = []
        for method in METHODS:
            values = [run.accuracy or 0.0 for run in by_method.get(method, ())]
            cells.append(f"{min(values):.3f} to {max(values):.3f}" if values else "")
        shown = ", ".join(sorted({_adapter(run.setting) for run in by_method.get("lora", ())}))
        least = min(run.correlation or 0.0 for own in by_method.values() for run in own)
        yield f"| {lr:g} | {epochs} | {batch} | {other} | {' | '.join(cells)} | {shown} | {least:.2f} |"


def _adapter(setting: Setting) -> str:
    return f"{setting.initial}, {setting.rank}, {setting.alpha:g}"


def _else(setting: Setting) -> str:
    """What differs from the defaults beside rate, epochs and batch."""
    changes = setting.changes
    parts = [f"own head: {setting.head}"] if "head" in changes else []
    parts += [setting.optimizer] if "optimizer" in changes else []
    parts += ["no momentum"] if "momentum" in changes else []
    parts += [setting.schedule] if "schedule" in changes else []
    parts += ["no clipping"] if "clips" in changes else []
    parts += [f"{_WORDS[name]} {changes[name]}" for name in ("warmup", "weight_decay", "reviews") if name in changes]
    return ", ".join(parts)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), tables(load_bundle())), encoding="utf-8")
