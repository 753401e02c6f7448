// Many VMs under one daemon: whether each keeps its RPO, and what that costs. The limit is the interval
// itself: the newest point is at best between nothing and one interval old.

import { defined } from '../../shared/assert.js';
import { type Bench, GIB, MIB } from '../bench.js';
import { CELL_BYTES } from '../data.js';
import { Fleet, type FleetSight } from '../fleet.js';
import type { Act } from '../measure.js';
import { percentile } from '../statistics.js';

const VM_COUNT = 50;
const DISK_BYTES = 256 * MIB;
const CHURN = 0.01;
const INTERVAL_SECONDS = 30;
const RPO_SECONDS = 60;
const DURATION_SECONDS = 600;
const QUICK_SECONDS = 60;
const OURS = `hvdr daemon, ${VM_COUNT} VMs: 99 % of the ages`;

export const manyVms: Bench = {
  name: 'many-vms',
  question:
    `${VM_COUNT} VMs change 1 % of their disks every ${INTERVAL_SECONDS} s and are replicated as often, ` +
    'for ten minutes: how old their newest points get.',
  spaceBytes: 12 * GIB,
  programs: [],
  rounds: 1,
  async prepare(context) {
    const changedCells = Math.floor((DISK_BYTES * CHURN) / CELL_BYTES);
    const durationSeconds = context.isQuick ? QUICK_SECONDS : DURATION_SECONDS;
    const fleet = new Fleet(context, {
      vmCount: VM_COUNT,
      diskBytes: DISK_BYTES,
      changedCells,
      intervalSeconds: INTERVAL_SECONDS,
      rpoSeconds: RPO_SECONDS,
    });
    let sight: FleetSight | undefined;
    const seen = (): FleetSight => defined(sight, 'the fleet was watched');
    const watch: Act = {
      act: 'guests write, the daemon pushes',
      async run() {
        sight = await fleet.watch(durationSeconds);
        return percentile(sight.agesSeconds, 0.99);
      },
    };
    await fleet.make();
    return {
      settings: {
        VMs: VM_COUNT,
        'disk MiB': DISK_BYTES / MIB,
        changed: `${changedCells} cells of 64 KiB each, every ${INTERVAL_SECONDS} s`,
        seconds: durationSeconds,
      },
      contenders: [
        {
          name: OURS,
          role: 'ours',
          payloadBytes: 0,
          serve: (services) => fleet.serve(services),
          commands: () => [watch],
          verify: () => fleet.expectSoundPoints(),
        },
      ],
      goals: [
        {
          text: 'age of the newest point, 99 % of all looks',
          unit: 's',
          bound: 'at most',
          value: RPO_SECONDS,
          figure: (medianOf) => medianOf(OURS).wallSeconds,
        },
        {
          text: 'cycles that failed or were left out',
          unit: 'cycles',
          bound: 'at most',
          value: 0,
          figure: () => seen().failedCount + seen().missedCount,
        },
        {
          text: 'CPU time of daemon and receiver together',
          unit: 'cores',
          bound: 'at most',
          value: 1,
          figure: (medianOf) =>
            (medianOf(OURS).services?.cpuSeconds ?? Number.NaN) / durationSeconds,
        },
      ],
    };
  },
};
