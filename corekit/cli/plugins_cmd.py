"""`corekit plugins`: what is installed, and what a server would use."""

from __future__ import annotations

from corekit.cli.options import ConfigOption, JsonOption, PluginsOption, SetOption, load_settings


def plugins(
    config: ConfigOption = None,
    names: PluginsOption = None,
    assignments: SetOption = None,
    json: JsonOption = False,
) -> None:
    """List the installed plugins, and which of them a server with these options would use, and why.

    If a server would not start with them, the reason comes last and the exit code is 2.

    [bold]Examples[/bold]

      corekit plugins

      corekit plugins --config zoo.cfg --json

      corekit plugins -p memory                 [dim]# what would "corekit serve -p memory" run?[/dim]
    """
    from corekit.cli.output import print_json, print_table
    from corekit.plugins import check_choice, describe

    settings = load_settings(config, None, None, names, assignments).settings
    infos = describe(settings)
    if json:
        print_json(
            [
                {
                    "name": info.name,
                    "kind": info.kind,
                    "version": info.version,
                    "package": info.package,
                    "module": info.module,
                    "hooks": list(info.hooks),
                    "used": info.used,
                    "why": info.why,
                    "error": info.error or None,
                }
                for info in infos
            ]
        )
    else:
        rows = [
            ("yes" if info.used else "", info.name, info.kind, f"{info.package} {info.version}", info.error or info.why,
             ", ".join(info.hooks))
            for info in sorted(infos, key=lambda info: (info.kind, info.name))
        ]  # fmt: skip
        print_table(("used", "name", "kind", "package", "why", "hooks"), rows)
    check_choice(settings)
