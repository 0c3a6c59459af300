"""Segments updated with each event.

The path of an event: `stream` reads its line, `engine` checks it, `customer` updates the features of its customer,
whose past `history` reads from the run, `explain` assigns the segment and words the change, `state` stores both.
Next to it, `cockpit` compares the events with what is `usual`, `page` and `picture` show that, and `triggers` notify
others.
"""
