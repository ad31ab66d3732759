"""Two samples in, what changed between them out; pure. `runs.compare` is the whole of it."""
