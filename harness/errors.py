"""The errors that end a command or fail a cell, and the boundary where a plug-in's exceptions become such errors."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class UserError(Exception):
    """A mistake that the user can fix. One sentence: what, why, what to type next. Exit code 2, no traceback."""


class ModelError(UserError):
    """A model that exists but cannot be loaded.

    It fails its cells in a benchmark of several models, and ends a command about this model alone.
    """

    trace: str = ""
    """The traceback of an earlier attempt, which was not repeated."""


class PluginError(Exception):
    """A plug-in broke its contract. Fails the cell in hand (exit code 1); other cells go on."""

    trace: str = ""
    """The traceback where the code ran in another process."""


@contextmanager
def plugin_code(what: str, module: str = "", passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Runs a plug-in's code and turns every exception, `SystemExit` included, into a `PluginError`.

    Not for blocks that yield to a caller.

    Args:
        what: begins the sentence, as in ``mine: search() raised``.
        module: a module of the plug-in, to tell its frames from those of other packages.
        passing: what is raised on as it is.

    Raises:
        PluginError: naming what was raised, and file and line of the plug-in; of a UserError its own words alone.
    """
    try:
        yield
    except (ModelError, PluginError, KeyboardInterrupt):
        raise
    except passing:
        raise
    except UserError as error:
        raise PluginError(str(error)) from error
    except BaseException as error:
        raise PluginError(f"{what} {described(error, module)}") from error


def described(error: BaseException, module: str = "") -> str:
    """Describes an exception: its type, its message, and the file and line of the plug-in's frame that raised it."""
    text, place = type(error).__name__, _place(error, module)
    with suppress(Exception):  # its __str__ is the plug-in's code too
        text += f": {error}" if str(error) else ""
    return writable(f"{text} ({place})" if place else text)


def trace(error: BaseException) -> str:
    """The whole traceback as Python prints it."""
    return writable(getattr(error, "trace", "") or "".join(traceback.format_exception(error)))


def writable(text: str) -> str:
    """The text with escapes in place of what UTF-8 cannot hold: halves of surrogate pairs, as in odd file names."""
    return text.encode("utf-8", "backslashreplace").decode()


def _place(error: BaseException, module: str) -> str:
    """``file:line`` of the innermost frame of the module's package, else of one outside the harness; may be empty."""
    walked = traceback.walk_tb(error.__traceback__)
    frames = [(frame.f_globals.get("__name__") or "", frame.f_code.co_filename, line) for frame, line in walked]
    frames = [each for each in frames if not each[1].startswith("<")]
    others = [each for each in frames if each[0].partition(".")[0] != "harness"]
    package, library = module.partition(".")[0], str(Path(os.__file__).parent)
    own = [each for each in others if package and each[0].partition(".")[0] == package]
    own = own or [each for each in others if not each[1].startswith(library)] or others
    if not own:
        return ""
    _, file, line = own[-1]
    with suppress(ValueError, OSError):  # elsewhere, or the working directory is gone
        file = str(Path(file).relative_to(Path.cwd()))
    return f"{file}:{line}"
