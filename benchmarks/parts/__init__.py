"""The parts of the suite, each one operation compared with lower bounds and peers."""
