"""Secrets in the address of a database: written as $NAME, filled in at the last moment, and never shown."""

import os
import re

PASSWORD = re.compile(r"//([^:/@\s]+):(?!\$)[^/\s]*@")
NAME = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


def filled_in(url: str) -> str:
    """An address with the values of the environment variables it names."""
    return os.path.expandvars(url)


def hidden(text: str, *, url: str = "") -> str:
    """A text without passwords, and with the names of the variables of an address in the place of their values."""
    names = {first or second for first, second in NAME.findall(url)}
    for name in sorted(names, key=lambda one: (-len(os.environ.get(one, "")), one)):
        if os.environ.get(name):
            text = text.replace(os.environ[name], f"${name}")
    return PASSWORD.sub(r"//\1:...@", text)
