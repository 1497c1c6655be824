"""Version folders as TF Serving expects them: NAME/1, NAME/2, ...; each appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tfbnn.core.checks import invalid


def versions_below(path: Path) -> list[int]:
    """The integer folders below `path`, smallest first; 7 and 007 are the same number, and TF Serving takes both."""
    if not path.is_dir():
        return []
    return sorted(int(child.name) for child in path.iterdir() if child.is_dir() and child.name.isdecimal())


def version_folder(path: Path) -> Path:
    """The folder to write: `path` itself where it ends in an integer, else the next integer below it.

    Raises:
        InvalidInput: where that version exists, or `path` is a file.
    """
    _refuse_file_above(path)
    if path.name.isdecimal():
        if path.exists():
            mend = f"Choose another version, or export to {path.parent}, which takes the next."
            raise invalid("path", "a version folder that does not exist yet", str(path), mend)
        return path
    if path.exists() and not path.is_dir():
        raise invalid("path", "a folder, or a name for one", str(path))
    return path / str(max(versions_below(path), default=0) + 1)


def _refuse_file_above(path: Path) -> None:
    for parent in path.parents:
        if parent.exists():
            if not parent.is_dir():
                raise invalid("path", f"a path through folders; {parent} is a file", str(path))
            return


def newest_version(path: Path) -> Path:
    """`path` where it is a SavedModel, else the folder of its newest version.

    Raises:
        InvalidInput: where there is none.
    """
    if (path / "saved_model.pb").is_file():
        return path
    versions = versions_below(path)
    if versions and (path / str(versions[-1]) / "saved_model.pb").is_file():
        return path / str(versions[-1])
    mend = "tfbnn train RECIPE.yaml makes one, or tfbnn.export_saved_model(model, path)."
    raise invalid("path", "a SavedModel, or a folder of numbered versions of one", str(path), mend)


@contextlib.contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Yields a temporary folder beside `folder`; renames it when the body is done, removes it when the body fails."""
    temporary = _temporary_beside(folder)
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp's 0700 would keep a server of another user out
        _rename(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary_beside(folder: Path) -> Path:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    except OSError as error:
        raise invalid("path", "a folder that can be written to", str(folder.parent), f"{error.strerror}.") from error


def _rename(temporary: Path, folder: Path) -> None:
    try:
        os.rename(temporary, folder)  # takes the place of an empty folder, refuses any other
    except OSError as error:
        if folder.exists():
            raise invalid("path", "a version folder that no other export has taken", str(folder)) from error
        raise
