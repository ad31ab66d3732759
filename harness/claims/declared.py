"""Which claims a stored run was to judge."""

from __future__ import annotations

from pybench.harness.errors import InputError


def declared(definition: str) -> tuple[str, ...]:
    """The claims that a scenario's text names, as far as they are texts; the rest of it may be anything."""
    if "claims" not in definition:
        return ()
    from pybench.harness.scenario.document import parse_document  # noqa: PLC0415 - loads the whole language

    try:
        data = parse_document("the run's scenario", definition).data
    except InputError:
        return ()
    named = data.get("claims") if isinstance(data, dict) else None
    return tuple(each for each in named if isinstance(each, str)) if isinstance(named, list) else ()
