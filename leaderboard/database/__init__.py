"""The board's database: tables, migrations, queries, and the boards over all that is stored."""
