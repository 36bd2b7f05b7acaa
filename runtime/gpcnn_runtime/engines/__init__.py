"""Engines: files that draw. A room for each runtime, with the same two doors: `load` and `engine`.

Rooms import nothing of each other; `engines.load` chooses among them by the file's name.
"""
