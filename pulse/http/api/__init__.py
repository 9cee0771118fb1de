"""The internal API."""

from pulse.http.api.app import create_api
from pulse.http.api.doors import GATEWAY_NAME, InternalDoor, is_loopback

__all__ = ["GATEWAY_NAME", "InternalDoor", "create_api", "is_loopback"]
