"""Everything in one process: API and workers. `uvicorn main:app --port 8000`, or `make run`."""

from pulse.bootstrap import everything, settings_from_environment

app = everything(settings_from_environment())
