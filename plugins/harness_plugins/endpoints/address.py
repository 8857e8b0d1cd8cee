"""Addresses and keys of endpoints. A key comes from an environment variable alone and is never printed or written."""

from __future__ import annotations

import ipaddress
import os
import re
from contextlib import suppress
from urllib.parse import SplitResult, urlsplit, urlunsplit

from harness.types import Options, UserError

VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,60}")
"""Name of an environment variable, as keys have them. Most keys are not of this form, so one typed here is noticed."""
KEY = re.compile(r"[\x21-\x7e]{1,4096}")
PORTS = {"http": 80, "https": 443}
EXAMPLE = "as in --base-url http://127.0.0.1:8080/v1"


def base_url(options: Options, variable: str, usual: str) -> str:
    """The address of the endpoint: the option ``base_url``, else the environment variable, else the usual one.

    Raises:
        UserError: It is not the address of an endpoint, or holds more than one. What is wrong with it is not quoted.
    """
    given = str(options.get("base_url") or os.environ.get(variable, "").strip() or usual)
    if not given:
        raise UserError(f"An endpoint needs its address: add base_url=..., {EXAMPLE}.")
    try:
        parts = urlsplit(given)
        port, host = parts.port, parts.hostname or ""
    except ValueError as error:
        raise UserError(f"The base URL is not an address ({error}); write it {EXAMPLE}.") from None
    if parts.username is not None or parts.password is not None:
        raise UserError(
            "The base URL holds a name or a password, which would be written to results; omit it and put the key into "
            "an environment variable (key_env=NAME)."
        )
    if parts.query or parts.fragment:
        raise UserError(
            "The base URL goes on after a ? or a #, where keys may be; give it without that, and the key in an "
            "environment variable (key_env=NAME)."
        )
    if parts.scheme not in PORTS or not host or not given.isascii() or any(letter.isspace() for letter in given):
        raise UserError(f"The base URL is not an address that begins with https:// or http://; write it {EXAMPLE}.")
    named = f"[{host}]" if ":" in host else host
    place = named if port in (None, PORTS[parts.scheme]) else f"{named}:{port}"
    return urlunsplit(SplitResult(parts.scheme, place, parts.path.rstrip("/"), "", ""))


def key_of(options: Options, usual: str, url: str) -> tuple[str, str]:
    """The name of the variable that holds the key, and the key; the key is empty if there is none.

    Args:
        options: ``key_env`` names another variable than the usual one, or is ``none``.
        usual: Its name for this kind of endpoint.
        url: Of the endpoint. A key is sent over plain http only within this machine.

    Raises:
        UserError: The variable is not set though it was named, holds no key, or the key would be sent unencrypted.
    """
    given = options.get("key_env")
    if given == "none":
        return "", ""
    if given is not None and not VARIABLE.fullmatch(str(given)):
        raise UserError(
            "key_env takes the name of an environment variable in capitals, such as JINA_API_KEY, or none, and never "
            "the key itself."
        )
    name = str(given or usual)
    key = os.environ.get(name, "").strip()
    if given is not None and not key:
        raise UserError("The environment variable that key_env names is not set; export it, or omit key_env.")
    if key and not KEY.fullmatch(key):
        raise UserError(f"The environment variable {name} holds blanks or characters that no key has; set it again.")
    if key and url.startswith("http://") and not _within_this_machine(url):
        raise UserError(
            f"The key in {name} would be sent unencrypted to {url}; give an https address or a tunnel to this machine, "
            f"or key_env=none if that endpoint needs no key."
        )
    return name, key


def _within_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
