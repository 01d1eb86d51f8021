"""`python -m services.cli` is `wireloom`: how `wireloom up` starts its services whatever is on the PATH."""

from services.cli.main import run

if __name__ == "__main__":
    run()
