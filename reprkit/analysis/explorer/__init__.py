"""A page on which embeddings can be looked at: maps of several encoders, linked, with thumbnails, and no network."""

from __future__ import annotations

from reprkit.analysis.explorer.gather import Exploration, View, gather
from reprkit.analysis.explorer.page import Page, explore, make_page
from reprkit.analysis.explorer.sprites import Sprites, pack_sprites

__all__ = ["Exploration", "Page", "Sprites", "View", "explore", "gather", "make_page", "pack_sprites"]
