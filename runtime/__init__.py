"""Mechanism: containers and virtual machines; knows nothing of scenarios, results or reports."""
