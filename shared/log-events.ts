// The events that the product logs. An event is public: people search for it and monitoring counts
// it, so a name never changes its meaning. What differs from one time to the next stands in fields,
// never in the name.

export const LOG_EVENTS = {
  'run.started': 'A command or service began its work.',
  'run.ended': 'It ended; the exit code is a field.',
  'run.failed': 'It ended with an error.',
  'run.core-dumps-on': 'Core dumps could not be switched off; one of this process would hold keys.',
  'vhdx.log-replayed': 'The log of a VHDX was dirty and was replayed.',
  'vhdx.merge-resumed': 'A merge that had been interrupted goes on.',
  'delta.apply-resumed': 'An apply that had been interrupted goes on.',
  'cycle.started': 'A cycle of one VM began.',
  'cycle.planned': 'What the cycle transfers, disk by disk, and why.',
  'cycle.resumed': 'A broken stream goes on from the durable positions.',
  'cycle.committed': 'The receiver has listed the point of a cycle.',
  'cycle.failed': 'A cycle ended without a point; what it carried stays owed to the receiver.',
  'cycle.warning': 'A cycle was done with a warning.',
  'checkpoint.leftover-removed':
    'A checkpoint or reference point that a killed run left was removed.',
  'ledger.set-aside': 'The record of changed cells could not be used; the next cycle compares.',
  'receiver.listening': 'A receiver takes calls; address and store are fields.',
  'receiver.stopped': 'A receiver has ended at a safe point.',
  'protection.began': 'A VM was opened for the first time, and belongs to a principal from now on.',
  'protection.halted': 'Nothing of a VM is changed any more until somebody has looked.',
  'cycle.opened': 'A source opened a cycle, or was told why not.',
  'point.committed': 'A restore point was listed.',
  'scrub.finding':
    'Bytes in the store are not those of their manifest; disk and offset are fields.',
  'scrub.failed': 'A VM could not be scrubbed; it is tried again later.',
  'scrub.round-ended': 'Every byte of a VM was read back once more.',
  'repair.taken': 'A source sent cells that had rotted here; how many were mended is a field.',
  'channel.key-in-clear': 'A parameter holds a key or passphrase in clear.',
  'channel.keys-unreadable': 'Key files could not be read again; those keys are not accepted.',
  'channel.connection-refused': 'A connection was refused or cut before it was authenticated.',
  'channel.handshake-refused': 'A handshake was refused; the reason stands here and nowhere else.',
  'channel.session-opened': 'A peer proved that it has a key.',
  'channel.session-ended': 'A session ended; the reason is a field.',
  'channel.call-failed': 'A handler met an error that is no DrError: a bug of ours.',
} as const satisfies Record<string, string>;

export type LogEvent = keyof typeof LOG_EVENTS;
