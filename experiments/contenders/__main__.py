"""One contender in a process of its own: `python -m experiments.contenders NAME WORK`.

WORK is JSON (see Work). Every line on standard input, `train` or `test`, is answered by a line of JSON.
"""

import json
import sys
import time

from experiments.contenders.table import CONTENDERS, EXAMPLES, FAMILY, REFERENCES
from experiments.contenders.work import Work


def main(name: str, work: Work) -> None:
    """Prepare, and answer the lines on standard input."""
    answers, sys.stdout = sys.stdout, sys.stderr  # nothing else may speak on standard output

    def answer(**values):
        print(json.dumps(values), file=answers, flush=True)

    try:
        contender = (CONTENDERS | REFERENCES | FAMILY | EXAMPLES)[name](work)
    except ModuleNotFoundError as error:
        return answer(missing=error.name)
    answer(device=contender.device, memory=contender.memory)
    number = work.first
    for line in sys.stdin:
        if line.strip() == "train":
            number += 1
            clock = time.perf_counter()
            loss = contender.train(number)
            answer(seconds=(time.perf_counter() - clock) / contender.calls, loss=loss)
        else:
            answer(accuracy=contender.accuracy())
    return None


if __name__ == "__main__":
    if len(sys.argv) != 3:
        print("error: got no NAME and WORK; experiments.benchmark starts the contenders", file=sys.stderr)
        sys.exit(2)
    main(sys.argv[1], Work(**json.loads(sys.argv[2])))
