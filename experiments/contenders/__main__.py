"""A contender in this process."""

import json
import sys

from experiments.contenders.ours import Work, main

if __name__ == "__main__":
    main(sys.argv[1], Work(**json.loads(sys.argv[2])))
