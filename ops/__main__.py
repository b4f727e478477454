"""`python -m ops`: the command line, where `.venv/bin/forebay` is not at hand."""

from ops.cli import main

if __name__ == "__main__":
    main()
