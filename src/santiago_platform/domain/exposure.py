"""What a request must not carry where only an advisor thought of it: reach from outside, privilege, ways round checks.

It reads any typed request as JSON, by names and values that mean the same in Compose, Kubernetes, Terraform and the
platform's own requests: so it holds for requests whose types come later, too. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network

from pydantic import JsonValue

from .value import Value


class Rule(StrEnum):
    """Named as the guard rail that allows it."""

    PUBLIC = "public"
    PRIVILEGE = "privilege"
    BYPASS = "bypass"


class Finding(Value):
    """where: the path in the request. what: the value there, in short; "set" of a whole object or list."""

    rule: Rule
    where: str
    what: str


# Under these are names and values of the user's own, which set nothing.
_DATA = frozenset({"env", "environment", "labels", "metadata", "targeting", "variables", "variants"})
_ADDRESSES = frozenset({"bind", "bindaddress", "hostip", "interface", "listen", "listenaddress"})
# Names without case and punctuation: hostNetwork, host_network and host-network are one.
_SWITCHES: Mapping[Rule, frozenset[str]] = {
    Rule.PUBLIC: frozenset(
        {"associatepublicipaddress", "externalip", "externalips", "internetfacing", "public", "publicaccess"}
        | {"publicip", "publicipaddress", "publiclyaccessible", "publicread"}
    ),
    Rule.PRIVILEGE: frozenset(
        {"admin", "allowprivilegeescalation", "capadd", "clusteradmin", "hostipc", "hostnetwork", "hostpath"}
        | {"hostpid", "hostport", "hostusers", "privileged", "runasroot", "sudo"}
    ),
    Rule.BYPASS: frozenset(
        {"allowdataloss", "breakglass", "disablegates", "force", "forcedestroy", "ignoregates", "insecure"}
        | {"insecureskipverify", "noverify"}
    ),
}
_VALUES: Mapping[Rule, Mapping[str, frozenset[str]]] = {
    Rule.PUBLIC: {
        "type": frozenset({"loadbalancer", "nodeport"}),
        "acl": frozenset({"publicread", "publicreadwrite"}),
        "scheme": frozenset({"internetfacing"}),
    },
    Rule.PRIVILEGE: {
        "runasuser": frozenset({"0", "root"}),
        "user": frozenset({"0", "root"}),
        "network": frozenset({"host"}),
        "networkmode": frozenset({"host"}),
        "pid": frozenset({"host"}),
        "ipc": frozenset({"host"}),
        "role": frozenset({"owner", "clusteradmin"}),
        "action": frozenset({"*"}),
        "actions": frozenset({"*"}),
        "verbs": frozenset({"*"}),
    },
}
_PUBLISHED = re.compile(r"[\d-]+:[\d-]+(?:/[a-z]+)?")  # a port for a port, with no address: of all interfaces
_HOST_MOUNT = re.compile(r"(?:/[^:\0]*|~[^:\0]*|\.\.[^:\0]*):/[^:\0]*(?::[A-Za-z,]+)?")
# What protects, where it is switched off.
_GUARDS = frozenset(
    {
        "deletionprotection",
        "encrypted",
        "preventdestroy",
        "readonlyrootfilesystem",
        "runasnonroot",
        "tlsverify",
        "verify",
    }
)
_OFF = frozenset({"", "0", "0.0", "false", "no", "none", "null", "off"})
_IDENTITIES = frozenset({"runasuser", "user"})  # whose zero is root
_LARGEST_PREFIX = 8  # of a network that is somebody's: a shorter one is a part of the whole internet


def exposures(request: JsonValue) -> Iterator[Finding]:
    """All that it carries, in the order of the request; false, null, zero and empty switches carry nothing."""
    yield from _within(request, "", "")


def _within(value: JsonValue, key: str, where: str) -> Iterator[Finding]:
    plain = _plain(key)
    if plain in _DATA:
        return
    if isinstance(value, (dict, list)):
        switched = Rule.PRIVILEGE if where.lower().endswith("capabilities.add") else _switch(plain)
        if switched is not None and value:
            yield Finding(rule=switched, where=where, what="set")
            return
        named = value.items() if isinstance(value, dict) else ((key, inner) for inner in value)
        for index, (name, inner) in enumerate(named):
            at = f"{where}[{index}]" if isinstance(value, list) else f"{where}.{name}".removeprefix(".")
            yield from _within(inner, name, at)
    else:
        rule = _rule(plain, value)
        if rule is not None:
            yield Finding(rule=rule, where=where, what=str(value)[:80])


def _switch(key: str) -> Rule | None:
    if key.startswith("skip"):
        return Rule.BYPASS
    return next((rule for rule, switches in _SWITCHES.items() if key in switches), None)


def _rule(key: str, value: str | float | bool | None) -> Rule | None:
    said = str(value).strip().lower()
    if key in _IDENTITIES:
        said = said.partition(":")[0]  # before its group
    if key in _GUARDS and value is not None and said in _OFF:
        return Rule.BYPASS
    if said in _OFF and key not in _IDENTITIES:
        return None
    switched = _switch(key)
    if switched is not None:
        return switched
    for rule, values in _VALUES.items():
        if (_plain(said) or said) in values.get(key, frozenset()):  # of "*" nothing is left without punctuation
            return rule
    if not isinstance(value, str):
        return None
    if key == "ports" and _PUBLISHED.fullmatch(said):
        return Rule.PUBLIC
    if _is_everywhere(said) or (key in _ADDRESSES and not _is_local(said)):
        return Rule.PUBLIC
    return Rule.PRIVILEGE if _HOST_MOUNT.fullmatch(said) else None


def _host(said: str) -> str:
    """Of an address or a network, with or without scheme and ports."""
    said = said.partition("://")[2] or said
    if said.startswith("["):
        return said[1:].partition("]")[0]
    return said if said.count(":") > 1 and "." not in said else said.partition(":")[0]


def _network(host: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(host, strict=False)
    except ValueError:
        return None


def _is_everywhere(said: str) -> bool:
    if said.startswith("*:"):
        return True
    network = _network(_host(said))
    return network is not None and (network.prefixlen < _LARGEST_PREFIX or network.network_address.is_unspecified)


def _is_local(said: str) -> bool:
    """Whether only this machine reaches it: loopback, or a socket by its path. A port alone binds nothing yet."""
    host = _host(said)
    if said.startswith(("/", "unix:")) or host in ("localhost", "lo") or host.isdecimal():
        return True
    network = _network(host)
    return network is not None and network.is_loopback


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())
