"""The gateway's blueprint in a Flask app, for uWSGI."""

import time

from flask import Flask

from gateway import Registry, endpoint
from gateway.hosts.flask import blueprint

registry = Registry()


@registry.register
def sleep(seconds: float) -> str:
    """Block."""
    time.sleep(seconds)
    return "done"


app = Flask(__name__)
app.register_blueprint(blueprint(endpoint(registry)))
