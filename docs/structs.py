"""An extension of griffe, which reads the code for docs/api.md: a Struct is made by its fields."""

from typing import Any

from griffe import Attribute, Class, Extension, Function, Parameter, ParameterKind, Parameters


class Structs(Extension):
    """Gives each Struct the constructor that msgspec makes of its fields, so that its signature is shown."""

    def on_class(self, *, cls: Class, **_: Any) -> None:
        """Add the constructor (called by griffe)."""
        if "Struct" not in map(str, cls.bases):
            return
        kind = ParameterKind.keyword_only if "kw_only" in cls.keywords else ParameterKind.positional_or_keyword
        fields = [
            Parameter(name, annotation=field.annotation, kind=kind, default=field.value)
            for name, field in cls.members.items()
            if isinstance(field, Attribute) and "property" not in field.labels and not name.startswith("_")
        ]
        itself = Parameter("self", kind=ParameterKind.positional_or_keyword)
        cls.set_member("__init__", Function("__init__", parameters=Parameters(itself, *fields), parent=cls))
        cls.bases = [base for base in cls.bases if str(base) != "Struct"]
