"""The health check of the image: exits with 0 if the process of this container is ready.

It sends its requests to the port that the process listens on, so it works for `pulse up`, `api`,
`gateway` and `background` (with PULSE_MONITORING_PORT). A gateway alone has only `/health`.
"""

import os
import sys
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

PATHS = ("/pulse/health/ready", "/health/ready", "/health")
TIMEOUT_SECONDS = 4
NOT_FOUND = 404


def main() -> str:
    """Request the first path that exists. Returns the problem, or "" if the process is ready."""
    port = os.environ.get("PULSE_MONITORING_PORT") or os.environ.get("PULSE_PORT") or "8000"
    open_url = build_opener(ProxyHandler({})).open  # ignores the proxies of the environment
    for path in PATHS:
        url = f"http://127.0.0.1:{port}{path}"
        try:
            with open_url(url, timeout=TIMEOUT_SECONDS):
                return ""
        except HTTPError as error:
            if error.code != NOT_FOUND:
                return f"{url}: {error.code} {error.read(2000).decode(errors='replace')}"
        except (URLError, OSError) as error:
            return f"{url}: {error}"
    return f"no health check was found on port {port}"


if __name__ == "__main__":
    sys.exit(main() or 0)
