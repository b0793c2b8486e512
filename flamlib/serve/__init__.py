"""`flam serve`: recordings are opened, asked and searched over HTTP, and on a page.

A module imports only from those before it:

    refusals limits work_queue workspace app
"""
