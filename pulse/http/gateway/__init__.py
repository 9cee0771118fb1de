"""The gateway: the public face of Pulse, where every caller proves who it is."""

from pulse.http.gateway.app import create_gateway
from pulse.http.gateway.door import GatewayDoor
from pulse.http.gateway.keys import NoKeys, OneKey
from pulse.http.gateway.remote_keys import RemoteKeys
from pulse.http.gateway.tokens import TokenChecker, TokenRules

__all__ = [
    "GatewayDoor",
    "NoKeys",
    "OneKey",
    "RemoteKeys",
    "TokenChecker",
    "TokenRules",
    "create_gateway",
]
