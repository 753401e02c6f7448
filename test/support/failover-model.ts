// What failovers of one VM come to, as a model that has no disks and no journal: the state by name, who runs,
// what is fenced, and the code of each refusal. Refusals of a state are those of the table; the
// preconditions are the model's own.

import { ZERO_GUID } from '../../shared/bytes/index.js';
import type { ErrorCode } from '../../shared/errors.js';
import { answerTo, rowOf } from '../../dr-receiver/failover/machine.js';
import type { Command, OperationKind, StateName } from '../../dr-receiver/failover/model.js';

export type ModelState = 'ordinary' | 'FAILING_OVER' | 'FAILED_OVER' | 'COMMITTED' | 'SPLIT_BRAIN';

/** A failure to power on is the only one that the model brings about behind P6 and U2. */
const STANDS_AT = { planned: 'P8', unplanned: 'U6' } as const;

export interface UnplannedWish {
  readonly isFencing: boolean;
  readonly hasPoint: boolean;
}

/** How a command ends: the code of its error, if it has one. */
export type Outcome = ErrorCode | undefined;

export class FailoverModel {
  state: ModelState = 'ordinary';
  standing: 'planned' | 'unplanned' | undefined;
  isCompareDue = false;
  isPaused = false;
  isAttached = true;
  isBootFailing = false;
  isSourceRunning = true;
  /** We stopped the VM at the primary, and it has not been started again. */
  isStoppedByUs = false;
  /** Tests that were kept. */
  tests: string[] = [];

  get stateName(): StateName {
    if (this.state !== 'ordinary') return this.state;
    return this.isCompareDue ? 'RESYNC' : 'PROTECTED';
  }

  /** The source is there, and its VM runs. */
  get isSeenRunning(): boolean {
    return this.isAttached && this.isSourceRunning;
  }

  /** What the table refuses the command with now. */
  refusalOf(command: Command): Outcome {
    const { standing } = this;
    const operation =
      standing === undefined
        ? undefined
        : { ...NO_OPERATION, kind: standing as OperationKind, step: STANDS_AT[standing] };
    const answer = answerTo(rowOf(this.stateName, { operation }), command, NOT_HALTED);
    return answer.kind === 'refuse' ? answer.code : undefined;
  }

  cycle(): Outcome {
    if (this.state === 'SPLIT_BRAIN') return 'E_SPLIT_BRAIN';
    if (this.state !== 'ordinary') return 'E_FAILED_OVER';
    if (this.isPaused) return 'E_STATE';
    this.isCompareDue = false;
    return undefined;
  }

  planned(): Outcome {
    const refusal = this.refusalOf('planned');
    if (refusal !== undefined) return refusal;
    if (this.state === 'FAILING_OVER') return this.resume();
    if (this.tests.length > 0) return 'E_LOCKED';
    if (this.isPaused) return 'E_STATE';
    if (!this.isAttached) return 'E_SOURCE_UNREACHABLE';
    this.#stopSource();
    return this.#comeUp('planned');
  }

  unplanned({ isFencing, hasPoint }: UnplannedWish): Outcome {
    const refusal = this.refusalOf('unplanned');
    if (refusal !== undefined) return refusal;
    if (this.state === 'FAILING_OVER') return this.resume();
    if (this.state === 'ordinary' && this.isCompareDue && !hasPoint) return 'E_RESYNC_RUNNING';
    if (this.isSeenRunning && !isFencing) return 'E_SOURCE_ALIVE';
    this.tests = [];
    if (this.isSeenRunning) this.#stopSource();
    return this.#comeUp('unplanned');
  }

  #stopSource(): void {
    if (this.isSourceRunning) this.isStoppedByUs = true;
    this.isSourceRunning = false;
  }

  #comeUp(kind: 'planned' | 'unplanned'): Outcome {
    this.state = 'FAILING_OVER';
    this.standing = kind;
    if (this.isSeenRunning) return 'E_SOURCE_ALIVE';
    if (this.isBootFailing) return 'E_HYPERVISOR';
    this.state = 'FAILED_OVER';
    this.standing = undefined;
    return undefined;
  }

  resume(): Outcome {
    const refusal = this.refusalOf('resume');
    if (refusal !== undefined) return refusal;
    if (this.standing !== undefined) return this.#comeUp(this.standing);
    // of a protection that is being compared it goes on anyway
    if (!this.isCompareDue) this.isPaused = false;
    return undefined;
  }

  /** `undo` and `abort`. */
  takeBack(command: 'undo' | 'abort'): Outcome {
    const refusal = this.refusalOf(command);
    if (refusal === undefined && this.state !== 'ordinary') this.#goHome();
    return refusal;
  }

  #goHome(): void {
    this.state = 'ordinary';
    this.standing = undefined;
    this.contact();
  }

  permanent(): Outcome {
    const refusal = this.refusalOf('permanent');
    if (refusal === undefined) this.state = 'COMMITTED';
    return refusal;
  }

  test(): Outcome {
    return this.refusalOf('test') ?? (this.isBootFailing ? 'E_HYPERVISOR' : undefined);
  }

  pause(isPaused: boolean): Outcome {
    const refusal = this.refusalOf(isPaused ? 'pause' : 'unpause');
    if (refusal === undefined) this.isPaused = isPaused;
    return refusal;
  }

  resolve(side: 'source' | 'replica'): Outcome {
    const refusal = this.refusalOf('resolve');
    if (refusal !== undefined) return refusal;
    if (side === 'source') {
      this.isCompareDue = true;
      this.#goHome();
      return undefined;
    }
    if (this.isAttached) this.#stopSource();
    this.state = 'FAILED_OVER';
    return undefined;
  }

  /** The receiver comes again and goes on with what stands. */
  restart(): void {
    if (this.standing !== undefined) this.#comeUp(this.standing);
    this.contact();
  }

  /** Whatever both sites have to tell each other has been told, if the source is there. */
  contact(): void {
    if (!this.isAttached) return;
    if (this.state === 'FAILED_OVER' && this.isSourceRunning) this.state = 'SPLIT_BRAIN';
    if (this.state !== 'ordinary' || !this.isStoppedByUs) return;
    this.isSourceRunning = true;
    this.isStoppedByUs = false;
  }
}

const NOT_HALTED = { halted: undefined, instance: undefined };
const NO_OPERATION = {
  operationId: ZERO_GUID,
  startedAtMs: 0,
  by: 'model',
  keyId: undefined,
  parameters: {},
  pointId: undefined,
  facts: {},
} as const;
