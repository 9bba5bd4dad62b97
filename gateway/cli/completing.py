"""What the shell completes: options of the configuration, modules, and the methods of a server.

    eval "$(_GATEWAY_COMPLETE=bash_source gateway)"        in ~/.bashrc; zsh_source, fish_source

Names of methods are those that the server at the URL tells, or else those of the methods that would be served here. A
completion says nothing: what goes wrong has no names.
"""

import contextlib
import io
import os
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete, add_completion_class, split_arg_string

from gateway import app
from gateway.app import mounted
from gateway.client import Client
from gateway.config import OPTIONS, load

_PATIENCE = 1.0  # seconds that a server has to tell of its methods
_MOST = 2**24  # bytes that it may need for it
_BASH = """\
%(complete_func)s() {
    local type value
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            file) compopt -o default ;;
            dir) compopt -o dirnames ;;
            plain) COMPREPLY+=("$value"); [[ $value != *= ]] || compopt -o nospace ;;
        esac
    done < <(COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_CURRENT="$2" %(complete_var)s=bash_complete "$1")
}

complete -F %(complete_func)s %(prog_name)s
"""

_ZSH = """\
#compdef %(prog_name)s

%(complete_func)s() {
    local type value help
    local -a found told open plain
    found=("${(@f)$(COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT - 1)) %(complete_var)s=zsh_complete %(prog_name)s)}")
    [[ $PREFIX != -* ]] || compset -P 1 '*='
    for type value help in $found; do
        case $type in
            file) _path_files -f ;;
            dir) _path_files -/ ;;
            plain)
                if [[ $value == *= ]]; then open+=("$value")
                elif [[ $help == _ ]]; then plain+=("$value")
                else told+=("$value:$help"); fi ;;
        esac
    done
    (( ! $#told )) || _describe -V unsorted told
    (( ! $#plain )) || compadd -V unsorted -a plain
    (( ! $#open )) || compadd -S '' -V unsorted -a open
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""
_FISH = """\
function %(complete_func)s
    set -l kept (string match -r -- '^-[^=]*=' (commandline -ct))
    for each in (COMP_WORDS=(commandline -cp) COMP_CWORD=(commandline -ct) %(complete_var)s=fish_complete %(prog_name)s)
        set -l told (string split -m 1 -- , $each)
        switch $told[1]
            case file
                string replace -r -- '^' "$kept" (__fish_complete_path $told[2])
            case dir
                string replace -r -- '^' "$kept" (__fish_complete_directories $told[2])
            case plain
                echo -- "$kept$told[2]"
        end
    end
end

complete --no-files --command %(prog_name)s --arguments '(%(complete_func)s)'
"""

Names = Callable[[click.Context, click.Parameter, str], list[str]]


class Bash(BashComplete):
    """Completes in bash, which takes colons and equals signs, as in a URL, for the ends of words."""

    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """Read the line up to the cursor; what bash would replace is the end of its last word."""
        line, current = os.environ["COMP_LINE"], os.environ["COMP_CURRENT"]
        words = split_arg_string(line)[1:]
        incomplete = words.pop() if words and not line.endswith((" ", "\t")) else ""
        self._kept = incomplete[: len(incomplete) - len(current)] if incomplete.endswith(current) else ""
        return words, incomplete

    def format_completion(self, item: click.shell_completion.CompletionItem[Any]) -> str:
        """Write a completion without what bash keeps."""
        return f"{item.type},{str(item.value).removeprefix(self._kept)}"


class Zsh(ZshComplete):
    """Completes in zsh the value of an option behind its equals sign, and sets no space behind one that follows."""

    source_template = _ZSH


class Fish(FishComplete):
    """Completes in fish the value of an option behind its equals sign."""

    source_template = _FISH


for shell in (Bash, Zsh, Fish):
    add_completion_class(shell)


def names(function: Callable[[click.Context], Iterable[str]]) -> Names:
    """Make what completes a parameter from what finds all names."""

    @wraps(function)
    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
        nothing = io.StringIO()
        with contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
            try:
                return [name for name in function(context) if name.startswith(incomplete)]
            except (Exception, SystemExit):  # noqa: BLE001 - of a module of the user's, too
                return []

    return complete


@names
def of_methods(context: click.Context) -> Iterable[str]:
    """Find the methods that can be called at the URL of a command."""
    url = context.params.get("url")
    if url:
        with contextlib.suppress(Exception), Client(url, **_calling(context.params)) as client:
            return sorted(client.call("system.listMethods"))
    return served()


def served() -> list[str]:
    """Find the methods that would be served here."""
    config = load(None, os.environ, ())
    return [name for name, _ in app.build(config, mounted.registry_of(config, ())).offered()]


@names
def of_settings(context: click.Context) -> Iterable[str]:
    """Find the options of the configuration, those of its upstreams included, as they are written behind --set."""
    yield from (f"{name}=" for name in OPTIONS)
    config = load(context.params.get("file"), os.environ, ())
    for name, options in config.upstreams.items():
        yield from (f"upstreams.{name}.{option}=" for option in options.__struct_fields__)


@names
def of_modules(_: click.Context) -> Iterator[str]:
    """Find the packages of the current folder, and their modules."""
    for found in pkgutil.iter_modules([str(Path.cwd())]):
        yield found.name
        if found.ispkg:
            yield from (f"{found.name}.{each.name}" for each in pkgutil.iter_modules([str(Path.cwd() / found.name)]))


def _calling(params: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a client that a command line has said so far."""
    said = {name: params[name] for name in ("protocol", "key", "ca") if params.get(name) is not None}
    if params.get("insecure"):
        said["verify"] = False
    return {**said, "timeout": _PATIENCE, "retries": 0, "max_response": _MOST}
