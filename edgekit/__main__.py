"""`python -m edgekit` and the `edgekit` console script."""

from edgekit.cli import main

if __name__ == "__main__":
    main()
