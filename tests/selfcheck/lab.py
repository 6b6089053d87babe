"""The same steps in a real JupyterLab: what stands on the screen is read, and pictures of it are taken."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat

from tests.jupyterlab import Lab
from tests.selfcheck.steps import Step, steps

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
            said: card.innerText,
            rows: [...card.querySelectorAll('[role=img]')].map(
                mark => [mark.parentNode.lastChild.innerText.split(/\\s/)[0], mark.ariaLabel]),
        })),
    };
}"""

_CONTRAST = """() => {
    const parsed = colour => colour.match(/[\\d.]+/g).map(Number);
    const light = colour => parsed(colour).slice(0, 3).map(c => c / 255)
        .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = part => {
        const colour = getComputedStyle(part).backgroundColor;
        return parsed(colour)[3] === 0 || parsed(colour)[3] < 1 ? behind(part.parentNode) : colour;
    };
    const cards = [...document.querySelectorAll('div')].filter(div => div.style.maxWidth === '52em');
    const found = cards.flatMap(card => [...card.querySelectorAll('div, span, code, a')]).map(part => {
        const [a, b] = [light(getComputedStyle(part).color), light(behind(part))].sort((x, y) => y - x);
        return (a + 0.05) / (b + 0.05);
    });
    return Math.min(...found);
}"""


def least_contrast(lab: Lab, theme: str) -> float:
    """Contrast of the text of all cards with what is behind it, the least of them, in a theme."""
    lab.theme(theme)
    lab.page.wait_for_timeout(1500)
    return float(lab.page.evaluate(_CONTRAST))


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


def take_picture(lab: Lab, name: str, picture: Callable[[Path], None], folder: Path) -> None:
    """A picture of a card, in the size and theme that docs/students.md has it."""
    from PIL import Image

    lab.theme("JupyterLab Dark" if name == "check-training" else "JupyterLab Light")
    lab.page.set_viewport_size({"width": 1100 if name == "check-all" else 820, "height": 1400})
    lab.page.wait_for_timeout(1500)
    picture(folder / f"{name}.png")
    image = Image.open(folder / f"{name}.png").convert("P", palette=Image.Palette.ADAPTIVE, colors=256)
    image.save(folder / f"{name}.png", optimize=True)
