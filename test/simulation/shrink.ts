// Leaves out steps of a run that fails, as long as it goes on to fail in the same way.

import { planOf, type PlannedStep, run, type RunResult } from './run.js';

/** The kind of a failure: its message without names and numbers. */
function kindOf(message: string): string {
  return message
    .replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, '')
    .replace(/[0-9]+/g, '')
    .slice(0, 60);
}

/** The steps that are needed; undefined when the run does not fail. */
export async function shrink(
  seed: number,
  steps: readonly PlannedStep[] = planOf(seed),
  onProgress: (left: readonly PlannedStep[]) => void = () => undefined,
): Promise<readonly PlannedStep[] | undefined> {
  const whole = await run({ seed, steps });
  if (whole.failure === undefined) return undefined;
  const wanted = kindOf(whole.failure.message);
  const isSame = ({ failure }: RunResult): boolean =>
    failure !== undefined && kindOf(failure.message) === wanted;
  let left = steps.slice(0, whole.failure.step + 1);
  for (let part = Math.ceil(left.length / 2); part >= 1; part = Math.floor(part / 2)) {
    for (let at = 0; at < left.length;) {
      const fewer = [...left.slice(0, at), ...left.slice(at + part)];
      if (isSame(await run({ seed, steps: fewer }))) {
        left = fewer;
        onProgress(left);
      } else {
        at += part;
      }
    }
  }
  return left;
}
