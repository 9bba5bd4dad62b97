"""A table in SQLite: a method that blocks, called by name, with parameterised SQL.

Each call takes a connection of its own, because a SQLite connection belongs to the thread that made it. The table is in
a file of this process, in a folder that nobody else can write to, unless PHONEBOOK names another file.
"""

import atexit
import os
import shutil
import sqlite3
import tempfile
import threading
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gateway import InvalidParams, method

_COLUMNS = ("number", "last_name", "first_name")
_PEOPLE = (
    (1, "Python", "Guido", "1991"),
    (2, "Python", "Monty", "1969"),
    (3, "Lovelace", "Ada", "1843"),
    (4, "Hopper", "Grace", "1959"),
)
_create = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class Person:
    """A row of the phone book."""

    id: int
    last_name: str
    first_name: str
    number: str


@method(timeout=5)
def search(number: str | None = None, last_name: str | None = None, first_name: str | None = None) -> list[Person]:
    """Find the people that have all of what is given."""
    wanted = dict(zip(_COLUMNS, (number, last_name, first_name), strict=True))
    given = {column: value for column, value in wanted.items() if value is not None}
    if not given:
        raise InvalidParams("give at least one of number, last_name and first_name")
    conditions = " AND ".join(f"{column} = :{column}" for column in given)
    query = f"SELECT id, last_name, first_name, number FROM people WHERE {conditions} ORDER BY id LIMIT 100"  # noqa: S608 - columns are ours, values are parameters
    with closing(sqlite3.connect(_database())) as connection:
        connection.row_factory = sqlite3.Row
        return [Person(**row) for row in connection.execute(query, given)]


def _database() -> Path:
    """Return the database's file, filled if it is new."""
    with _create:
        path = Path(os.environ.get("PHONEBOOK") or _folder() / "phonebook.sqlite")
        with closing(sqlite3.connect(path)) as connection, connection:
            connection.execute(
                "CREATE TABLE IF NOT EXISTS people"
                " (id INTEGER PRIMARY KEY, last_name TEXT NOT NULL, first_name TEXT NOT NULL, number TEXT NOT NULL)"
            )
            if not connection.execute("SELECT 1 FROM people LIMIT 1").fetchone():
                # OR IGNORE: another process may be filling it, too.
                connection.executemany("INSERT OR IGNORE INTO people VALUES (?, ?, ?, ?)", _PEOPLE)
    return path


@cache
def _folder() -> Path:
    """Make a folder that goes when the process does."""
    folder = Path(tempfile.mkdtemp(prefix="phonebook-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
