"""Two sides of one comparison, measured in alternation within one run on one host."""
