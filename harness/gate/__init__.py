"""The regression check: a candidate held against its baseline and its past, and the proof that this works."""
