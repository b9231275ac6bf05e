"""``python -m detloss``, for launchers that start modules: ``torchrun --nproc-per-node 2 -m detloss train``."""

from detloss.cli.main import main

if __name__ == "__main__":
    main()
