"""Files and folders that survive a stop, and the tables of text in them.

A module imports only from those before it:

    files         number_files  json_lines    one_writer    tables        manifest
"""
