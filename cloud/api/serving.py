"""The process `threadline cloud api`: the application on a port, until SIGTERM or SIGINT."""

import uvicorn

from cloud.api.app import make_app
from cloud.settings import CloudSettings

STOP_S = 10  # how long a running answer may take once told to stop


def serve(settings: CloudSettings) -> None:
    """Logs go where the command line sent them; uvicorn brings none of its own."""
    uvicorn.run(
        make_app(settings.dsn),
        host=settings.api_host,
        port=settings.api_port,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_S,
    )
