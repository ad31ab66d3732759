"""`python -m pybench` is `pybench`; setup.py makes this the package `pybench` itself."""

from __future__ import annotations

from pybench.harness.cli.entry import main

if __name__ == "__main__":
    main()
