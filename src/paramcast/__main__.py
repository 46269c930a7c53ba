"""`python -m paramcast` is `paramcast`."""

from .cli.main import main

if __name__ == "__main__":
    main()
