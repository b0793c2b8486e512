"""Search: the moments of an archive that a sentence describes, from embeddings that were stored.

A module imports only from those before it:

    codes archive_part archive coarse indexing kernel peaks query finds clips hoplite look
"""
