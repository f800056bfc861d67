"""`python -m hw_numpy.check` is the old name of `python -m hw_check`, kept for scripts that use it.

It runs hw_check by its name, because no homework may import the checker.
"""

import runpy

if __name__ == "__main__":
    runpy.run_module("hw_check", run_name="__main__", alter_sys=True)
