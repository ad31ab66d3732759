"""The host's part of every probe: one module per category, each with a tuple `PROBES`.

The guest's part is in the module of the same name in `pybench.harness.audit.guest`.
"""
