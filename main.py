"""Everything in one process: gateway, API, workers. `uvicorn main:app --port 8000`, or `make run`.

The API lives under `/pulse`, the gateway under `/gapi`.
"""

from pulse.process.apps import all_in_one_app
from pulse.process.startup import settings_from_environment

app = all_in_one_app(settings_from_environment())
