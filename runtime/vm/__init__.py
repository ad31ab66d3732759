"""Guests of their own, started through libvirt: description, connection, lifecycle."""

import os

# libvirt's library logs what it raises to standard error as well, unless told otherwise. It reads this
# when it is first imported, which is why it stands in front of every module that does.
os.environ.setdefault("LIBVIRT_LOG_OUTPUTS", "3:file:/dev/null")
