"""Alembic's migrations of the record; each revision's id is four digits that count up."""
