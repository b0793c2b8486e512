"""Search: the moments of an archive that a sentence describes, from embeddings that were stored.

A module imports only from those before it:

    codes archive_part archive kernel coarse hashed indexing peaks query finds clips hoplite look
"""
