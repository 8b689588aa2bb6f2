"""Files of this machine: a temporary file is renamed over its target (`scratch`)."""

import errno
import os
import secrets
import shutil
import tempfile
from contextlib import suppress
from typing import BinaryIO

from caption_assets.errors import StoreError
from caption_assets.store.failures import WRITE_FIX, failed
from caption_assets.store.scratch import Scratch

_PLACE_TRIES = 5


class LocalFiles:
    """A folder of this machine."""

    at_once = 1

    def __init__(self, root: str) -> None:
        self.url = root
        self._scratch = Scratch(root)

    def check_writable(self) -> None:
        """Try in the nearest folder that exists, so that a refusal leaves nothing behind."""
        existing = self.url
        while not os.path.lexists(existing):
            existing = os.path.dirname(existing)
        asked = f"write below {self.url}"
        if not os.path.isdir(existing):
            raise StoreError(asked, f"{existing} is not a folder", "choose an output path that is not a file")
        try:
            os.rmdir(tempfile.mkdtemp(prefix=".caption_assets-", dir=existing))
        except OSError as err:
            raise StoreError(asked, f"{existing} cannot be written: {err.strerror or err}", WRITE_FIX) from err

    def read(self, rel: str) -> bytes | None:
        try:
            with open(self._path(rel), "rb") as file:
                return file.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as err:
            raise failed("read", self._path(rel), err) from err

    def open(self, rel: str) -> BinaryIO | None:
        try:
            return open(self._path(rel), "rb")
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as err:
            raise failed("read", self._path(rel), err) from err

    def write(self, rel: str, data: bytes, *, durable: bool) -> None:
        path, temporary = self._path(rel), ""
        try:
            with self._scratch.create() as file:
                temporary = file.name
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            _place(temporary, path)
            if durable:
                _sync_folder(os.path.dirname(path))
        except BaseException as err:
            with suppress(OSError):
                os.unlink(temporary)
            if isinstance(err, OSError):
                raise failed("write", path, err) from err
            raise

    def write_where(self, rel: str, data: bytes, held: str | None) -> bool:
        return False  # a look costs nothing here

    def draft(self) -> BinaryIO:
        try:
            return self._scratch.create()
        except OSError as err:
            raise failed("write", f"below {self.url}", err) from err

    def place(self, path: str, rel: str) -> None:
        try:
            _place(path, self._path(rel))
        except OSError as err:
            raise failed("write", self._path(rel), err) from err

    def delete(self, rel: str) -> None:
        try:
            os.unlink(self._path(rel))
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as err:
            raise failed("delete", self._path(rel), err) from err

    def delete_empty_folder(self, rel: str) -> None:
        with suppress(OSError):  # not empty, or gone already
            os.rmdir(self._path(rel))

    def names(self, rel: str) -> list[str]:
        try:
            # Temporary files are on their way from another disk.
            return sorted(name for name in os.listdir(self._path(rel)) if not name.endswith(".tmp"))
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as err:
            raise failed("list", self._path(rel), err) from err

    def stamp(self, rel: str) -> str | None:
        try:
            stat = os.stat(self._path(rel))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as err:
            raise failed("look at", self._path(rel), err) from err
        return f"{stat.st_mtime_ns}-{stat.st_size}-{stat.st_ino}"

    def size(self, rel: str) -> int | None:
        stamp = self.stamp(rel)
        return None if stamp is None else int(stamp.split("-")[1])

    def look(self, file_rel: str, folder_rel: str) -> tuple[str | None, list[str]]:
        names = self.names(folder_rel)
        return self.stamp(file_rel), names

    def _path(self, rel: str) -> str:
        return os.path.join(self.url, rel)


def _place(temporary: str, path: str) -> None:
    """Rename a file to its place, making its folder."""
    folder = os.path.dirname(path)
    for _ in range(_PLACE_TRIES):
        # Another process may remove the folder, empty as it is, at any moment: after it was made (the place is then
        # not found), or while makedirs finds it there and looks what it is (it then says that the folder exists).
        with suppress(FileNotFoundError, FileExistsError):
            os.makedirs(folder, exist_ok=True)
            try:
                return os.replace(temporary, path)
            except OSError as err:
                if err.errno != errno.EXDEV:
                    raise
                # The folder is on another disk. The name is not that of the file, which may be as long as names can be.
                beside = os.path.join(folder, f".{secrets.token_hex(8)}.tmp")
                shutil.copyfile(temporary, beside)
                os.replace(beside, path)
                return os.unlink(temporary)
    os.makedirs(folder, exist_ok=True)
    return os.replace(temporary, path)


def _sync_folder(folder: str) -> None:
    """Make a rename survive a power cut. Not every file system lets folders be synced."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
