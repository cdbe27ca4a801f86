"""The questions that `verify` asks of the database, in SQL. Parameters: agent (id), from, to.

AGED and COUNT also take kept_from: samples before are not kept.
"""

from typing import Final

from cloud.admission import SEQ_BITS
from cloud.compaction import WEIGHT

# What the ledger knows of an agent: each frame, and the compacted ones by the hour of sealing, the
# beginning of which stands for when they were sealed: see WIDENED.
PIECES: Final = """
    piece as (
        select lane_id, epoch, lane, seq as first, seq as last, rows, rows_before,
            case when kind = 1 then rows else 0 end as samples, sealed_at, sealed_at as sealed_to,
            floor, read, derived, filtered, discarded, time_min
        from ledger join lane using (lane_id) where agent_id = %(agent)s
        union all
        select lane_id, epoch, lane, seq_from, seq_to, rows, rows_before, samples, hour, sealed_to,
            floor, read, derived, filtered, discarded, time_min
        from ledger_hour join lane using (lane_id) where agent_id = %(agent)s
    )
"""
SEALED: Final = "sealed_at >= %(from)s and sealed_at < %(to)s"

# A period that begins or ends within an hour of which frames are compacted is given from its
# beginning, to its end.
WIDENED: Final = """
    select min(hour) filter (where hour < %(from)s and sealed_to >= %(from)s),
        max(hour) filter (where hour < %(to)s and sealed_to >= %(to)s) + interval '1 hour'
    from ledger_hour join lane using (lane_id)
    where agent_id = %(agent)s
    and hour in (date_trunc('hour', %(from)s), date_trunc('hour', %(to)s))
"""

FRAMES: Final = f"""
    with {PIECES} select coalesce(sum(last - first + 1), 0) from piece where {SEALED}
"""  # noqa: S608 - our own words

LEDGER_ROWS: Final = f"""
    with {PIECES} select epoch, sum(samples) from piece where {SEALED} group by epoch
"""  # noqa: S608 - our own words

# Every counter only grows, so its highest value before a moment is the one at that moment,
# whatever the agent's clock did in between.
TOTALS: Final = f"""
    with {PIECES}
    select epoch,
        max(read) filter (where sealed_at < %(to)s)
            - coalesce(max(read) filter (where sealed_at < %(from)s), 0),
        max(derived) filter (where sealed_at < %(to)s)
            - coalesce(max(derived) filter (where sealed_at < %(from)s), 0),
        max(filtered) filter (where sealed_at < %(to)s)
            - coalesce(max(filtered) filter (where sealed_at < %(from)s), 0),
        max(discarded) filter (where sealed_at < %(to)s)
            - coalesce(max(discarded) filter (where sealed_at < %(from)s), 0)
    from piece where read is not null
    group by epoch
    having bool_or({SEALED})
"""  # noqa: S608 - our own words

# A hole before a frame of the period belongs to the period.
GAPS: Final = f"""
    with {PIECES},
    ordered as (
        select epoch, lane, first, rows_before, sealed_at,
            coalesce(max(last) over w, 0) as before,
            coalesce(max(rows_before + rows) over w, 0) as rows_seen
        from piece window w as (
            partition by lane_id order by first
            rows between unbounded preceding and 1 preceding
        )
    )
    select epoch, lane, before + 1, first - 1, greatest(0, rows_before - rows_seen)
    from ordered
    where first > before + 1 and {SEALED}
    order by epoch, lane, first
"""  # noqa: S608 - our own words

# Per lane: its floor (null: a later hello does not name it any more, so all was let go), and the
# seqs behind the last frame known, if the period reaches so far.
LANES: Final = f"""
    with {PIECES},
    mine as (
        select epoch, lane,
            coalesce(sum(last - first + 1) filter (where {SEALED}), 0)::int8 as frames,
            max(last) as last, max(floor) as floor, max(sealed_to) as sealed_at
        from piece group by epoch, lane
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
    left join lane l on l.agent_id = a.agent_id and l.epoch = d.epoch and l.lane = d.lane
    where a.agent_id = %(agent)s and d.reason in ('rejected', 'compacted') and d.seq > 0
    and not exists (select from ledger g where g.lane_id = l.lane_id and g.seq = d.seq)
    and not exists (
        select from ledger_range r
        where r.lane_id = l.lane_id and d.seq between r.seq_from and r.seq_to
    )
    group by d.epoch, d.lane, d.seq
"""

STRETCHES: Final = """
    select kind, epoch, lane, from_seq, to_seq, rows from stretch
    where agent_id = %(agent)s and kind in ('drop', 'release')
    and from_seq is not null and to_seq is not null
"""

