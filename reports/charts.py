"""Small SVG figures made on the server: meters of the targets, bars of the recovery steps, the page's icons.

Only presentation attributes are used, because the page's content security policy allows no style attribute.
"""

from __future__ import annotations

from urllib.parse import quote

from markupsafe import Markup, escape

__all__ = ["element", "favicon", "icon", "meter", "steps_bar"]

_SHAPES = {
    "pass": '<circle class="f" cx="8" cy="8" r="7"/><path d="M4.7 8.3 7 10.6l4.4-5"/>',
    "fail": (
        '<path class="f" d="M5.1 1h5.8L15 5.1v5.8L10.9 15H5.1L1 10.9V5.1z"/><path d="m5.6 5.6 4.8 4.8m0-4.8-4.8 4.8"/>'
    ),
    "unknown": (
        '<path class="f" d="M8 .9 15.1 8 8 15.1.9 8z"/>'
        '<path d="M6.3 6.4c0-2.3 3.5-2.3 3.5 0 0 1.3-1.8 1.4-1.8 2.9M8 11.3v.3"/>'
    ),
}
_FAVICON_COLOUR = {"pass": "#0a7a60", "fail": "#b3340e", "unknown": "#6846c7"}


def element(name: str, content: str | Markup = "", /, **attributes: object) -> Markup:
    """One SVG element with everything escaped; `class_` and `marker_end` become `class` and `marker-end`."""
    text = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Markup(f"<{name}{text}>{escape(content)}</{name}>")


def _number(value: object) -> object:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else value


def icon(state: str) -> Markup:
    """Shape of a verdict: circle with tick, octagon with cross, diamond with question mark."""
    shape = Markup(_SHAPES[state])
    return Markup(f'<svg class="ic {state}" viewBox="0 0 16 16" aria-hidden="true">{shape}</svg>')


def favicon(state: str) -> str:
    """The verdict's shape as a data address, so that a row of tabs tells which run failed."""
    colour = _FAVICON_COLOUR[state]
    picture = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16" fill="none" stroke="{colour}" stroke-width="1.6">'
        f"<style>.f{{fill:{colour};fill-opacity:.15}}</style>{_SHAPES[state]}</svg>"
    )
    return "data:image/svg+xml," + quote(picture, safe="/:=' ")


def meter(used: float | None, state: str) -> Markup:
    """How much of what is allowed was used: the mark in the middle is all of it; beyond twice, the end is torn."""
    if used is None:
        return Markup("")
    width, top, height = 120.0, 3, 8
    filled = max(0.0, min(1.0, used / 2)) * width
    parts = [element("rect", class_="m-back", x=0, y=top, width=width, height=height, rx=2)]
    if used > 2:
        edge = f"M0 {top}H{width - 4:g}l4 2-4 2 4 2-4 2H0z"
        parts.append(element("path", class_=f"m-fill {state}", d=edge))
    elif filled:
        parts.append(element("rect", class_=f"m-fill {state}", x=0, y=top, width=max(1.5, filled), height=height, rx=2))
    parts.append(element("rect", class_="m-mark", x=width / 2 - 0.75, y=0, width=1.5, height=14))
    inner = Markup("").join(parts)
    return element("svg", inner, class_="meter", viewBox=f"0 0 {width:g} 14", width=120, height=14, aria_hidden="true")


def steps_bar(ends_s: list[float]) -> Markup:
    """Recovery steps to scale: one stretch per step, from injection to the last of them."""
    total = ends_s[-1] if ends_s else 0.0
    if total <= 0:
        return Markup("")
    parts, start = [], 0.0
    for index, end in enumerate(ends_s):
        left, right = 1000 * start / total, 1000 * end / total
        parts.append(element("rect", class_=f"s{index}", x=left, y=0, width=max(3.0, right - left - 2), height=10))
        start = end
    inner = Markup("").join(parts)
    return element(
        "svg", inner, class_="steps", viewBox="0 0 1000 10", preserveAspectRatio="none", height=10, aria_hidden="true"
    )
