"""The board's database: tables, migrations and queries."""
