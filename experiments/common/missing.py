"""What to install, where something that a program imports is not there."""

import re
import tomllib
from pathlib import Path

DISTRIBUTIONS = {"PIL": "pillow", "sklearn": "scikit-learn"}  # of other names
HOUSE = Path(__file__).parents[2]


def needed(error: ModuleNotFoundError) -> str | None:
    """What to say of a module that is missing; None if it comes with none of this project's extras."""
    module = (error.name or "").partition(".")[0]
    distribution = DISTRIBUTIONS.get(module, module).replace("_", "-")
    project = tomllib.loads((HOUSE / "pyproject.toml").read_text())["project"]
    extras = [("train", project["dependencies"]), *project["optional-dependencies"].items()]
    for extra, listed in extras:
        names = {re.split(r"[^\w-]", line)[0].replace("_", "-") for line in listed} - {"jaxnn"}
        if distribution in names:
            return f"this program needs {distribution}; install it with: pip install -e '.[{extra}]'"
    return None
