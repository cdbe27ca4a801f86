-- A lane's frames are sealed in the order of their seqs, and the proof goes through all of an agent's:
-- an index by time of sealing cost every frame an entry and spared nobody a page.
drop index ledger_lane_sealed;
