"""`python -m pulse.cli`."""

from pulse.cli.app import main

if __name__ == "__main__":
    main()
