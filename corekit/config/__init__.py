"""Settings of the server: what there is, where it comes from, what it means.

Use: `load("zoo.cfg").settings.tick_time_ms`. See `docs/configuration.md` for people.
"""

from corekit.config.files import Entry as Entry
from corekit.config.load import Loaded as Loaded
from corekit.config.load import load as load
from corekit.config.members import Address as Address
from corekit.config.members import ServerSpec as ServerSpec
from corekit.config.settings import SETTINGS as SETTINGS
from corekit.config.settings import Settings as Settings
from corekit.config.table import Setting as Setting
