"""The isolation audit: canaries are planted on the host, and looked for from inside every target."""
