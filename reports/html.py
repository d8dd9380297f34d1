"""verdict.json as one self-contained HTML page: no network, no file beside it, works from `file://`.

Nothing in the record can become markup or code. Text is escaped by the template engine, the chart's data stands in a
data block whose `<` is escaped, page code writes text only, and the content security policy allows exactly the one
style sheet and the one script by their hashes: even an escaping mistake would not run.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from .charts import favicon, icon
from .view import page_view

__all__ = ["render_html", "render_page"]

_TEMPLATES = Path(__file__).resolve().parent / "templates"
_SCRIPT = "report.js"
_CHART_SCRIPT = "timeline.js"


def render_html(verdict: Mapping[str, Any]) -> str:
    """Return the report of a run as one HTML document. `verdict` is the content of verdict.json; pure."""
    view = page_view(verdict)
    return render_page(
        "report.html.j2", view, state=view["summary"]["state"], data=view["timeline"]["data"], with_chart=True
    )


def render_page(
    template: str, view: Mapping[str, Any], *, state: str, data: Mapping[str, Any], with_chart: bool = False
) -> str:
    """Fill in a template as a page that stands alone. `state` is its verdict, `data` what its script reads."""
    style, script = _style(), _script(with_chart=with_chart)
    text = (
        _environment()
        .get_template(template)
        .render(
            view=view,
            data=_data_block(data),
            style=Markup(style),
            script=Markup(script),
            policy=(
                f"default-src 'none'; style-src {_hash(style)}; script-src {_hash(script)}; img-src data:; "
                "base-uri 'none'; form-action 'none'"
            ),
            favicon=favicon(state),
        )
    )
    return text + "\n"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["icon"] = icon
    return environment


@cache
def _style() -> str:
    """The style sheet; the dark tokens stand in one file and are used twice: system setting, and button."""
    dark = (_TEMPLATES / "dark.css").read_text(encoding="utf-8")
    return (
        (_TEMPLATES / "report.css").read_text(encoding="utf-8")
        + f":root[data-theme=dark]{{{dark}}}\n"
        + f"@media screen and (prefers-color-scheme:dark){{:root:not([data-theme=light]){{{dark}}}}}\n"
    )


@cache
def _script(*, with_chart: bool) -> str:
    names = [_SCRIPT, _CHART_SCRIPT] if with_chart else [_SCRIPT]
    return "".join((_TEMPLATES / name).read_text(encoding="utf-8") for name in names)


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _data_block(data: Mapping[str, Any]) -> Markup:
    """JSON for a script element: no `<`, so no text in it can end the element or open a comment."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))
