"""The same steps in a real JupyterLab, where what stands on the screen is read; `python -m tests.selfcheck.lab` takes pictures of it."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat

from grader.bundles import load_bundle, prepare_home
from tests.jupyterlab import Lab, jupyterlab
from tests.selfcheck.steps import ROOT, Step, steps

PICTURES = {
    "rounds the scaling down": "check-class",
    "sets requires_grad of a module": "check-training",
    "check()": "check-all",
}
"""Step by its name or source -> name of the picture of its card in docs/images."""
_RUN = """async number => {
    const panel = jupyterapp.shell.currentWidget;
    await panel.sessionContext.ready;
    panel.content.activeCellIndex = number;
    await jupyterapp.commands.execute('notebook:run-cell');
    const area = panel.content.widgets[number].outputArea;
    const errors = area.model.toJSON().filter(output => output.output_type === 'error');
    const cards = [...area.node.querySelectorAll('div')].filter(div => div.style.maxWidth === '52em');
    return {
        errors: errors.map(error => error.traceback.join('\\n')),
        cards: cards.map(card => ({
            said: card.innerText, left: card.style.borderLeftColor,
            colours: [...card.querySelectorAll('div, span, code, a')].map(part => getComputedStyle(part).color),
            rows: [...card.querySelectorAll('[role=img]')].map(
                mark => [mark.parentNode.lastChild.innerText.split(/\\s/)[0], mark.ariaLabel]),
        })),
    };
}"""


def run_steps(lab: Lab) -> Iterator[tuple[Step, dict[str, Any], Callable[[Path], None]]]:
    """Run cell after cell; gives each step, what stands below its cell, and what takes a picture of it."""
    notebook, every = nbformat.v4.new_notebook(), list(steps())
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.cells = [nbformat.v4.new_code_cell(step.source) for step in every]
    nbformat.write(notebook, lab.folder / "finetuning.ipynb")
    lab.open("finetuning.ipynb")
    for number, step in enumerate(every):
        shown = lab.page.evaluate(_RUN, number)

        def picture(file: Path, number: int = number) -> None:
            card = lab.page.locator(".jp-Notebook .jp-Cell").nth(number).locator("div[style*='52em']").last
            card.scroll_into_view_if_needed()
            card.screenshot(path=file)

        yield step, shown, picture


def at_home(folder: Path) -> None:
    """Put the data where the notebooks are."""
    for file in (load_bundle().train_csv, load_bundle().eval_csv):
        shutil.copy(file, folder)


def main() -> None:
    from PIL import Image

    with tempfile.TemporaryDirectory() as folder:
        prepare_home(load_bundle(), Path(folder, "hf"))
        os.environ.update(
            HF_HOME=str(Path(folder, "hf")), HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1", TRANSFORMERS_VERBOSITY="error"
        )
        with jupyterlab(Path(folder, "lab"), kernels=True) as lab:
            at_home(lab.folder)
            for step, _, picture in run_steps(lab):
                name = PICTURES.get(step.name or step.source)
                if name:
                    lab.theme("JupyterLab Dark" if name == "check-training" else "JupyterLab Light")
                    lab.page.set_viewport_size({"width": 1100 if name == "check-all" else 820, "height": 1400})
                    lab.page.wait_for_timeout(1500)
                    file = ROOT / "docs" / "images" / f"{name}.png"
                    picture(file)
                    Image.open(file).convert("P", palette=Image.Palette.ADAPTIVE, colors=256).save(file, optimize=True)
                    print(file, file.stat().st_size)


if __name__ == "__main__":
    main()
