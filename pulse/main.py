"""The Pulse API alone, at `/`: `uvicorn pulse.main:app --port 8001`."""

from pulse.bootstrap import api_alone, settings_from_environment

app = api_alone(settings_from_environment())
