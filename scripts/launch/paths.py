"""Where things lie in the checkout."""

from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]
LOCK_FILE = CHECKOUT / "requirements.lock"
PROJECT_FILE = CHECKOUT / "pyproject.toml"
MODEL_REPOSITORY = CHECKOUT / "model_repository"
PYTHON_BACKENDS = CHECKOUT / "python_backends"
OUTPUTS = CHECKOUT / "outputs"
LOGS = OUTPUTS / "logs"


def shorten(path: Path) -> str:
    """Give `path` as a person in the working directory would type it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)
