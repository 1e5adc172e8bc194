"""Storage for corekit on SQLite: transaction log and state in one database. Imported only when a storage is made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from corekit.hooks import Context, hookimpl

if TYPE_CHECKING:
    from corekit_sqlite.storage import SqliteStorage

kind = "storage"
api_version = 1
suite = "corekit_sqlite.conformance"


@hookimpl
def make_storage(context: Context) -> SqliteStorage:
    """Storage in `dataDir`, log and all: SQLite keeps its log beside the database, whatever `dataLogDir` says."""
    from corekit_sqlite.storage import SqliteStorage

    settings = context.settings
    if settings.data_log_dir != settings.data_dir:
        context.logger.warning(
            "dataLogDir has no effect with the storage sqlite: everything is kept in dataDir",
            extra={"dataLogDir": settings.data_log_dir},
        )
    return SqliteStorage(Path(context.data_dir))
