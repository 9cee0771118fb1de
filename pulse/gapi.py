"""The gateway alone, at `/`: `uvicorn pulse.gapi:app --port 8002`. It needs no database."""

from pulse.process.apps import gateway_app
from pulse.process.startup import settings_from_environment

app = gateway_app(settings_from_environment())
