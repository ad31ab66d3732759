"""`pybench-oci`: the command line of an OCI runtime, with runc's flags, for docker and podman to drive.

https://github.com/opencontainers/runtime-tools/blob/master/docs/command-line-interface.md

argparse, because its flags are runc's and each call of docker's waits for it: what is not needed at
once is imported where it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

from pybench.harness.cli.oci.arguments import parser
from pybench.harness.cli.oci.log import PROGRAM, log
from pybench.runtime.errors import InputError, PybenchError

EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130
_WORDS_OF_GO: Final = {
    "No such file or directory": "no such file or directory",
    "Permission denied": "permission denied",
    # Which is what execve says of one.
    "Is a directory": "is a directory: permission denied",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parsed = argparse.Namespace(log="", log_format="text", debug=False)
    try:
        parser().parse_args(arguments, parsed)
        if parsed.run is None:
            raise InputError("a command is required", f"{PROGRAM} --help")
        status: int = parsed.run(parsed)
    except PybenchError as error:
        log(
            parsed, "error", _as_engines_read_it(f"{error.message}{f' ({error.hint})' if error.hint else ''}")
        )
        return EXIT_USAGE if isinstance(error, InputError) else 1
    except BrokenPipeError:
        return 1
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    return status


def _as_engines_read_it(message: str) -> str:
    """Reasons in the words of Go, by which docker and podman tell 126 and 127 from other failures."""
    for ours, theirs in _WORDS_OF_GO.items():
        message = message.replace(ours, theirs)
    return message
