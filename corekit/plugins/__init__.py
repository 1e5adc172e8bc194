"""Finding, choosing and wiring plugins. The only caller of `make_*` and `register_*` hooks.

Rules
- One entry-point group, `corekit`. What comes with corekit is found there exactly as what strangers install.
- Installed is not used: `serve` imports the plugins that are named and the defaults of the kinds that are not, nothing
  else. The order of names never matters.
- Naming a plugin of a kind replaces that kind's default. Plugins of kind `command` and `recipe` add to the command line
  whenever they are installed.
- Everything wrong with a plugin is a `PluginError` (exit code 2) that names it, its version and the way out.

Not here: the contracts (`api.py`), their form check (`contracts.py`), the hooks (`hooks.py`).
"""

from corekit.plugins.listing import check_choice as check_choice
from corekit.plugins.listing import describe as describe
from corekit.plugins.listing import register_commands as register_commands
from corekit.plugins.wiring import SystemClock as SystemClock
from corekit.plugins.wiring import check as check
from corekit.plugins.wiring import wire as wire
