"""Who owns a run folder: locks that say which process, and that the system takes back when it ends."""

import os
import socket
from pathlib import Path

from gl_ris.errors import UserError

_NAME = ".lock"
LOCKS = f"{_NAME}*"
# seconds to wait for one that only looks, and for processes that are about to end with their parent
_LOOK, _PATIENCE = 1.0, 30.0


class RunLock:
    """A file in a run folder that one process has locked and that says which, by process id and host.

    Rank 0 takes one from the creation of the folder to the end of the run, every other process while it
    writes.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        from filelock import FileLock

        self.path = folder / (f"{_NAME}{rank}" if rank else _NAME)
        self._lock = FileLock(self.path)

    def take(self, patience: float = _LOOK) -> None:
        """Take the lock; a `UserError` that names its owner if another process keeps it."""
        self._acquire(patience)
        while not self.path.exists():  # its owner removed it meanwhile: this one is nobody's
            self._lock.release()
            self._acquire(patience)
        self.path.write_text(f"{os.getpid()} {socket.gethostname()}\n", encoding="utf-8")

    def release(self) -> None:
        """Remove the file and give the lock back."""
        self.path.unlink(missing_ok=True)
        self._lock.release()

    def look(self) -> None:
        """Raise what `take` raises if another process has the lock, and leave everything as it is."""
        self._acquire(0)
        self._lock.release()

    def _acquire(self, patience: float) -> None:
        from filelock import Timeout

        try:
            self._lock.acquire(timeout=patience, poll_interval=0.05)
        except Timeout as error:
            pid, _, host = self.path.read_text(encoding="utf-8").strip().partition(" ")
            owner = f"process {pid} on {host}" if host else "another process"
            raise UserError(
                f"The run folder '{self.path.parent}' is in use by {owner}; wait for the end of that run, or "
                "name another folder by run_dir=FOLDER."
            ) from error


def refuse_if_live(folder: Path) -> None:
    """Raise a `UserError` that names the owner of a run folder, if it has a living one."""
    lock = RunLock(folder)
    if lock.path.exists():
        lock.look()


def wait_for_others(folder: Path) -> None:
    """Wait for the processes of an earlier run to end; a `UserError` that names one that does not."""
    for path in sorted(folder.glob(f"{_NAME}?*")):
        lock = RunLock(folder, int(path.name.removeprefix(_NAME)))
        lock.take(_PATIENCE)
        lock.release()
