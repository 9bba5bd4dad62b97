"""The composition root: the one folder that knows every part of a gateway.

build(config, registry) -> Gateway    codecs, layers, dispatcher, endpoint: everything but sockets and processes

layering.py puts the layers around each method, mounted.py makes endpoints for hosts that programs bring, and
measured.py tells how a gateway is.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from msgspec import Struct, structs

from gateway.app.layering import composer
from gateway.app.recorded import recorder_of
from gateway.codecs import CODECS, IMPLEMENTATION, Codec
from gateway.codecs.jsonrpc import JSONRPC
from gateway.config import Config, ConfigError
from gateway.core.access import AccessPolicy
from gateway.core.dispatch import Dispatcher, Finder
from gateway.core.hooks import Everywhere, Lifespans
from gateway.core.layers import ConcurrencyLimiter, charged, permitted
from gateway.core.rates import Buckets, RateLimits
from gateway.core.running import Running
from gateway.core.threads import ThreadPool
from gateway.core.versions import Unversioned, Versions, versioned
from gateway.endpoints.console.public import PATH
from gateway.endpoints.events import begun
from gateway.endpoints.mcp.endpoint import MCPEndpoint
from gateway.endpoints.mcp.tools import PROTOCOL, Toolbox
from gateway.endpoints.observers import Observers
from gateway.endpoints.plain import PlainWay
from gateway.endpoints.rpc import RPCEndpoint, rate_limited
from gateway.endpoints.subscriptions import Rules
from gateway.endpoints.websocket import WebSocketEndpoint
from gateway.fleet.directories import DirectoryConfigError, directory
from gateway.fleet.directories.watching import WatchedDirectory
from gateway.methods import RESERVED, Method, RegistrationError, Registry, place_of
from gateway.methods.hooks import check_middleware
from gateway.methods.introspection import add_introspection, describe
from gateway.methods.loading import LoadError, load_function
from gateway.model.calls import Caller, CallHandler
from gateway.model.faults import Fault
from gateway.model.hooks import Authenticate
from gateway.model.http import Admission, Know
from gateway.model.websocket import WebSockets
from gateway.telemetry import log
from gateway.telemetry.callers import Callers
from gateway.telemetry.live import Live, LiveTable
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.recording import Recorder
from gateway.telemetry.tracing import Tracing, TracingError, is_disabled
from gateway.upstreams import Options, Upstream, UpstreamConfigError
from gateway.upstreams.frame import Claims, UpstreamService


class Gateway(Struct, frozen=True, kw_only=True):
    """A whole gateway without its sockets."""

    config: Config
    registry: Registry
    versions: Versions
    rpc: RPCEndpoint
    admit: Admission  # judges all requests, those for rpc too
    know: Know
    site: Any  # a TornadoSite of gateway/hosts/http/site.py, which needs Tornado; None where only calls are answered
    websockets: WebSockets | None
    pool: ThreadPool
    limiters: Mapping[str, list[ConcurrencyLimiter]]
    metrics: Metrics | None
    callers: Callers | None
    live: Live | None
    tracing: Tracing | None
    recorder: Recorder | None
    policy: AccessPolicy
    upstreams: tuple[UpstreamService, ...]
    directories: Mapping[str, WatchedDirectory]
    lifespans: Lifespans

    def offered(self) -> list[tuple[str, Method]]:
        """Return the methods that are served, with their names, without those of introspection."""
        return [(name, found) for name, found in self.registry.methods() if not name.startswith(RESERVED)]

    def running(self) -> int:
        """Count the calls that have a place to run, also those that nobody waits for any more."""
        return sum(self.limiters[kind][0].running for kind in ("thread", "async"))

    def describe(self) -> dict[str, Any]:
        """Return the OpenRPC document of what is served."""
        int_texts = self.config.jsonrpc.int64 == "text"
        return describe(self.versions.methods(JSONRPC.name), *_identity(), int_texts=int_texts)


def build(  # noqa: PLR0913 - each stands for something that a gateway has only sometimes
    config: Config,
    registry: Registry,
    buckets: Buckets | None = None,
    make_metrics: Callable[..., Metrics] | None = None,
    running: Running | None = None,
    *,
    make_callers: Callable[..., Callers] | None = None,
    live: Live | None = None,
    fakes: Mapping[str, Upstream] | None = None,
) -> Gateway:
    """Put a gateway together around the methods of a registry.

    The registry is taken over into one of the gateway's own, beside the introspection methods and the methods of the
    upstreams that are known before they are reached. ``buckets`` are what workers share to charge their callers; a
    gateway without others has its own. ``make_metrics`` is ``Metrics``, or a partial of it with a directory and a slot;
    without it, or without ``metrics.bind``, nothing is counted. ``running`` is where the calls that run are noted.
    ``make_callers`` is ``Callers`` or a partial of it with a slot; without it, or without ``server.callers``, nobody
    is counted. ``live`` is where workers write down together what the console shows; a gateway without others has its
    own, if it has a console. ``fakes`` stand for upstreams in tests, by their names.

    Raises:
        ConfigError: an upstream cannot be served as it is configured, and it lists all of them; or a method is for a
            protocol that there is not.
        LoadError: middleware, the function that authenticates requests, or the application cannot be loaded.
        OSError: the metrics' directory cannot be written to.

    """
    limits = config.limits
    served = Registry()
    served.mount(registry)
    policy = AccessPolicy(config.access, _authenticate(config, served))
    lifespans = Lifespans(served.hooks.lifespans, SimpleNamespace())
    codecs = _codecs(config)
    upstreams: list[UpstreamService] = []
    versions = _versions(config, served, upstreams)
    _introspect(served, versions, codecs, policy)
    directories = _directories(config)
    upstreams += _upstreams(config, served, fakes or {}, directories)
    _check_protocols(served)
    pool = ThreadPool()
    limiters = {
        "thread": [ConcurrencyLimiter(limits.threads, limits.waiting)],
        "async": [ConcurrencyLimiter(limits.calls, limits.waiting)],
        "method": list[ConcurrencyLimiter](),
    }
    everywhere = Everywhere(middleware=_middleware(config), state=lifespans.state)
    tracing = _tracing(config, versions)
    compose = composer(limits, pool, limiters, running or Running(), everywhere, tracing)
    dispatcher = Dispatcher(served, compose, partial(_absent, upstreams))
    handler: CallHandler = dispatcher
    rates = RateLimits(limits, buckets or Buckets())
    permits = None if not config.access.rules else lambda name, caller: policy.permits(served.names_of(name), caller)
    if config.versions:
        handler = versioned(handler, versions, permits)
    if config.access.rules:
        handler = permitted(handler, policy.permits, served.names_of)
    if limits.client_rate or limits.key_rate:
        handler = charged(handler, rates.charge, rate_limited)
    metrics = None
    if make_metrics is not None and config.metrics.bind:
        metrics = make_metrics(served.get, _protocols(), _identity()[1], codec=IMPLEMENTATION)
    callers = None
    if make_callers is not None and config.server.callers:
        callers = make_callers(Path(config.server.callers), known=versions.get)
    if config.console.bind and live is None:
        live = Live(LiveTable(1), 0)
    rpc = RPCEndpoint(
        codecs=codecs,
        handler=handler,
        limits=limits,
        observers=_observers(metrics, callers, live, tracing),
        paths=config.server.paths,
        policy=policy,
        rates=rates,
        asked=versions.headers,
    )
    rpc.begin_events = partial(begun, partial(_streams, served, versions, upstreams, JSONRPC.name))
    rpc.recorder = recorder = recorder_of(config, served, codecs, partial(_absent, upstreams))
    return Gateway(
        config=config,
        registry=served,
        versions=versions,
        rpc=rpc,
        admit=_agents(config, versions, rpc, policy, partial(_streams, served, versions, upstreams, PROTOCOL)),
        know=_know(rpc, Unversioned(dispatcher, versions.prefixes) if config.versions else dispatcher, policy, permits),
        site=_site(config, rpc),
        websockets=_websockets(config, rpc),
        pool=pool,
        limiters=limiters,
        metrics=metrics,
        callers=callers,
        live=live,
        tracing=tracing,
        recorder=recorder,
        policy=policy,
        upstreams=tuple(upstreams),
        directories=directories,
        lifespans=lifespans,
    )


def _know(
    rpc: RPCEndpoint, finder: Finder, policy: AccessPolicy, permits: Callable[[str, Caller], bool] | None
) -> Know:
    """Make what judges heads that are kept, for methods that rules are about, if there are any."""
    return PlainWay(rpc, finder, permits).know if policy.is_constant else lambda _: None


def _versions(config: Config, served: Registry, upstreams: Iterable[UpstreamService]) -> Versions:
    prefixes = [f"{name}." if each.prefix is None else each.prefix for name, each in config.upstreams.items()]
    return Versions(config.versions, served, prefixes, lambda name: isinstance(_absent(upstreams, name), Method))


def _agents(
    config: Config, shown: Versions, rpc: RPCEndpoint, policy: AccessPolicy, streams: Callable[[str], bool]
) -> Admission:
    """Put the endpoint for agents around that for calls, if agents are offered anything."""
    if not config.mcp.expose:
        return rpc.admit
    permits = policy.permits if config.access.rules else None
    toolbox = Toolbox(shown, config.mcp, permits, int_texts=config.jsonrpc.int64 == "text")
    return MCPEndpoint(
        rpc=rpc,
        codec=next(codec for codec in rpc.codecs if codec.name == JSONRPC.name),
        toolbox=toolbox,
        policy=policy,
        path=config.mcp.path,
        calls=config.server.paths,
        instructions=config.mcp.instructions,
        version=_identity()[1],
        max_depth=config.limits.max_depth,
        streams=streams,
    ).admit


def agents_path(config: Config) -> tuple[str, ...]:
    """Return the path for agents, if they are offered anything."""
    return (config.mcp.path,) if config.mcp.expose else ()


def _protocols() -> tuple[str, ...]:
    return (*CODECS, PROTOCOL)


def _site(config: Config, rpc: RPCEndpoint) -> Any:
    """Load the application that answers what is not a call.

    Raises:
        LoadError: there is no such application.

    """
    if not config.server.app:
        return None
    from gateway.hosts.http.site import site  # noqa: PLC0415 - it needs Tornado

    try:
        application = load_function("server.app", config.server.app)
        made = site(application, rpc.visit, config.server.paths, agents_path(config))
    except TypeError as error:
        raise LoadError([f"server.app: {config.server.app}: {error}"]) from error
    return structs.replace(made, console=PATH) if config.console.public else made


def _websockets(config: Config, rpc: RPCEndpoint) -> WebSockets | None:
    section = config.websocket
    if not section.enabled:
        return None
    return WebSockets(
        path=section.path,
        admit=WebSocketEndpoint(rpc, _rules(config)).admit,
        ping_interval=section.ping_interval,
        ping_timeout=section.ping_timeout,
        idle_timeout=section.idle_timeout,
    )


def _streams(
    served: Registry, versions: Versions, upstreams: Iterable[UpstreamService], protocol: str, name: str
) -> bool:
    """Tell whether a name is that of a method that streams, also by another version or the pattern of an upstream."""
    found = served.get(name, protocol) or versions.get(name, protocol) or _absent(upstreams, name)
    return isinstance(found, Method) and found.streams


def _rules(config: Config) -> Rules:
    section = config.websocket
    return Rules(
        subscribe=section.subscribe,
        unsubscribe=section.unsubscribe,
        notification=section.notification,
        ended=section.ended,
        send=section.send,
        close=section.close,
        most=section.subscriptions,
        slow=section.slow_readers,
        buffer=section.buffer,
    )


def _codecs(config: Config) -> tuple[Codec, ...]:
    """Make the codecs. A protocol that has a section in the configuration is made with what stands there, too."""
    limits = config.limits
    sections: dict[str, Struct] = {"xmlrpc": config.xmlrpc, "jsonrpc": config.jsonrpc}
    return tuple(
        codec(max_depth=limits.max_depth, max_batch=limits.max_batch, **_fields(sections.get(name)))
        for name, codec in CODECS.items()
    )


def _introspect(served: Registry, versions: Versions, codecs: tuple[Codec, ...], policy: AccessPolicy) -> None:
    """Add the methods that describe the others, with what the codecs say of their protocols."""
    title, number = _identity()
    add_introspection(
        served,
        versions,
        title=title,
        version=number,
        capabilities={name: said for codec in codecs for name, said in codec.capabilities.items()},
        batch_methods={codec.name: codec.batch_method for codec in codecs if codec.batch_method},
        permits=policy.permits,
    )


def _fields(section: Struct | None) -> dict[str, Any]:
    return {} if section is None else structs.asdict(section)


def _check_protocols(served: Registry) -> None:
    for _, found in served.methods():
        for name in sorted(found.options.protocols or ()):
            if name not in _protocols():
                known = f"{', '.join(CODECS)} and {PROTOCOL}"
                raise ConfigError([f"{found.place}: protocols: there is no {name!r}; the protocols are {known}"])


def _authenticate(config: Config, served: Registry) -> Authenticate | None:
    """Return the function of the user's that finds out who sends a request."""
    if config.access.authenticate:
        load_function("access.authenticate", config.access.authenticate, served.authenticate)
    function = served.hooks.authenticate
    if function is not None and config.access.keys:
        raise ConfigError([f"access.keys: {place_of(function)} decides who is let in: leave access.keys empty"])
    return function


