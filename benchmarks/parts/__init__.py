"""The parts of the suite, each one operation beside its floors and peers."""
