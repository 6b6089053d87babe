"""Draws what a calibration found as SVG, without any library: each training a dot, and the two minimums. Trusted; stdlib only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from grader.bundles.calibration import Result

_WIDTH, _HEIGHT, _GAP, _LEFT, _TOP = 300, 300, 40, 46, 58
_STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#444}line{stroke:#888}.least{stroke:#0969da;stroke-dasharray:4 3}"
    "path{stroke-width:4;stroke-linecap:round;stroke-opacity:.45}.right{stroke:#1a7f37}.broken{stroke:#cf222e}"
    ".missed{stroke:#bf8700;stroke-width:7;stroke-opacity:1}"
)


def plot(results: Sequence[Result], methods: Mapping[str, Mapping[str, Any]]) -> str:
    """An SVG with a panel for each method: held-out accuracy to the right, label correlation upwards."""
    parts = []
    for place, (method, needed) in enumerate(methods.items()):
        own = [r for r in results if r.setting.method == method and r.accuracy is not None]
        parts.append(_panel(place * (_WIDTH + _GAP) + _LEFT, method, needed, own))
    width = len(methods) * (_WIDTH + _GAP) + _LEFT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT + _TOP + 46}" role="img" aria-label="Accuracy and label'
        f' correlation of every training">\n<style>{_STYLE}</style>\n<rect width="100%" height="100%" fill="#fff"/>\n'
        + "\n".join(parts)
        + f'\n<text x="{_LEFT}" y="14">Upwards: label correlation. Green: right solutions (ochre: misses both minimums). Red: broken ones.'
        f'</text>\n<text x="{_LEFT}" y="30">A model passes to the right of the upright line, or above the level one.</text>\n</svg>\n'
    )


def _panel(left: int, method: str, needed: Mapping[str, Any], results: Sequence[Result]) -> str:
    def x(accuracy: float) -> str:
        return f"{left + _WIDTH * (accuracy - 0.3) / 0.7:.1f}"

    def y(correlation: float) -> str:
        return f"{_TOP + _HEIGHT * (1 - correlation) / 1.5:.1f}"

    bottom = _TOP + _HEIGHT
    lines = [
        f'<text x="{left}" y="{_TOP - 6}">{method}</text>',
        f'<line x1="{left}" x2="{left + _WIDTH}" y1="{bottom}" y2="{bottom}"/><line x1="{left}" x2="{left}" y1="{_TOP}" y2="{bottom}"/>',
        f'<text x="{left + _WIDTH / 2}" y="{bottom + 34}" text-anchor="middle">accuracy</text>',
    ]
    lines += [
        f'<text x="{x(at / 10)}" y="{bottom + 17}" text-anchor="middle">0.{at}</text>' for at in (4, 5, 6, 7, 8, 9)
    ]
    lines += [f'<text x="{left - 6}" y="{y(at / 4)}" text-anchor="end" dy="4">{at / 4:g}</text>' for at in range(-2, 5)]
    dots: dict[str, list[str]] = {"right": [], "broken": [], "missed": []}
    for result in results:
        assert result.accuracy is not None and result.correlation is not None
        kind = "broken" if result.setting.broken else "right"
        if kind == "right" and not result.passes(needed["accuracy"], needed["correlation"]):
            kind = "missed"
        dots[kind].append(f"M{x(max(0.3, result.accuracy))} {y(max(-0.5, result.correlation))}h0")
    lines += [f'<path class="{kind}" d="{"".join(found)}"/>' for kind, found in dots.items() if found]
    across, up = y(needed["correlation"]), x(needed["accuracy"])
    lines.append(f'<line class="least" x1="{left}" x2="{up}" y1="{across}" y2="{across}"/>')
    lines.append(f'<line class="least" x1="{up}" x2="{up}" y1="{across}" y2="{bottom}"/>')
    return "\n".join(lines)
