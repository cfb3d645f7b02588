"""What surrounds a comparison: held still while it runs, and given back as it was."""

import contextlib
import functools
import io
import random
import sys
import threading
import warnings
from collections.abc import Iterator

import jax
import numpy as np
from jax.core import eval_context
from threadpoolctl import ThreadpoolController

from jaxnn.gradcheck.calls.constants import keep_apart

_ONE_AT_A_TIME = threading.RLock()  # what is held still is the whole process's
USUAL = {  # settings of JAX under which what is watched is no longer what runs
    "jax_disable_jit": (jax.disable_jit, False),  # loops would run in Python, and want numbers
    "jax_debug_nans": (jax.debug_nans, False),  # points of one's own may give no number
    "jax_debug_infs": (jax.debug_infs, False),
    "jax_debug_key_reuse": (jax.debug_key_reuse, False),  # the same call is made again and again
    "jax_transfer_guard": (jax.transfer_guard, "allow"),
}


class Printed(io.TextIOWrapper):
    """Standard output, kept; threads that were there before print as ever."""

    def __init__(self, usual):
        """Keep what is printed from now on; usual: where the others print."""
        super().__init__(io.BytesIO(), "utf-8", "backslashreplace", newline="\n", write_through=True)
        self.usual = usual
        self.others = {t.ident for t in threading.enumerate()} - {threading.get_ident()}

    def write(self, text: str, /) -> int:
        """Print."""
        return (self.usual if threading.get_ident() in self.others else super()).write(text)

    @property
    def lines(self) -> int:
        """How many lines were kept."""
        kept = self.buffer
        assert isinstance(kept, io.BytesIO)
        return kept.getvalue().count(b"\n")


@contextlib.contextmanager
def quiet() -> Iterator[Printed]:
    """Hold back what the functions print and warn of: they are called many times, at odd points.

    Random numbers that they draw from the process's own states are drawn again afterwards, so that what
    comes after a comparison does not know of it. NumPy multiplies on one thread meanwhile: with two, small
    products wait for one another, ten times as long where the machine is at work on something else.
    """
    keep_apart()
    with (
        _ONE_AT_A_TIME,
        _libraries().limit(limits=1, user_api="blas"),
        contextlib.redirect_stdout(Printed(sys.stdout)) as printed,
        _unwarned(),
        _drawn_again(),
        np.errstate(all="ignore"),
        eval_context(),  # a comparison within a trace is no part of it
        usual_settings(),
    ):
        yield printed


@contextlib.contextmanager
def usual_settings() -> Iterator[None]:
    """The settings of JAX that a comparison needs, in this thread; those that are usual stay untouched."""
    with contextlib.ExitStack() as held:
        for name, (setting, usual) in USUAL.items():
            if getattr(jax.config, name, None) not in (usual, None):
                held.enter_context(setting(usual))
        yield


@contextlib.contextmanager
def on_host() -> Iterator[None]:
    """JAX computes in float64 on a CPU; in any thread, and whatever the settings of the process are."""
    try:
        host = jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # a process that was told to use the accelerator only
        host = jax.local_devices()[0]
    with usual_settings(), jax.enable_x64(True), jax.default_device(host):
        yield


@contextlib.contextmanager
def _unwarned() -> Iterator[None]:
    """No warnings; and those that were shown already are not shown again, as after catch_warnings."""
    kept = warnings.filters
    warnings.filters = [("ignore", None, Warning, None, 0)]
    try:
        yield
    finally:
        warnings.filters = kept


@contextlib.contextmanager
def _drawn_again() -> Iterator[None]:
    """What is drawn of the process's own random states within is drawn once more after it."""
    drawn, of_numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(drawn)
        np.random.set_state(of_numpy)


@functools.cache
def _libraries() -> ThreadpoolController:
    """The libraries that multiply for NumPy."""
    return ThreadpoolController()
