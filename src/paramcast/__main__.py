"""`python -m paramcast` is `paramcast`."""

from .cli import main

if __name__ == "__main__":
    main()
