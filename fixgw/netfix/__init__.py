"""NetFIX, the line protocol of displays: the sentence codec, and a client."""
