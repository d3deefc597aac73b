"""SQLAlchemy on the console, by psycopg2 and by psycopg: what it asks at connect, tables, an error, and on."""

import sys

import sqlalchemy as sa

address = sys.argv[1]
# Both look for hstore at connect, psycopg with a parameter.
for driver in ["psycopg2", "psycopg"]:
    engine = sa.create_engine(f"postgresql+{driver}://{address}")
    with engine.connect() as connection:
        pools = connection.execute(sa.text("SHOW POOLS")).mappings().all()
        assert [pool["database"] for pool in pools] == ["pgbouncer"], pools
        assert pools[0]["cl_active"] == 1, pools
        stats = connection.execute(sa.text("SHOW STATS")).mappings().all()
        assert stats[0]["total_query_count"] > 0, stats
        try:
            connection.execute(sa.text("SELECT CAST('test plain returns' AS VARCHAR(60)) AS anon_1"))
            raise SystemExit("the console has no CAST")
        except sa.exc.DBAPIError as error:
            assert "The console has no tables and no functions" in str(error), error
        connection.rollback()
        for asked in [
            "select pg_catalog.version()", "show standard_conforming_strings", "show transaction isolation level",
        ]:
            assert len(connection.execute(sa.text(asked)).all()) == 1, asked
    engine.dispose()
print("fine")
