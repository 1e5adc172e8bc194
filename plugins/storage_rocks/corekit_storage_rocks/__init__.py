"""Transaction log and state on RocksDB. RocksDB itself is imported only when a storage is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from corekit.api import API_VERSION
from corekit.hooks import Context, hookimpl

if TYPE_CHECKING:
    from corekit_storage_rocks.storage import RocksStorage

kind = "storage"
api_version = API_VERSION


@hookimpl
def make_storage(context: Context) -> RocksStorage:
    """Storage in the server's data directory; its journal goes to `dataLogDir` if that is another one."""
    from corekit_storage_rocks.storage import RocksStorage

    settings = context.settings
    log_dir = None if settings.data_log_dir == settings.data_dir else Path(settings.data_log_dir)
    return RocksStorage(Path(context.data_dir), log_dir=log_dir)
