"""Control groups behind one small interface, with an implementation for each kernel interface."""
