"""Networks of containers: a bridge of our own with namespaces made ahead, or an ordinary user's network."""
