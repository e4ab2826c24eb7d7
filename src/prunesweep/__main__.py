"""`python -m prunesweep` is the command `prunesweep`."""

from prunesweep.cli.app import main

if __name__ == "__main__":
    main()
