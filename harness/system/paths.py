"""$HARNESS_HOME: the folder that holds datasets, weights, vectors and indexes."""

from __future__ import annotations

import os
from pathlib import Path

from harness.errors import UserError


def home_folder() -> Path:
    """The folder that $HARNESS_HOME names, or this platform's cache folder. It need not exist yet."""
    import platformdirs

    given = os.environ.get("HARNESS_HOME")
    return Path(given).expanduser().resolve() if given else platformdirs.user_cache_path("retrieval-harness")


def make_home_folder() -> Path:
    """`home_folder`, created if it does not exist, without the temporary files of killed processes.

    Raises:
        UserError: If it cannot be created, or if its name or the current folder's is not UTF-8.
    """
    from harness.storage.temporary_files import sweep_tree

    home = home_folder()
    for what, folder in (("The folder {} of HARNESS_HOME", home), ("The current folder {}", Path.cwd())):
        require_utf8(what, str(folder))
    make_folder(home, "choose another folder with HARNESS_HOME")
    sweep_tree(home)
    return home


def require_utf8(what: str, text: str) -> None:
    """Raises UserError if ``text``, a file name, is not UTF-8 (Python then represents bytes as half surrogate pairs).

    Labels, keys and records contain file names, and all of them are UTF-8. ``what`` names the file in the message.
    """
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UserError(
            f"{what.format(ascii(text))} is not UTF-8 text; rename that file or folder, or set PYTHONUTF8=1 where the "
            f"locale is what is not UTF-8."
        )


def make_folder(folder: Path, advice: str) -> Path:
    """Creates the folder if it does not exist. Raises UserError, ending with ``advice``, if it cannot be created."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "a file is in its place" if isinstance(error, FileExistsError) else error.strerror
        raise UserError(f"The folder {folder} cannot be created ({reason}); {advice}.") from error
    return folder
