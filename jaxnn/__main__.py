"""What `python -m jaxnn` can be asked for, and where the programs are."""

import sys

SAID = (
    "jaxnn has one program of its own: python -m jaxnn.gradcheck --help; those that train and draw "
    "are no part of what pip installs: they need a clone of the project, in whose folder they run as "
    "python -m experiments.train"
)

if __name__ == "__main__":
    print(f"error: {SAID}", file=sys.stderr)
    sys.exit(2)
