"""Hostile files through the real commands: `make fuzz`, and a sample of it in `make test`.

An input is made from a kind and a number (`kinds.py`), run as a command in a process of its own (`sandbox.py`) under
guards that see what it opens, starts, imports and uses (`guards.py`), and judged by what any input must keep to
(`judge.py`). Whatever broke one of these rules once is kept in `past.py` and tried by every `make test`.
"""
