"""How much may be computed to find out what is wrong: counted in work, and so the same on every machine."""

import math
import time

ALLOWED = 1e11  # multiplications: some 550 backward passes at 784-512-512-10 with 128 examples
STEP = 8e5  # multiplications that take as long as running a step does, whatever its size
LOOK = 1e8  # multiplications after which the clock is looked at again
GUARD = 600.0  # seconds of this thread's computing: the last guard against what the count does not see


class Spent(Exception):
    """All work that was allowed is done, or the last guard's time is up."""


class Work:
    """The work that is left to one diagnosis; its parts take from it by `spend`."""

    def __init__(self, allowed: float = ALLOWED, seconds: float = GUARD):
        """Begin now."""
        self.left, self.seconds, self.until = allowed, seconds, time.thread_time() + seconds
        self.looked = allowed

    def spend(self, amount: float) -> None:
        """Take so much off. Raises Spent once there is no more, ever again."""
        self.left = self.left - amount
        if self.left < 0:
            raise Spent("all the work that is allowed for it is done")
        if self.looked - self.left > LOOK:
            self.looked = self.left
            if time.thread_time() > self.until:
                self.left = -math.inf
                raise Spent(f"it has computed for {self.seconds:.0f} s")
