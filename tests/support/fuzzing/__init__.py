"""Seeded files and messages, valid and damaged, with what must come out of them."""
