"""NetFIX, the line protocol of displays: a codec for its sentences, and a client."""

from __future__ import annotations

from fixgw.netfix.client import Client, Report, Sample

__all__ = ["Client", "Report", "Sample"]
