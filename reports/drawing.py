"""Drawings as plotly.js takes them: traces and a layout, plain data (plotly.com/javascript/reference).

The page's own library draws them. Its Python namesake would check every property against its schema, which
takes ten times as long as all the rest of a figure; a unit test does that instead, of every figure there is
(docs/adr/0011).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from pybench.reports.embedding import script_safe_json

GAP = 0.04
"""Between panels, as a share of the height, unless said otherwise."""


class Drawing:
    """One or several panels above each other; the first one is the uppermost."""

    def __init__(self, panels: Sequence[float] = (1.0,), *, gap: float = GAP, shared: bool = False) -> None:
        """Make the axes.

        Args:
            panels: how high each panel is, in proportion to the others.
            gap: between two panels, as a share of the whole height.
            shared: whether all panels have the lowest one's axis of x.
        """
        self.traces: list[dict[str, Any]] = []
        self.layout: dict[str, Any] = {}
        if len(panels) == 1:
            self.layout |= {"xaxis": {}, "yaxis": {}}
            return
        available = 1 - gap * (len(panels) - 1)
        top = 1.0
        for number, height in enumerate(panels, 1):
            bottom = max(0.0, top - available * height / sum(panels))
            x: dict[str, object] = {"anchor": _reference("y", number)}
            if shared and number < len(panels):
                x |= {"matches": _reference("x", len(panels)), "showticklabels": False}
            y = {"anchor": _reference("x", number), "domain": [bottom, top]}
            self.layout |= {_axis("x", number): x, _axis("y", number): y}
            top = bottom - gap

    def scatter(self, panel: int = 1, **properties: object) -> None:
        """Add marks, lines or texts."""
        self._trace("scatter", panel, properties)

    def bar(self, panel: int = 1, **properties: object) -> None:
        """Add bars."""
        self._trace("bar", panel, properties)

    def note(self, **properties: object) -> None:
        """Add a text."""
        self.layout.setdefault("annotations", []).append(properties)

    def name_panels(self, names: Sequence[str]) -> None:
        """Put a name above the left end of each panel."""
        for number, name in enumerate(names, 1):
            _, top = self.layout[_axis("y", number)].get("domain", (0.0, 1.0))
            self.note(
                text=name, x=0, y=top, xref="paper", yref="paper", xanchor="left", yanchor="bottom",
                align="left", showarrow=False, font={"size": 12.5},
            )  # fmt: skip

    def vertical_line(self, x: float, **line: object) -> None:
        """Draw a line through the whole height of the only panel."""
        self.layout.setdefault("shapes", []).append(
            {"type": "line", "x0": x, "x1": x, "y0": 0, "y1": 1, "yref": "y domain", "line": line}
        )

    def x_axis(self, panel: int = 1, **properties: object) -> None:
        """Set properties of an axis of x."""
        self.layout[_axis("x", panel)] |= _with_title(properties)

    def y_axis(self, panel: int = 1, **properties: object) -> None:
        """Set properties of an axis of y."""
        self.layout[_axis("y", panel)] |= _with_title(properties)

    def json(self, height: int, *, top: int = 10, bottom: int = 44) -> Markup:
        """The drawing without a template: the page brings those of both themes.

        Args:
            height: of the whole drawing, in CSS pixels.
            top: of the margin above, in CSS pixels.
            bottom: of the margin below, in CSS pixels.
        """
        layout = self.layout | {
            "height": height, "showlegend": False, "dragmode": False,
            "margin": {"l": 8, "r": 28, "t": top, "b": bottom, "pad": 6},
        }  # fmt: skip
        return script_safe_json({"data": self.traces, "layout": layout})

    def _trace(self, kind: str, panel: int, properties: dict[str, object]) -> None:
        columns = {
            name: _packed(value) if isinstance(value, np.ndarray) else value
            for name, value in properties.items()
        }
        places = {} if panel == 1 else {"xaxis": _reference("x", panel), "yaxis": _reference("y", panel)}
        self.traces.append({"type": kind, **columns, **places})


def _axis(letter: str, number: int) -> str:
    """As the layout calls it: `xaxis`, `xaxis2`."""
    return f"{letter}axis{number if number > 1 else ''}"


def _reference(letter: str, number: int) -> str:
    """As traces and other axes call it: `x`, `x2`."""
    return f"{letter}{number if number > 1 else ''}"


def _with_title(properties: dict[str, object]) -> dict[str, object]:
    return properties | {"title": {"text": properties["title"]}} if "title" in properties else properties


def _packed(values: np.ndarray[Any, np.dtype[np.float64]]) -> dict[str, str]:
    """Numbers in the form in which plotly.js takes typed arrays; the byte order is little-endian."""
    return {"dtype": "f8", "bdata": base64.b64encode(values.astype("<f8").tobytes()).decode("ascii")}
