"""The Flask host: an endpoint as a blueprint, beside whatever else the app serves.

    from gateway import endpoint
    from gateway.hosts.flask import blueprint

    app.register_blueprint(blueprint(endpoint(registry)))

It is the WSGI host at the blueprint's routes. All verbs go there, so that Flask answers none of them. Other paths
are the app's own, with its own 404. Where a hook of the app reads the body first, none is left for the endpoint.
``context.request`` is Flask's request.
"""

from collections.abc import Callable, Iterable

import flask
from flask import Blueprint

from gateway.hosts.wsgi import Application, WSGIHost
from gateway.model.http import Endpoint

_VERBS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")


def blueprint(
    endpoint: Endpoint,
    paths: Iterable[str] = (),
    name: str = "gateway",
    user: Callable[[], str | None] = lambda: None,
) -> Blueprint:
    """Make a blueprint for an endpoint, with a route for AI agents, if there is a path for them.

    Args:
        endpoint: what ``gateway.endpoint`` returns.
        paths: where calls are POSTed to; without any, the endpoint's own paths but ``/``, which is the app's. A
            ``url_prefix`` comes before them, as with any blueprint.
        name: the blueprint's name, which two of them in one app must not share.
        user: returns the name of the user whom the app has found for the present request; that is then
            ``context.key``. None stands for nobody.

    Raises:
        ValueError: no path is left.

    """
    routes = tuple(paths) or tuple(path for path in endpoint.paths if path != "/")
    if not routes:
        raise ValueError(
            'the only path of the endpoint is "/", which is the app\'s own: give others, blueprint(endpoint, ["/api"])'
        )
    host = WSGIHost(endpoint)
    made = Blueprint(name, __name__)

    def call(path: str = endpoint.paths[0]) -> Application:
        request = flask.request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001 - not a proxy
        name = user()
        return lambda environ, start_response: host.answer(environ, start_response, path, request, name)

    for route in routes:
        made.add_url_rule(route, "call", call, methods=_VERBS, provide_automatic_options=False)
    for route in endpoint.agents:
        made.add_url_rule(
            route, "agents", call, methods=_VERBS, provide_automatic_options=False, defaults={"path": route}
        )
    return made
