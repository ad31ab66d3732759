"""Programs that run at points of a container's life, outside of it (config.md, POSIX-platform Hooks)."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pybench.runtime.container.specification.model import Hook
from pybench.runtime.errors import InstanceError
from pybench.runtime.output import printable

_SHOWN_BYTES: Final = 2000


def run_hooks(hooks: Iterable[Hook], state: Mapping[str, Any], point: str) -> None:
    """Run hooks in order, each with the container's state on its input.

    Raises:
        InstanceError: one failed or took too long; the rest is not run.
    """
    text = json.dumps(dict(state)).encode()
    for number, hook in enumerate(hooks):
        place = f"hooks.{point}[{number}]: {hook.path}"
        try:
            finished = subprocess.run(
                hook.args or (hook.path,),
                executable=hook.path,
                input=text,
                env=dict(variable.split("=", 1) for variable in hook.env),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                timeout=hook.timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise InstanceError(f"{place} did not end within {hook.timeout} s") from None
        except OSError as error:
            raise InstanceError(f"{place}: {error.strerror}") from error
        if finished.returncode:
            said = printable(finished.stderr[-_SHOWN_BYTES:]).strip()
            raise InstanceError(f"{place} ended with {finished.returncode}{': ' if said else ''}{said}")
