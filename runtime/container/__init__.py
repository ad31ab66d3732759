"""Containers: ordinary Linux processes with very strong isolation."""
