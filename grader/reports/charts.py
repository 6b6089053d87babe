"""Small charts as inline SVG: only numbers and words of ours go in, colours come from the page's CSS.

Trusted. Each chart has a title that says in words what it shows.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

__all__ = ["accuracy_bar", "histogram", "ring"]


def ring(earned: int, possible: int, *, final: bool) -> Markup:
    """The total as a ring; without a final total the ring is dashed and holds a question mark."""
    share = earned / possible if possible else 0.0
    length = 2 * 3.14159265 * 52
    label = f"{earned} of {possible} points" + ("" if final else " so far; needs review")
    number = str(earned) if final else "?"
    return Markup(
        '<svg class="ring{state}" viewBox="0 0 128 128" role="img" aria-label="{label}">'
        '<circle class="track" cx="64" cy="64" r="52"/>'
        '<circle class="arc" cx="64" cy="64" r="52" stroke-dasharray="{filled:.1f} {length:.1f}" transform="rotate(-90 64 64)"/>'
        '<text class="big" x="64" y="{y}">{number}</text><text class="of" x="64" y="87">{below}</text></svg>'
    ).format(
        state="" if final else " open",
        label=label,
        filled=share * length,
        length=length,
        y=70,
        number=number,
        below=f"of {possible}" if final else "review",
    )


def accuracy_bar(accuracy: float | None, threshold: float | None) -> Markup:
    """An accuracy from 0 to 1 as a bar, with a tick where the threshold lies."""
    label = "not measured" if accuracy is None else f"accuracy {accuracy:.3f}"
    label += "" if threshold is None else f", minimum {threshold:.3f}"
    parts = ['<rect class="track" x="0" y="5" width="200" height="10" rx="5"/>']
    if accuracy is not None:
        state = "below" if threshold is not None and accuracy < threshold else "reached"
        parts.append(f'<rect class="fill {state}" x="0" y="5" width="{200 * accuracy:.1f}" height="10" rx="5"/>')
    if threshold is not None:
        parts.append(f'<line class="tick" x1="{200 * threshold:.1f}" x2="{200 * threshold:.1f}" y1="0" y2="20"/>')
    return Markup(  # noqa: S704 - numbers of ours only
        f'<svg class="bar" viewBox="0 0 200 20" preserveAspectRatio="none" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def histogram(totals: Sequence[int], possible: int) -> Markup:
    """How many submissions have which total, in ten equal classes; the last one includes full marks."""
    counts = [0] * 10
    for total in totals:
        counts[min(9, max(0, total * 10 // possible))] += 1
    highest = max(counts)
    bars = []
    for index, count in enumerate(counts):
        low, high = index * possible // 10, (index + 1) * possible // 10 - (index < 9)
        height = 120 * count / highest if highest else 0.0
        x = 8 + index * 58
        bars.append(
            f"<g><title>{count} with {low} to {high} points</title>"
            f'<rect class="col" x="{x}" y="{144 - height:.1f}" width="50" height="{height:.1f}" rx="3"/>'
            f'<text class="n" x="{x + 25}" y="{138 - height:.1f}">{count or ""}</text>'
            f'<text class="x" x="{x + 25}" y="162">{low}–{high}</text></g>'
        )
    label = ", ".join(f"{c} with {i * possible // 10} or more" for i, c in enumerate(counts) if c) or "no totals yet"
    return Markup(  # noqa: S704 - numbers of ours only
        f'<svg class="hist" viewBox="0 0 588 170" role="img" aria-label="Distribution of totals: {label}">'
        f'<line class="axis" x1="0" x2="588" y1="144.5" y2="144.5"/>{"".join(bars)}</svg>'
    )
