"""Data inside a page: JSON that no text in it can break out of, and samples in little space."""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Sequence
from functools import cache
from typing import Any

from markupsafe import Markup

from pybench.harness.model import Sample
from pybench.reports.numbers import one_line
from pybench.reports.vocabulary import said

REASON_LIMIT = 300
"""Characters of a failure's reason kept with each sample; the section on failures shows more of it."""
COMPRESSION = 6
"""Of gzip: level 9 takes three times as long for a hundredth of the size."""

_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)


def script_safe_json(value: Any) -> Markup:  # noqa: ANN401 - whatever json.dumps takes
    """JSON for the inside of a `<script type="application/json">` element.

    HTML ends a script at `</script`, wherever that stands, and `<!--` changes how it is read; so no
    angle bracket is left. JSON strings may spell any character as an escape (RFC 8259, section 7).
    """
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.translate(_ESCAPES))  # noqa: S704 - nothing that HTML would interpret is left


def embedded_samples(samples: Sequence[Sample]) -> Markup:
    """All samples by column, as JSON that is packed by gzip and spelled in base64.

    Texts, which repeat, are kept once and referred to by position.
    """
    texts: dict[str, int] = {}

    def position(text: str) -> int:
        return texts.setdefault(text, len(texts))

    @cache
    def line(text: str) -> int:
        return position(one_line(text))

    # Samples share their qualifiers by the thousand.
    remarks: dict[tuple[int, str], int] = {}

    def remark(sample: Sample) -> int:
        key = id(sample.qualifiers), sample.reason
        if key not in remarks:
            remarks[key] = position(_remarks(sample))
        return remarks[key]

    columns = {
        "order": [sample.order for sample in samples],
        "repetition": [sample.repetition for sample in samples],
        "workload": [line(sample.workload) for sample in samples],
        "target": [line(sample.target) for sample in samples],
        "metric": [line(sample.metric) for sample in samples],
        "value": [_rounded(sample.value) for sample in samples],
        "unit": [line(sample.unit) for sample in samples],
        "status": [position(_status(sample)) for sample in samples],
        "channel": [line(sample.channel) for sample in samples],
        "resolution": [_rounded(sample.resolution) for sample in samples],
        "remarks": [remark(sample) for sample in samples],
    }
    content = json.dumps({"texts": list(texts), "columns": columns}, separators=(",", ":"), allow_nan=False)
    # Without a time in its head, so that the same samples give the same page.
    packed = base64.b64encode(gzip.compress(content.encode(), COMPRESSION, mtime=0))
    return Markup(packed.decode("ascii"))  # noqa: S704 - letters, digits, + / and = alone


def _rounded(value: float | None) -> float | None:
    """To a nanosecond in a second, which no channel resolves; JSON knows no infinity."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.9g}")


def _status(sample: Sample) -> str:
    if sample.status != "ok":
        return sample.status
    return "warm-up" if sample.warmup else "counted"


def _remarks(sample: Sample) -> str:
    words = said([sample.qualifiers])
    parts = [*words.caveats, *words.details]
    if sample.reason:
        parts.append(one_line(sample.reason, REASON_LIMIT))
    return "; ".join(parts)
