"""The parts of probes for guests without python3: a script for /bin/sh, and what its output means."""
