"""The bugs that the state machine must find: one phrase each, in the rules or in a store."""

from __future__ import annotations

from typing import Final

from tests.machine.planting import Bug

RULES: Final = (
    Bug("a lease holds at its end", "oppscan.ttl:held", "now < head.due_at", "now <= head.due_at"),
    Bug("stalled too late", "oppscan.ttl:stalled", "now >= head.due_at", "now > head.due_at"),
    Bug(
        "alive when it expires",
        "oppscan.sightings:_read",
        "now >= ttl.expires_at(head)",
        "now > ttl.expires_at(head)",
    ),
    Bug(
        "known when the margin is over",
        "oppscan.sightings:_read",
        "now >= ttl.forgotten_at(head)",
        "now > ttl.forgotten_at(head)",
    ),
    Bug(
        "no time to be claimed",
        "oppscan.lifecycle:new_head",
        "after(durations.claim_within)",
        "NOW",
    ),
    Bug(
        "a holder may write when its scan expires",
        "oppscan.backends.reference:_head_is",
        "> space.now",
        ">= space.now",
    ),
    Bug(
        "no fence",
        "oppscan.backends.reference:_head_is",
        "value[0] == guard.version",
        "True",
    ),
    Bug(
        "the chain is ignored",
        "oppscan.holding:Holding._applied_before",
        "found.chain != seen.head.chain or found.token != seen.head.token or not found.live",
        "not found.live",
    ),
    Bug(
        "a lost reply counts as a refusal",
        "oppscan.holding:Holding._applied_before",
        "if operation in self._unsure:",
        "if not operation:",
    ),
    Bug("equal scans are not joined", "oppscan.lifecycle:joinable", "if head.live:", "if False:"),
    Bug(
        "cancelled scans are joined",
        "oppscan.lifecycle:joinable",
        "or head.cancel_requested ",
        "",
    ),
    Bug(
        "fresh for too short a time",
        "oppscan.lifecycle:joinable",
        "now - done <= ttl.to_ms(reuse.fresh_for)",
        "now - done < ttl.to_ms(reuse.fresh_for)",
    ),
    Bug(
        "a lookup dies with what it leads to",
        "oppscan.writes:_enter",
        "life + head.durations.margin",
        "life",
    ),
    Bug(
        "extending shortens",
        "oppscan.lifecycle:extend",
        "settle(until, scan.now) <= ttl.expires_at(scan.head)",
        "False",
    ),
    Bug(
        "a release is held against a scan",
        "oppscan.lifecycle:release",
        'chain=""',
        "chain=head.chain",
    ),
    Bug(
        "one attempt too many",
        "oppscan.lifecycle:claim",
        "strikes >= limits.max_attempts",
        "strikes > limits.max_attempts",
    ),
    Bug(
        "progress does not reset the attempts",
        "oppscan.lifecycle:strikes_of",
        "if head.productive:",
        "if False:",
    ),
    Bug("outcomes are not final", "oppscan.drafting:Draft._open", "has_outcome(event)", "False"),
    Bug(
        "what ran counts as skipped",
        "oppscan.lifecycle:_missing",
        "OutcomeState.SKIPPED if event is None else OutcomeState.FAILED",
        "OutcomeState.SKIPPED",
    ),
    Bug(
        "a heartbeat is a change",
        "oppscan.lifecycle:beat",
        "chain=operation,",
        "chain=operation, revision=head.revision + 1,",
    ),
    Bug(
        "a dead holder's cancellation is left alone",
        "oppscan.changing:_join",
        "found.scan.head.live and found.scan.head.cancel_requested",
        "False",
    ),
    Bug(
        "who resumes takes what he wrote for all there is",
        "oppscan.holding:Holding.__init__",
        "() if scan.head.data == 0 else None",
        "()",
    ),
    Bug(
        "forgetting leaves the record",
        "oppscan.backends.reference:_erase",
        "space.drop_head(change.scan_id)",
        "pass",
    ),
    Bug(
        "the last payload's progress may go back",
        "oppscan.progress:read_payload",
        "max(min(completed, total), before.completed)",
        "min(completed, total)",
    ),
)

STORES: Final = (
    Bug(
        "newest last", "oppscan.backends.sqlite:_View.scan", "'DESC' if reverse", "'ASC' if reverse"
    ),
    Bug("pages overlap", "oppscan.backends.sqlite:_View.scan", 'key < ? "', 'key <= ? "'),
    Bug(
        "rows outlive a purge too little",
        "oppscan.backends.memory:_View.overdue",
        "and row.until <= self.now",
        "",
    ),
    Bug(
        "deleted rows are still listed",
        "oppscan.backends.memory:_Folder.delete",
        "if row is not None and self.names is not None:",
        "if False:",
    ),
)
