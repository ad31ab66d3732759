"""Instances as the audit sees them: something that runs a script, and what the host knows of it."""
