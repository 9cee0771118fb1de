"""The internal API."""

from pulse.http.api.app import create_api

__all__ = ["create_api"]
