"""`python -m hw_numpy.check` is the old name of `python -m hw_check`, kept for scripts that use it."""

import runpy

if __name__ == "__main__":
    runpy.run_module("hw_check", run_name="__main__", alter_sys=True)  # a homework does not import the checker
