"""From a model's parameters to its adapter store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from swiftdiffusion.adapters.disk_cache import DiskCache
from swiftdiffusion.adapters.folder_store import FolderStore
from swiftdiffusion.adapters.remote_store import RemoteStore
from swiftdiffusion.adapters.store import AdapterStore
from swiftdiffusion.configuration import Location, require_range
from swiftdiffusion.errors import InvalidArgument

MEBIBYTE = 2**20


@dataclass(frozen=True, kw_only=True)
class StoreConfiguration:
    """The parameters that every model with LoRAs has."""

    adapters: Location  # a folder, or an address that fsspec knows (https://…, s3://…)
    adapter_mb: int = 4096  # a larger file is refused
    adapter_timeout_s: float = 10.0  # how long a remote store may take for one answer
    adapter_disk: Path = Path("/var/tmp/swiftdiffusion-adapters")  # copies of remote files, for all models
    adapter_disk_mb: int = 20480

    def __post_init__(self) -> None:
        require_range("adapter_mb", self.adapter_mb, 1, 1_000_000)
        require_range("adapter_timeout_s", self.adapter_timeout_s, 0.1, 3600)
        require_range("adapter_disk_mb", self.adapter_disk_mb, self.adapter_mb, 100_000_000)


def open_store(configuration: StoreConfiguration) -> AdapterStore:
    """Open the folder or the remote location.

    Raises:
        InvalidArgument: it is neither, or copies cannot be kept where they should be.
    """
    limit = configuration.adapter_mb * MEBIBYTE
    if not configuration.adapters.is_remote:
        return FolderStore(Path(configuration.adapters), limit)
    try:
        cache = DiskCache(configuration.adapter_disk, configuration.adapter_disk_mb * MEBIBYTE)
    except OSError as error:
        raise InvalidArgument(
            f"parameter 'adapter_disk' is {str(configuration.adapter_disk)!r}, which cannot be used: {error.strerror}"
        ) from None
    return RemoteStore(configuration.adapters, cache, limit, configuration.adapter_timeout_s)
