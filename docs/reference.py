"""Write docs/options.md, the reference of the options, from the code that reads them: ``python -m docs.reference``."""

from docs import options

if __name__ == "__main__":
    options.PAGE.write_text(options.page(), "utf-8")
