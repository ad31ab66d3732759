"""Carries out a plan: prepares the host, waits, launches, measures, stores, and stops cleanly."""
