// The events that the product logs. An event is public: people search for it and monitoring counts
// it, so a name never changes its meaning. What differs from one time to the next stands in fields,
// never in the name.

export const LOG_EVENTS = {
  'run.started': 'A command or service began its work.',
  'run.ended': 'It ended; the exit code is a field.',
  'run.failed': 'It ended with an error.',
  'run.core-dumps-on': 'Core dumps could not be switched off; one of this process would hold keys.',
  'hypervisor.call': 'An operation was run by the PowerShell host; name and verdict are fields.',
  'hypervisor.host-started': 'A PowerShell host takes operations.',
  'hypervisor.host-lost':
    'A PowerShell host hung, died or spoke nonsense; the next operation gets a new one.',
  'hypervisor.host-said': 'A PowerShell host wrote to its error output, which is for people only.',
  'vhdx.log-replayed': 'The log of a VHDX was dirty and was replayed.',
  'vhdx.merge-resumed': 'A merge that had been interrupted goes on.',
  'delta.apply-resumed': 'An apply that had been interrupted goes on.',
  'cycle.started': 'A cycle of one VM began.',
  'cycle.planned': 'What the cycle transfers, disk by disk, and why.',
  'cycle.resumed': 'A broken stream goes on from the durable positions.',
  'cycle.committed': 'The receiver has listed the point of a cycle.',
  'cycle.failed': 'A cycle ended without a point; what it carried stays owed to the receiver.',
  'cycle.warning': 'A cycle was done with a warning.',
  'job.ended': 'A job with abort_on_error=yes ended at its first failure; other jobs go on.',
  'rpo.out-of-reach': 'At the pace of the cycles that were measured the RPO cannot hold.',
  'config.applied': 'A daemon took over what its configuration says now.',
  'config.refused': 'A configuration cannot be used; the former one stays in force.',
  'checkpoint.leftover-removed':
    'A checkpoint or reference point that a killed run left was removed.',
  'ledger.set-aside': 'The record of changed cells could not be used; the next cycle compares.',
  'attach.began': 'An agent of a primary site is attached: orders can reach its VMs.',
  'attach.ended': 'It is not attached any more; it comes again by itself.',
  'attach.failed': 'An agent could not attach to a receiver; it is tried again.',
  'order.done': 'What the DR site asked for was done at the primary site.',
  'order.failed': 'What the DR site asked for was refused or failed at the primary site.',
  'epoch.told': 'The source knows from now on which site is active.',
  'fence.set': 'A VM that serves at the other site cannot be started here any more.',
  'fence.lifted': 'A VM may be started here again.',
  'failback.ended-here':
    'A failback was ended at the primary site: the VM stays on the disks that it has, or on its former ones.',
  'failback.forced':
    'Somebody at the primary site ended a failback by force, for the reason that is named.',
  'fence.forced':
    'Somebody at the primary site lifted a fence by force, for the reason that is named.',
  'fence.kept':
    'The primary site is active again, and a fence that is not to be lifted by that stands.',
  'fence.missing': 'A VM runs here although the other site is active: people have to decide.',
  'receiver.listening': 'A receiver takes calls; address and store are fields.',
  'receiver.stopped': 'A receiver has ended at a safe point.',
  'protection.began': 'A VM was opened for the first time, and belongs to a principal from now on.',
  'protection.forgotten': 'An operator gave a protection up; its files in the store go.',
  'protection.halted': 'Nothing of a VM is changed any more until somebody has looked.',
  'cycle.opened': 'A source opened a cycle, or was told why not.',
  'seed.began': 'An operator has the cells of a VM staged, for its first cycle to be smaller.',
  'seed.staged': 'They are staged; the first cycle compares them.',
  'point.committed': 'A restore point was listed.',
  'scrub.finding':
    'Bytes in the store are not those of their manifest; disk and offset are fields.',
  'scrub.failed': 'A VM could not be scrubbed; it is tried again later.',
  'scrub.round-ended': 'Every byte of a VM was read back once more.',
  'repair.taken': 'A source sent cells that had rotted here; how many were mended is a field.',
  'failover.began': 'An operation of the failover state machine began; who asked is a field.',
  'failover.resumed': 'One that a former process had begun goes on.',
  'failover.step-failed': 'A step of it failed; what becomes of it is a field.',
  'failover.given-up': 'One was given up before this site had become the active one.',
  'failover.ended': 'One came to its end.',
  'failover.split-brain': 'A source was seen running while this site is the active one.',
  'failover.retired-runs':
    'A source whose failover is permanent was seen running beside the VM that replaced it.',
  'failover.orphan':
    'A split brain was decided for the VM here; what the primary wrote is on its fenced disks only.',
  'failover.source-not-told':
    'The source could not be told something; it is told at its next contact.',
  'failback.runs-beside':
    'A VM that has gone home was seen running here too: people have to decide whose data count.',
  'failback.compare-due':
    'A failback became permanent though its point may not be what the primary started with; the next cycle compares.',
  'drill.began': 'A test session of a VM began.',
  'drill.ended': 'A test session ended, or was left running.',
  'drill.adopted': 'The VM of a test was given to its owner, and is no test any more.',
  'drill.cleanup-failed': 'VM or disks of a test could not be taken away; it is tried again.',
  'drill.left-behind':
    'A test was ended by force; its VM may still run, and its base is held until gc finds it gone.',
  'alarm.raised':
    'Data of a VM look as if they were being encrypted; the last clean point is a field.',
  'alarm.cleared': 'An operator said that an alarm is over.',
  'point.removed': 'An operator removed a point by hand.',
  'point.forgotten': 'Points are not listed any more, because of their age.',
  'store.description-mended':
    'A file that says which store this is was missing or damaged, and made anew from its copy.',
  'store.reclaimed': 'Deltas were merged or folded into their base, or a base was given up.',
  'store.reclaim-failed': 'Space could not be reclaimed; it is tried again after a pause.',
  'store.reclaim-stopped': 'A bug of ours: nothing is reclaimed until the receiver starts again.',
  'channel.key-in-clear': 'A parameter holds a key or passphrase in clear.',
  'channel.keys-unreadable': 'Key files could not be read again; those keys are not accepted.',
  'channel.connection-refused': 'A connection was refused or cut before it was authenticated.',
  'channel.handshake-refused': 'A handshake was refused; the reason stands here and nowhere else.',
  'channel.session-opened': 'A peer proved that it has a key.',
  'channel.session-ended': 'A session ended; the reason is a field.',
  'channel.call-failed': 'A handler met an error that is no DrError: a bug of ours.',
} as const satisfies Record<string, string>;

export type LogEvent = keyof typeof LOG_EVENTS;
