"""The Pulse API alone, at `/`: `uvicorn pulse.main:app --port 8001`."""

from pulse.process.apps import api_alone
from pulse.process.startup import settings_from_environment

app = api_alone(settings_from_environment())
