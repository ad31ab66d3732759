"""The OCI runtime specification's `config.json`: its vocabulary, and what of it is honoured."""
