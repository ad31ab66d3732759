"""The payload's sources: they run inside targets, joined into one file, with the standard library alone.

Nothing here may import anything of pybench but its sister modules, whose imports are left out when the
sources are joined (see `pybench.harness.audit.payload`).
"""