OUTAGES: Final = """
    select from_time, to_time, reason from stretch
    where agent_id = %(agent)s and kind = 'outage'
    and from_time < %(to)s and to_time > %(from)s
    order by from_time
"""

# Where LANES takes lanes that a hello does not name as let go, here nobody was left to name them.
LOST_SPOOLS: Final = """
    select epoch, lost_after, first_hello_at from epoch
    where agent_id = %(agent)s and lost_after < %(to)s
    and greatest(first_hello_at, lost_after) > %(from)s
    order by lost_after
"""

# As the agent heard it; of the epochs that said hello in the period.
SINGLE_COPY: Final = """
    select coalesce(sum(single_copy), 0) from epoch
    where agent_id = %(agent)s and first_hello_at < %(to)s and last_hello_at >= %(from)s
"""

# Samples of frames that have a row older than what is kept: nobody can tell what is lacking.
AGED: Final = f"""
    with {PIECES} select coalesce(sum(samples), 0) from piece
    where {SEALED} and time_min < %(kept_from)s
"""  # noqa: S608 - our own words
YOUNG: Final = "(time_min < %(kept_from)s) is not true"

# Frames of the period whose rows in the tables are not as many as the ledger says: one by one, and
# the compacted ones by the hour. There the weights tell whether the rows are each frame's own.
# What is in AGED is not in here.
COUNT: Final = f"""
    with wanted as (
        select lane_id, epoch, lane, seq as first, seq as last, frame, rows as samples,
            rows * {WEIGHT.format("seq")} as weighed, time_min, time_max
        from ledger join lane using (lane_id)
        where agent_id = %(agent)s and {SEALED} and kind = 1 and {YOUNG}
        union all
        select lane_id, epoch, lane, seq_from, seq_to, null, samples, weighed, time_min, time_max
        from (select *, hour as sealed_at from ledger_hour) h join lane using (lane_id)
        where agent_id = %(agent)s and {SEALED} and samples > 0 and {YOUNG}
    ),
    span as (select min(time_min) as first, max(time_max) as last from wanted),
    mine as (select tag from tag_user where agent_id = %(agent)s),
    counted as (
        select frame, count(*) as n from sample join mine using (tag), span
        where time between span.first and span.last group by frame
        union all
        select frame, count(*) from sample_list join mine using (tag), span
        where time between span.first and span.last group by frame
    ),
    placed as (
        select frame, frame >> {SEQ_BITS} as lane_id, frame & {(1 << SEQ_BITS) - 1} as seq, n
        from counted
    ),
    found as (
        select w.lane_id, w.first, p.n, p.n * {WEIGHT.format("w.first")} as weighed
        from wanted w join placed p using (frame)
        union all
        select h.lane_id, h.seq_from, p.n, p.n * {WEIGHT.format("p.seq")}
        from placed p join lane l on l.lane_id = p.lane_id and l.agent_id = %(agent)s
        cross join lateral (
            select lane_id, seq_from, seq_to from ledger_hour h
            where h.lane_id = p.lane_id and h.seq_from <= p.seq
            order by h.seq_from desc limit 1
        ) h
        where h.seq_to >= p.seq
    )
    select epoch, lane, first, last, frame, samples, coalesce(sum(n), 0)::int8
    from wanted left join found using (lane_id, first)
    group by epoch, lane, first, last, frame, samples, wanted.weighed
    having samples <> coalesce(sum(n), 0) or wanted.weighed <> coalesce(sum(found.weighed), 0)
    order by epoch, lane, first
"""  # noqa: S608 - our own words

# Rows of the agent's tags in the period that no frame of any ledger brought.
STRAYS: Final = f"""
    with brought as (
        select s.frame, count(*) as n
        from sample s join tag_user u on u.tag = s.tag and u.agent_id = %(agent)s
        where s.time >= %(from)s and s.time < %(to)s group by s.frame
        union all
        select s.frame, count(*)
        from sample_list s join tag_user u on u.tag = s.tag and u.agent_id = %(agent)s
        where s.time >= %(from)s and s.time < %(to)s group by s.frame
    ),
    placed as (
        select frame, frame >> {SEQ_BITS} as lane_id, frame & {(1 << SEQ_BITS) - 1} as seq,
            sum(n) as n
        from brought group by frame
    )
    select frame, n::int8 from placed p
    where not exists (select from ledger l where l.lane_id = p.lane_id and l.seq = p.seq)
    and not exists (
        select from ledger l where l.frame = p.frame and l.frame < {1 << SEQ_BITS}
    )
    and not exists (
        select from ledger_range r
        where r.lane_id = p.lane_id and p.seq between r.seq_from and r.seq_to
    )
    order by frame
"""  # noqa: S608 - our own words
