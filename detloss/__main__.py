"""``python -m detloss``, and so ``torchrun -m detloss``."""

from detloss.cli.main import main

if __name__ == "__main__":
    main()
