"""Where a file lies: on this host, or on a network file system whose locks cannot be trusted."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

MOUNT_TABLE: Final = Path("/proc/self/mountinfo")

_NETWORK: Final = re.compile(
    r"nfs\d?|cifs|smb\w*|9p|afs|coda|ncpfs|ceph|lustre|gpfs|beegfs|ocfs2|gfs2"
    r"|fuse\.(sshfs|glusterfs|ceph\S*|s3fs|gcsfuse|rclone|davfs\S*|juicefs|nfs\S*)|davfs"
)
_OCTAL: Final = re.compile(r"\\([0-7]{3})")


def network_file_system(path: Path, table: Path = MOUNT_TABLE) -> str | None:
    """Give the kind of network file system that ``path`` lies on, or None.

    Reads the kernel's mount table (man 5 proc); where there is none, UNC paths are recognised
    and all else counts as local. Never opens ``path`` itself.
    """
    if path.drive.startswith("\\\\"):
        return "UNC path"
    try:
        lines = table.read_text(errors="replace").splitlines()
    except OSError:
        return None
    place = Path(os.path.realpath(path))  # unlike resolve(), it bears links in a circle
    best, kind = -1, ""
    for line in lines:
        left, _, right = line.partition(" - ")
        mount = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), left.split()[4]))
        depth = len(mount.parts)
        if depth >= best and (mount == place or mount in place.parents):
            best, kind = depth, right.split()[0]
    return kind if _NETWORK.fullmatch(kind) else None