def _middleware(config: Config) -> tuple[Any, ...]:
    names = config.server.middleware
    return tuple(load_function("server.middleware", name, check_middleware) for name in names)


def _absent(upstreams: Iterable[UpstreamService], name: str) -> Method | Fault | None:
    """Return what passes a name on to an upstream, or the fault for one that may turn out to be its method."""
    passing = next((found for upstream in upstreams if (found := upstream.passing(name)) is not None), None)
    return passing or next((fault for upstream in upstreams if (fault := upstream.absent(name)) is not None), None)


def _directories(config: Config) -> Mapping[str, WatchedDirectory]:
    """Make the directories; nothing is connected before the loop runs and an upstream watches a service."""
    made: dict[str, WatchedDirectory] = {}
    problems: list[str] = []
    for name, options in config.directories.items():
        try:
            made[name] = directory(name, options)
        except DirectoryConfigError as error:
            problems.append(f"directories.{name}: {error}")
    if problems:
        raise ConfigError(problems, config)
    return made


def _upstreams(
    config: Config, served: Registry, fakes: Mapping[str, Upstream], directories: Mapping[str, WatchedDirectory]
) -> tuple[UpstreamService, ...]:
    """Make the upstreams, and add the methods that they know already; nothing is connected before the loop runs."""
    upstreams: list[UpstreamService] = []
    claims: Claims = {}
    problems: list[str] = []
    wanted = {name: Options(url=f"fake://{name}") for name in fakes} | config.upstreams
    for name, options in wanted.items():
        try:
            fake, found = fakes.get(name), directories.get(options.directory)
            order = len(upstreams)
            upstreams.append(
                UpstreamService(
                    name,
                    options,
                    config.limits,
                    claims,
                    order,
                    fake=fake,
                    directory=found,
                    drain=config.server.drain,
                )
            )
            upstreams[-1].add_known(served)
        except (UpstreamConfigError, RegistrationError) as error:
            problems.append(f"upstreams.{name}: {error}")
    if problems:
        raise ConfigError(problems, config)
    return tuple(upstreams)


def _tracing(config: Config, versions: Versions) -> Tracing | None:
    """Make what traces calls, if they are.

    Raises:
        ConfigError: they cannot be.

    """
    if not config.traces.enabled or is_disabled():
        return None
    try:
        return Tracing(partial(_is_known, config, versions), _identity()[1], propagate=config.traces.propagate)
    except TracingError as error:
        raise ConfigError([f"traces.enabled: {error}"], config) from None


def _is_known(config: Config, versions: Versions, name: str, protocol: str) -> bool:
    """Tell whether a name is one that callers cannot invent."""
    section = config.websocket
    return versions.get(name, protocol) is not None or name in {section.subscribe, section.unsubscribe}


def _observers(
    metrics: Metrics | None, callers: Callers | None, live: Live | None, tracing: Tracing | None
) -> Observers:
    return Observers(
        calls=(log.log_calls, *(each.calls for each in (metrics, callers, live, tracing) if each is not None)),
        refusals=(log.log_refusal, *(each.refusal for each in (metrics, live) if each is not None)),
        traffic=() if metrics is None else (metrics.traffic,),
        tracing=tracing,
    )


def _identity() -> tuple[str, str]:
    return "RPC gateway", version("callgate")
