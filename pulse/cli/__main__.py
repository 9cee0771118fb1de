"""`python -m pulse.cli`."""

from pulse.cli import main

if __name__ == "__main__":
    main()
