// What happens to a failback: it is brought level, switched, broken off and gone on with, and the user has
// checkpoints of the VM that serves at the DR site.

import fc from 'fast-check';
import { type Act, act, serves, type World } from './failover-life.js';
import type { FailoverModel, ReturnTrouble } from './failover-model.js';
import { PAIR_VM } from './failover-pair.js';

const CHECKPOINTS_MAX = 2;

async function bringHome(
  { pair }: World,
  isSyncOnly: boolean,
  trouble: ReturnTrouble,
): Promise<unknown> {
  const { source, vmId } = pair;
  pair.isLastRoundBroken = trouble === 'last round breaks';
  if (trouble === 'primary does not boot') await source.setFault('boot-fails', undefined, vmId);
  try {
    return await pair.operate('failback', isSyncOnly ? { stage: 'sync' } : {});
  } finally {
    pair.isLastRoundBroken = false;
    await source.clearFault('boot-fails', vmId);
  }
}

const aFailback: fc.Arbitrary<Act> = fc
  .tuple(
    fc.boolean(),
    fc.constantFrom<ReturnTrouble>('none', 'none', 'last round breaks', 'primary does not boot'),
  )
  .map(([isSyncOnly, trouble]) =>
    act(
      `failback${isSyncOnly ? ', stage=sync' : ''}${trouble === 'none' ? '' : `, ${trouble}`}`,
      (model) => model.failback(isSyncOnly, trouble),
      (world) => bringHome(world, isSyncOnly, trouble),
    ),
  );

const commit = act(
  'permanent of a failback',
  (model) => model.permanent(),
  ({ pair }) => pair.operate('permanent'),
  ({ state }) => state === 'FAILED_BACK',
);

const aCheckpoint: fc.Arbitrary<Act> = fc.boolean().map((isMade) =>
  act(
    `the user ${isMade ? 'makes' : 'removes'} a checkpoint at the DR site`,
    () => undefined,
    async ({ pair: { target } }) => {
      const { id, userCheckpoints } = await target.findVm(PAIR_VM);
      const [oldest] = userCheckpoints;
      if (!isMade && oldest !== undefined) await target.removeUserCheckpoint(id, oldest.id);
      if (isMade && userCheckpoints.length < CHECKPOINTS_MAX) await target.addUserCheckpoint(id);
    },
    (model: Readonly<FailoverModel>) => serves(model) && model.state !== 'COMMITTED',
  ),
);

/** One more thing that happens on the way home. */
export const aReturn: fc.Arbitrary<Act> = fc.oneof(
  { weight: 6, arbitrary: aFailback },
  { weight: 3, arbitrary: fc.constant(commit) },
  { weight: 2, arbitrary: aCheckpoint },
);
