"""Programs: `python -m experiments.NAME`; each knows `--help`. The folders are what they are made of."""

import signal
import sys

if sys.argv[0] == "-m":  # a program begins: until it listens itself, Ctrl-C ends it without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

    from experiments.common.starting import check

    check(sys.orig_argv)
