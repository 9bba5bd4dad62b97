"""Write docs/options.md, the reference of the options, and conf/gateway.toml, which has their defaults.

Both are made from the code that reads the options: ``python -m docs.reference``.
"""

from docs import configuration, options

if __name__ == "__main__":
    options.PAGE.write_text(options.page(), "utf-8")
    configuration.FILE.write_text(configuration.page(), "utf-8")
