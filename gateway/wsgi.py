"""The application for uWSGI and other WSGI servers: the modules of ``server.modules``, as ``gateway serve`` has them.

    uwsgi --ini conf/uwsgi.ini        conf/uwsgi.ini names gateway.wsgi
    gunicorn gateway.wsgi             any server that wants gateway.wsgi:application

The configuration is conf/gateway.toml, or the file that GATEWAY_CONFIG names, and the environment. Of [server],
bind, tcp, workers, grace, drain and watchdog are not used here, nor are [tls] and [metrics]: they belong to the WSGI
server. The log is the process's own: where the server or a module has given the root logger handlers, these get the
gateway's lines; otherwise the logger "gateway" has its own, as [log] says.

Whatever is wrong ends the server at its start, with a line for each problem.
"""

import logging
import os
import sys

from gateway.app import mounted
from gateway.config import Config, ConfigError, load
from gateway.config.described import described
from gateway.hosts.wsgi import WSGIHost
from gateway.methods.loading import LoadError, load_registry
from gateway.model.http import Endpoint
from gateway.telemetry import log


def _open() -> Endpoint:
    config: Config = load(None, os.environ, ())
    registry = load_registry(config.server.modules)  # first: the modules may configure the log
    log.configure_own(config.log.level, config.log.format)
    logging.getLogger("gateway").info("%s", described(config))
    return mounted.endpoint_of(config, registry)


try:
    application = WSGIHost(_open())
except (ConfigError, LoadError) as error:
    sys.exit("\n".join(f"gateway: {problem}" for problem in error.problems))
