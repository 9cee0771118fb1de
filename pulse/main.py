"""The Pulse API alone, at `/`: `uvicorn pulse.main:app --port 8001`."""

from pulse.process.apps import api_app
from pulse.process.startup import settings_from_environment

app = api_app(settings_from_environment())
