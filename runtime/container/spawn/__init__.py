"""From clone3 to execve: the steps that a child carries out, the C code that does, and who waits for it."""
