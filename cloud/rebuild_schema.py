"""The tables of the view a second time: laid out beside the first ones, and put in their place.

Rule 1: the copy is like the original as it stands: columns, keys, indexes and views by their names,
whoever added them, and the same grants.
"""

from typing import Final, LiteralString

from cloud.db import AsyncConnection, sql
from cloud.projection.rows import MEMORY, VIEW

NEXT: Final = "projection_next"
FORMER: Final = "projection_former"
TABLES: Final = (
    *(kind.TABLE.name for kind in (*VIEW, *MEMORY)),
    "projection",
    "projection_skipped",
)


async def current_schema(connection: AsyncConnection) -> str:
    row = await (await connection.execute("select current_schema()")).fetchone()
    return "public" if row is None else str(row[0])


async def lay_out(connection: AsyncConnection, home: str) -> None:
    """Empty tables beside those in `home`, found first from now on."""
    await connection.execute(_sql("drop schema if exists {next} cascade"))
    await connection.execute(_sql("create schema {next}"))
    views = await (await connection.execute(_VIEWS, [home, list(TABLES)])).fetchall()
    await look_at_next(connection, home)
    for query in (_TABLES, _KEYS, _INDEXES, _GRANTS):
        given = {"home": home, "next": NEXT, "tables": list(TABLES)}
        for (statement,) in await (await connection.execute(query, given)).fetchall():
            await connection.execute(sql.SQL(statement))
    for name, body in views:
        await connection.execute(
            sql.SQL("create view {} as {}").format(sql.Identifier(NEXT, name), sql.SQL(body))
        )
    await connection.execute("insert into projection default values")


async def look_at_next(connection: AsyncConnection, home: str) -> None:
    await connection.execute(_sql("set search_path = {next}, {home}", home))


async def look_at_home(connection: AsyncConnection, home: str) -> None:
    await connection.execute(_sql("set search_path = {home}", home))


async def swap(connection: AsyncConnection, home: str) -> None:
    """The new tables and views come in, the former ones go. Whoever reads now waits a moment."""
    await connection.execute(_sql("create schema {former}"))
    relations = await (await connection.execute(_RELATIONS, [NEXT])).fetchall()
    for name, word in relations:
        for source, target in ((home, FORMER), (NEXT, home)):
            await connection.execute(
                sql.SQL("alter {} {} set schema {}").format(
                    sql.SQL(word), sql.Identifier(source, name), sql.Identifier(target)
                )
            )
    for word in ("view", "table"):  # whatever else depends on them stops here, and nothing is lost
        names = [sql.Identifier(FORMER, name) for name, kind in relations if kind == word]
        if names:
            await connection.execute(
                sql.SQL("drop {} {}").format(sql.SQL(word), sql.SQL(", ").join(names))
            )
    await connection.execute(_sql("drop schema {former}"))
    await connection.execute(_sql("drop schema {next}"))


def _sql(text: LiteralString, home: str = "public") -> sql.Composed:
    return sql.SQL(text).format(
        next=sql.Identifier(NEXT), former=sql.Identifier(FORMER), home=sql.Identifier(home)
    )


_TABLES: Final = """
    select format(
        'create table %%I.%%I (like %%I.%%I including all excluding indexes)',
        %(next)s::text, name, %(home)s::text, name
    )
    from unnest(%(tables)s::text[]) as t (name)
"""
_KEYS: Final = """
    select format('alter table %%I.%%I add constraint %%I %%s', %(next)s::text, t.relname,
                  c.conname, pg_get_constraintdef(c.oid))
    from pg_constraint c
    join pg_class t on t.oid = c.conrelid and t.relname = any(%(tables)s)
    join pg_namespace n on n.oid = t.relnamespace and n.nspname = %(home)s
    where c.contype in ('p', 'u')
"""
_INDEXES: Final = """
    select replace(pg_get_indexdef(i.indexrelid),
                   format(' ON %%I.%%I ', %(home)s::text, t.relname),
                   format(' ON %%I.%%I ', %(next)s::text, t.relname))
    from pg_index i
    join pg_class t on t.oid = i.indrelid and t.relname = any(%(tables)s)
    join pg_namespace n on n.oid = t.relnamespace and n.nspname = %(home)s
    where not exists (select from pg_constraint c where c.conindid = i.indexrelid)
"""
_GRANTS: Final = """
    select format('grant %%s on %%I.%%I to %%s', a.privilege_type, %(next)s::text, t.relname,
                  case a.grantee when 0 then 'public'
                  else quote_ident(pg_get_userbyid(a.grantee)) end)
    from pg_class t
    join pg_namespace n on n.oid = t.relnamespace and n.nspname = %(home)s
    cross join lateral aclexplode(t.relacl) as a
    where t.relname = any(%(tables)s) and a.grantee <> t.relowner
"""
_VIEWS: Final = """
    with recursive dependent as (
        select t.oid from pg_class t join pg_namespace n on n.oid = t.relnamespace
        where n.nspname = %s and t.relname = any(%s)
        union
        select r.ev_class from dependent
        join pg_depend d on d.refobjid = dependent.oid and d.classid = 'pg_rewrite'::regclass
        join pg_rewrite r on r.oid = d.objid
    )
    select v.relname, pg_get_viewdef(v.oid) from dependent join pg_class v using (oid)
    where v.relkind = 'v' order by v.oid
"""
_RELATIONS: Final = """
    select relname, case relkind when 'v' then 'view' else 'table' end from pg_class
    where relnamespace = %s::regnamespace and relkind in ('r', 'v') order by relname
"""
