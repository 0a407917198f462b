"""Fixtures of this folder."""

from tests.support.http2_codecs import codecs, pairs

__all__ = ("codecs", "pairs")
