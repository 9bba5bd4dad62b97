"""What the console shows of the versions of interfaces: what the tables ``[versions.NAME]`` say, and what there is."""

from typing import Any

from gateway.core.versions import Versions
from gateway.model.calls import Deprecation


def shown(versions: Versions) -> list[dict[str, Any]]:
    """Return a table for each interface, of JSON's types: its rules, and its versions with their methods."""
    names = [name for name, _ in versions.methods()]
    return [
        {
            "name": name,
            "header": options.header,
            "canary": None if options.canary is None else _canary(options.canary.percent, options.canary.by),
            "versions": [
                {
                    "version": version,
                    "role": "default"
                    if version == options.default
                    else "canary"
                    if options.canary is not None and version == options.canary.to
                    else "",
                    "prefix": prefix,
                    "methods": sum(each.startswith(prefix) for each in names),
                    "deprecated": _said(options.deprecated.get(version)),
                }
                for version, prefix in prefixes.items()
            ],
            "deprecated": {each: _said(found) for each, found in options.deprecated.items() if each not in prefixes},
        }
        for name, options, prefixes in versions.tables()
    ]


def _canary(percent: float, by: str) -> dict[str, Any]:
    return {"percent": percent, "by": by}


def _said(found: Deprecation | None) -> str:
    """Say from when on something is deprecated, and what follows."""
    if found is None:
        return ""
    until = f", until {found.sunset}" if found.sunset is not None else ""
    return f"since {found.since}{until}{f'; use {found.use}' if found.use else ''}"
