// `hvdr points`: the restore points of a VM; pins, unpins and removes one, clears an alarm.

import type { Command } from 'commander';
import { guidFromWire } from '../shared/bytes/index.js';
import type { Alarm, RestorePoint } from '../shared/channel/index.js';
import { defined } from '../shared/assert.js';
import { DrError } from '../shared/errors.js';
import type { CliContext } from './context.js';
import type { JsonObject } from '../shared/json.js';
import { type AccessFlags, withAccess, withAccessOptions } from './receiver-connection.js';
import { formatSize } from '../shared/sizes.js';
import { allPages } from '../shared/operator/receiver-access.js';

interface Flags extends AccessFlags {
  readonly pin?: string;
  readonly unpin?: string;
  readonly clearAlarm?: string;
  readonly remove?: string;
  readonly plan?: true;
  readonly yes?: true;
}

export function registerPoints(program: Command, context: CliContext): void {
  withAccessOptions(
    program
      .command('points')
      .summary('list the restore points of a VM; pin, unpin or remove one; clear an alarm')
      .description(
        'Lists the restore points of a VM, the oldest first, with the reason why each is kept. A pinned\n' +
          'point is kept until it is unpinned. An id may be cut short as long as it is unique. Points that\n' +
          'came after an alarm of the early warning are doubtful until the alarm is cleared. A final point is\n' +
          'the last of a planned failover: nothing was written at the primary after it.\n\n' +
          'A point that is removed cannot be brought back; its space is given back in the background, or by\n' +
          '`hvdr compact`. Not removed are a pinned point, one that a failover or a test uses, the newest, the\n' +
          'last verified, the last clean one, and the first of each of the last seven days.',
      )
      .argument('<vm>', 'name or id of the VM')
      .option('--pin <id>', 'keep this point')
      .option('--unpin <id>', 'leave this point to retention again')
      .option('--clear-alarm <id>', 'the alarm that this point raised is over, or was none')
      .option('--remove <id>', 'forget this point for good; wants --yes')
      .option('--plan', 'with --remove: say what would go, and change nothing')
      .option('--yes', 'with --remove: confirm it'),
  )
    .addHelpText(
      'after',
      '\nExamples:\n  hvdr points SQL01 --store /srv/dr --pin 1f3a\n' +
        '  hvdr points SQL01 --remove 1f3a --plan --dr-host dr1 --psk-file operator.psk\n',
    )
    .action((vm: string, flags: Flags) => points(context, vm, flags));
}

export function pointDocument(point: RestorePoint): JsonObject {
  const time = (ms: bigint): string | null =>
    ms === 0n ? null : new Date(Number(ms)).toISOString();
  return {
    id: guidFromWire(point.pointId) ?? '',
    createdAt: time(point.committedAtMs),
    consistentAt: time(point.consistentAtMs),
    kind: point.kind,
    consistency: point.isApplicationConsistent ? 'application' : 'crash',
    pinned: point.isPinned,
    keptBecause: point.keptBecause,
    final: point.isFinal,
    doubtful: point.isDoubtful,
    alarm: point.hasRaisedAlarm,
    verifiedAt: time(point.verifiedAtMs),
    damaged: point.isDamaged,
    damage: point.damage === '' ? null : point.damage,
    parent: point.parentPointId.length === 0 ? null : (guidFromWire(point.parentPointId) ?? null),
    disks: point.disks.map(({ geometry, isBase, storedBytes }) => ({
      id: guidFromWire(geometry?.diskId ?? Buffer.alloc(0)) ?? '',
      generation: geometry?.generation ?? 0,
      sizeBytes: Number(geometry?.sizeBytes ?? 0n),
      storedBytes: Number(storedBytes),
      isBase,
    })),
  };
}

