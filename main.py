"""Gateway, API and workers in one process: `uvicorn main:app --port 8000`, or `make run`.

The API is at `/pulse`, the gateway at `/gapi`.
"""

from pulse.process.apps import all_in_one_app
from pulse.process.startup import settings_from_environment

app = all_in_one_app(settings_from_environment())
