"""How what audiotag ships was made."""
