// The end of a run that tests: its clones go. A crash repeats it; a clone that has gone is no error.

import { forEachAtOnce } from './check.js';
import type { ActionSeams } from './actions.js';
import type { RunState } from './run-state.js';
import type { Task } from './tasks.js';

type Seams = Pick<ActionSeams, 'commands'> & { readonly signal: AbortSignal };

/** Takes the clones of all tasks away, the last ones first. False when one may still be there. */
export async function stopTests(state: RunState, seams: Seams): Promise<boolean> {
  let isClean = true;
  await forEachAtOnce([...state.tasks].reverse(), state.plan.concurrency, async (task) => {
    try {
      await stopTest(task, state, seams);
      if (state.of(task).isKept === true) state.put(task, { isKept: false });
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      state.put(task, { words: `its clone could not be removed: ${why}` });
      isClean = false;
    }
  });
  return isClean;
}

/** Takes the clone away that a task made, if it is a task of a test and the clone is still there. */
export async function stopTest(
  task: Task,
  state: RunState,
  { commands, signal }: Seams,
): Promise<void> {
  const { action } = task.step;
  const { operationId } = state.of(task);
  if (state.record.kind !== 'test' || action.kind !== 'vm' || operationId === undefined) return;
  if (!(await commands.look(action.vm)).testOperationIds.includes(operationId)) return;
  await commands.run({
    ...{ vm: action.vm, command: 'test', parameters: { stop: operationId }, signal },
    ...{ confirmedHash: undefined, onStep: () => undefined },
  });
}
