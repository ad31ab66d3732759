"""Containers that outlive the process that made them: create, start, exec, kill, delete, as OCI defines them.

https://github.com/opencontainers/runtime-spec/blob/v1.2.0/runtime.md
"""
