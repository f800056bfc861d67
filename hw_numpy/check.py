"""`python -m hw_numpy.check` is the old name of `python -m hw_check`, kept for those who have it in a script.

python -m hw_numpy.check submissions/student_17   the same as python -m hw_check submissions/student_17
"""

import runpy

if __name__ == "__main__":
    runpy.run_module("hw_check", run_name="__main__", alter_sys=True)  # homeworks do not import the checker
