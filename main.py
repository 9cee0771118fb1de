"""Everything in one process: gateway, API, workers. `uvicorn main:app --port 8000`, or `make run`.

The API lives under `/pulse`, the gateway under `/gapi`.
"""

from pulse.process.apps import everything
from pulse.process.startup import settings_from_environment

app = everything(settings_from_environment())
