"""Which system calls a container may make: policies, and the filters they become."""
