"""`python -m t5like`, the command line where the command t5like is not on the PATH."""

from t5like.cli import main

if __name__ == "__main__":
    main()
