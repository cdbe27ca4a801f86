"""The questions that `verify` asks of the database, in SQL. Parameters: agent (id), from, to."""

from typing import Final

MINE: Final = "ledger join lane using (lane_id) where agent_id = %(agent)s"
SEALED: Final = "sealed_at >= %(from)s and sealed_at < %(to)s"

FRAMES: Final = f"select count(*) from {MINE} and {SEALED}"  # noqa: S608 - our own words

LEDGER_ROWS: Final = f"""
    select epoch, sum(rows) from {MINE} and {SEALED} and kind = 1 group by epoch
"""  # noqa: S608 - our own words

# Every counter only grows, so its highest value before a moment is the one at that moment,
# whatever the agent's clock did in between.
TOTALS: Final = f"""
    select epoch,
        max(read) filter (where sealed_at < %(to)s)
            - coalesce(max(read) filter (where sealed_at < %(from)s), 0),
        max(derived) filter (where sealed_at < %(to)s)
            - coalesce(max(derived) filter (where sealed_at < %(from)s), 0),
        max(filtered) filter (where sealed_at < %(to)s)
            - coalesce(max(filtered) filter (where sealed_at < %(from)s), 0),
        max(discarded) filter (where sealed_at < %(to)s)
            - coalesce(max(discarded) filter (where sealed_at < %(from)s), 0)
    from {MINE} and read is not null
    group by epoch
    having bool_or({SEALED})
"""  # noqa: S608 - our own words

# Frames and compacted ranges of the agent's lanes, in order; a hole before a frame of the period
# belongs to the period.
GAPS: Final = f"""
    with known as (
        select lane_id, seq as first, seq as last, rows, rows_before, sealed_at from {MINE}
        union all
        select lane_id, seq_from, seq_to, rows, rows_before, sealed_to
        from ledger_range join lane using (lane_id) where agent_id = %(agent)s
    ),
    ordered as (
        select lane_id, first, rows_before, sealed_at,
            lag(last, 1, 0::int8) over w as before,
            lag(rows_before + rows, 1, 0::int8) over w as rows_seen
        from known window w as (partition by lane_id order by first)
    )
    select epoch, lane, before + 1, first - 1, greatest(0, rows_before - rows_seen)
    from ordered join lane using (lane_id)
    where first > before + 1 and {SEALED}
    order by epoch, lane, first
"""  # noqa: S608 - our own words

# Per lane: its floor (null: a later hello does not name it any more, so all was let go), and the
# seqs behind the last frame known, if the period reaches so far.
LANES: Final = f"""
    with mine as (
        select epoch, lane, count(*) filter (where {SEALED}) as frames,
            max(seq) as last, max(floor) as floor, max(sealed_at) as sealed_at
        from {MINE} group by epoch, lane
    ),
    everything as (
        select coalesce(m.epoch, h.epoch) as epoch, coalesce(m.lane, h.lane) as lane,
            coalesce(m.frames, 0) as frames, coalesce(m.last, 0) as last,
            m.floor, m.sealed_at, h.floor as said_floor, h.head, h.at
        from mine m full join (select * from hello where agent_id = %(agent)s) h
            on h.epoch = m.epoch and h.lane = m.lane
    )
    select e.epoch, e.lane, e.frames,
        case
            when a.epoch is distinct from e.epoch and a.hello_at > e.sealed_at
                and (e.at is null or e.at < a.hello_at) then null
            else greatest(coalesce(e.floor, 1), coalesce(e.said_floor, 1))
        end,
        e.last + 1,
        case when e.head > e.last and %(to)s > coalesce(e.sealed_at, e.at) then e.head end
    from everything e cross join (select * from agent where agent_id = %(agent)s) a
    where e.frames > 0 or (e.head > e.last and %(to)s > coalesce(e.sealed_at, e.at)
        and e.at >= %(from)s)
    order by e.epoch, e.lane
"""  # noqa: S608 - our own words

LETTERS: Final = """
    select d.epoch, d.lane, d.seq, max(case when d.kind = 1 then d.rows else 0 end)
    from dead_letter d join agent a on a.name = d.agent
    where a.agent_id = %(agent)s and d.reason in ('rejected', 'compacted') and d.seq > 0
    and not exists (
        select from ledger l join lane using (lane_id)
        where lane.agent_id = %(agent)s and lane.epoch = d.epoch and lane.lane = d.lane
        and l.seq = d.seq
    )
    group by d.epoch, d.lane, d.seq
"""

# Of what was dropped while it was under way, some was stored after all.
STRETCHES: Final = """
    select s.kind, s.epoch, s.lane, s.from_seq, s.to_seq, s.rows - coalesce((
        select sum(l.rows) from ledger l join lane using (lane_id)
        where lane.agent_id = s.agent_id and lane.epoch = s.epoch and lane.lane = s.lane
        and l.seq between s.from_seq and s.to_seq
    ), 0)
    from stretch s
    where s.agent_id = %(agent)s and s.kind in ('drop', 'release')
    and s.from_seq is not null and s.to_seq is not null
"""

OUTAGES: Final = """
    select from_time, to_time, reason from stretch
    where agent_id = %(agent)s and kind = 'outage'
    and from_time < %(to)s and to_time > %(from)s
    order by from_time
"""

# Frames of the period whose rows in the tables are not as many as the ledger says.
COUNT: Final = f"""
    with wanted as (
        select epoch, lane, seq, frame, rows, time_min, time_max
        from {MINE} and {SEALED} and kind = 1
    ),
    span as (select min(time_min) as first, max(time_max) as last from wanted),
    counted as (
        select frame, count(*) as n from sample, span
        where time between span.first and span.last group by frame
        union all
        select frame, count(*) from sample_list, span
        where time between span.first and span.last group by frame
    )
    select epoch, lane, seq, frame, rows, coalesce(sum(n), 0)::int8
    from wanted left join counted using (frame)
    group by epoch, lane, seq, frame, rows
    having rows <> coalesce(sum(n), 0)
    order by frame
"""  # noqa: S608 - our own words

# Rows of the agent's tags in the period that no frame of any ledger brought.
STRAYS: Final = """
    with stray as (
        select s.frame from sample s join tag_user u on u.tag = s.tag and u.agent_id = %(agent)s
        where s.time >= %(from)s and s.time < %(to)s
        and not exists (select from ledger l where l.frame = s.frame)
        union all
        select s.frame from sample_list s
        join tag_user u on u.tag = s.tag and u.agent_id = %(agent)s
        where s.time >= %(from)s and s.time < %(to)s
        and not exists (select from ledger l where l.frame = s.frame)
    )
    select frame, count(*) from stray group by frame order by frame
"""
