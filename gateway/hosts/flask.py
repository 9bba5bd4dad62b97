"""The Flask host: an endpoint as a blueprint, beside whatever else the app serves.

    from gateway import endpoint
    from gateway.hosts.flask import blueprint

    app.register_blueprint(blueprint(endpoint(registry)))

It is the WSGI host at the blueprint's routes. All verbs go there, so that Flask answers none of them. Other paths
are the app's own, with its own 404. Where a hook of the app reads the body first, none is left for the endpoint.
"""

from collections.abc import Iterable

from flask import Blueprint

from gateway.hosts.wsgi import Application, WSGIHost
from gateway.model.http import Endpoint

_VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")


def blueprint(endpoint: Endpoint, paths: Iterable[str] = (), name: str = "gateway") -> Blueprint:
    """Make a blueprint for an endpoint.

    Args:
        endpoint: what ``gateway.endpoint`` returns.
        paths: where calls are POSTed to; without any, the endpoint's own paths but ``/``, which is the app's. A
            ``url_prefix`` comes before them, as with any blueprint.
        name: the blueprint's name, which two of them in one app must not share.

    Raises:
        ValueError: no path is left.

    """
    routes = tuple(paths) or tuple(path for path in endpoint.paths if path != "/")
    if not routes:
        raise ValueError(
            'the only path of the endpoint is "/", which is the app\'s own: give others, blueprint(endpoint, ["/api"])'
        )
    application = WSGIHost(endpoint).at(endpoint.paths[0])
    made = Blueprint(name, __name__)

    def call() -> Application:
        return application  # Flask calls what a view returns as a WSGI application

    for route in routes:
        made.add_url_rule(route, "call", call, methods=_VERBS, provide_automatic_options=False)
    return made