async function points(context: CliContext, vm: string, flags: Flags): Promise<void> {
  const { pin, unpin, clearAlarm, remove } = flags;
  if ([pin, unpin, clearAlarm, remove].filter((flag) => flag !== undefined).length > 1) {
    throw new DrError(
      'E_USAGE',
      'a point is pinned, or unpinned, or removed, or its alarm cleared',
    );
  }
  if (remove !== undefined) return removePoint(context, vm, remove, flags);
  if ((flags.plan ?? flags.yes) === true) {
    throw new DrError('E_USAGE', '--plan and --yes belong to --remove');
  }
  const changed = pin ?? unpin;
  const use = (changed ?? clearAlarm) === undefined ? 'read' : 'write';
  const answer = await withAccess(context, flags, use, async ({ control }) => {
    if (changed !== undefined) {
      await control.pinPoint({ vm, point: changed, isPinned: pin !== undefined });
    }
    if (clearAlarm !== undefined) {
      const { cleared } = await control.clearAlarm({ vm, alarm: clearAlarm });
      context.output.note(clearedNote(cleared));
    }
    const { page, items } = await allPages(
      control.pointPages({ vm }),
      (response) => response.page,
      ({ points: some }) => some,
    );
    return { ...page, points: items };
  });
  context.output.result(
    {
      vm: answer.vmName,
      vmId: guidFromWire(answer.vmId) ?? '',
      points: answer.points.map(pointDocument),
    },
    () => {
      if (answer.points.length === 0) return `${answer.vmName} has no restore point yet`;
      return answer.points.map(pointLine).join('\n');
    },
  );
}

/** What would go is looked at first, so that a refusal comes before the question whether it is meant. */
async function removePoint(
  context: CliContext,
  vm: string,
  wanted: string,
  flags: Flags,
): Promise<void> {
  const { output } = context;
  const use = flags.plan === true ? 'read' : 'write';
  await withAccess(context, flags, use, async ({ control }) => {
    const planned = await control.removePoint({ vm, point: wanted, isPlan: true });
    const gone = defined(planned.point, 'the answer names the point');
    const point = guidFromWire(gone.pointId) ?? '';
    if (flags.plan !== true && flags.yes !== true) {
      throw new DrError('E_CONFIRM', `point ${point} of ${vm} would be gone for good`, {
        done: 'no point was removed',
        hint: 'Look at it with --plan, then confirm with --yes.',
      });
    }
    const isRemoved = flags.plan !== true;
    const { leftCount } = isRemoved
      ? await control.removePoint({ vm, point, isPlan: false })
      : planned;
    output.result(
      { vm, removed: isRemoved, point: pointDocument(gone), pointsLeft: leftCount },
      () => {
        const what = isRemoved ? 'is removed' : 'would be removed';
        return `${pointLine(gone)}\n${what}; ${leftCount} points stay`;
      },
    );
  });
}

/** What is left to do: the pin that came with the alarm stays. */
function clearedNote(alarm: Alarm | undefined): string {
  const clean = guidFromWire(alarm?.cleanPointId ?? Buffer.alloc(0));
  return clean === undefined
    ? 'the alarm is cleared'
    : `the alarm is cleared; if it pinned point ${clean}, that stays so until --unpin`;
}

function pointLine(point: RestorePoint): string {
  const id = guidFromWire(point.pointId) ?? '';
  const bytes = point.disks.reduce((sum, disk) => sum + Number(disk.storedBytes), 0);
  const notes = [
    point.isApplicationConsistent ? 'app-consistent' : 'crash-consistent',
    ...(point.isDamaged ? [`DAMAGED (${point.damage})`] : []),
    ...(point.hasRaisedAlarm ? ['ALARM'] : point.isDoubtful ? ['doubtful'] : []),
    ...(point.isFinal ? ['final'] : []),
    ...(point.isPinned && !point.keptBecause.startsWith('pinned') ? ['pinned'] : []),
    ...(point.keptBecause === '' ? [] : [point.keptBecause]),
    ...(point.verifiedAtMs === 0n ? [] : ['verified']),
  ];
  const time = new Date(Number(point.committedAtMs)).toISOString();
  const disks = point.disks.length === 1 ? '1 disk' : `${point.disks.length} disks`;
  return `${id}  ${time}  ${point.kind}  ${formatSize(bytes)}, ${disks}, ${notes.join(', ')}`;
}
