"""`python -m audiotag` runs the command line."""

import runpy

# An import of `cli`, which stands above this package, would be a circle.
runpy.run_module("cli", run_name="__main__", alter_sys=True)
