// What failovers and failbacks of one VM come to, as a model that has no disks and no journal: the state by
// name, who runs, what is fenced, and the code of each refusal. Refusals of a state are those of the table; the
// preconditions are the model's own.

import { ZERO_GUID } from '../../shared/bytes/index.js';
import type { ErrorCode } from '../../shared/errors.js';
import { answerTo, rowOf } from '../../dr-receiver/failover/machine.js';
import type { Command, StateName } from '../../dr-receiver/failover/model.js';

export type ModelState =
  | 'ordinary'
  | 'FAILING_OVER'
  | 'FAILED_OVER'
  | 'COMMITTED'
  | 'FAILING_BACK'
  | 'FAILED_BACK'
  | 'SPLIT_BRAIN';

/** What stands, and at which step: only where the model brings a failure about, or it was to stand. */
export type Standing =
  | { readonly kind: 'planned'; readonly step: 'P8' }
  | { readonly kind: 'unplanned'; readonly step: 'U6' }
  | { readonly kind: 'failback'; readonly step: 'F1' | 'F2' | 'F4' }
  | { readonly kind: 'failback-undo'; readonly step: 'B1' | 'B3' };

/** What goes wrong while a failback is worked at. */
export type ReturnTrouble = 'none' | 'last round breaks' | 'primary does not boot';

export interface UnplannedWish {
  readonly isFencing: boolean;
  readonly hasPoint: boolean;
}

/** How a command ends: the code of its error, if it has one. */
export type Outcome = ErrorCode | undefined;

export class FailoverModel {
  state: ModelState = 'ordinary';
  standing: Standing | undefined;
  /** The failback that stands was asked to bring the primary level, and no more. */
  isSyncOnly = false;
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
    const operation = standing && { ...NO_OPERATION, ...standing };
    const answer = answerTo(rowOf(this.stateName, { operation }), command, NOT_HALTED);
    return answer.kind === 'refuse' ? answer.code : undefined;
  }

  cycle(): Outcome {
    if (this.state === 'SPLIT_BRAIN') return 'E_SPLIT_BRAIN';
    // the primary is the active site again, and its failback is open
    const isOpenThere = this.state === 'FAILED_BACK' || /F4|B1/.test(this.standing?.step ?? '');
    if (isOpenThere) return 'E_STATE';
    if (this.state === 'FAILING_BACK') return 'E_LOCKED';
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
    this.standing = kind === 'planned' ? { kind, step: 'P8' } : { kind, step: 'U6' };
    if (this.isSeenRunning) return 'E_SOURCE_ALIVE';
    if (this.isBootFailing) return 'E_HYPERVISOR';
    this.state = 'FAILED_OVER';
    this.standing = undefined;
    return undefined;
  }

  resume(): Outcome {
    const refusal = this.refusalOf('resume');
    if (refusal !== undefined) return refusal;
    if (this.standing !== undefined) return this.#goOn(this.standing);
    // of a protection that is being compared it goes on anyway
    if (!this.isCompareDue) this.isPaused = false;
    return undefined;
  }

  /** `undo` and `abort`. */
  takeBack(command: 'undo' | 'abort'): Outcome {
    const refusal = this.refusalOf(command);
    if (refusal !== undefined || this.state === 'ordinary') return refusal;
    if (this.state === 'FAILING_BACK' || this.state === 'FAILED_BACK') return this.#comeBack();
    this.#goHome();
    return undefined;
  }

  #goHome(): void {
    this.state = 'ordinary';
    this.standing = undefined;
    this.contact();
  }

  permanent(): Outcome {
    const refusal = this.refusalOf('permanent');
    if (refusal !== undefined) return refusal;
    if (this.state !== 'FAILED_BACK') {
      this.state = 'COMMITTED';
      return undefined;
    }
    if (!this.isAttached) return 'E_SOURCE_UNREACHABLE';
    this.state = 'ordinary';
    this.isStoppedByUs = false;
    return undefined;
  }

  failback(isSyncOnly: boolean, trouble: ReturnTrouble): Outcome {
    const refusal = this.refusalOf('failback');
    if (refusal !== undefined) return refusal;
    if (this.state === 'FAILED_BACK') return undefined;
    if (this.standing?.kind === 'failback') {
      // nobody serves any more that it could be brought level with
      if (isSyncOnly && this.standing.step !== 'F1') return 'E_STATE';
      this.isSyncOnly = isSyncOnly;
      return this.#bringHome(this.standing.step, trouble);
    }
    if (!this.isAttached) return 'E_SOURCE_UNREACHABLE';
    this.state = 'FAILING_BACK';
    this.isSyncOnly = isSyncOnly;
    return this.#bringHome('F1', trouble);
  }

  #goOn(standing: Standing): Outcome {
    switch (standing.kind) {
      case 'planned':
      case 'unplanned':
        return this.#comeUp(standing.kind);
      case 'failback':
        return this.#bringHome(standing.step, 'none');
      case 'failback-undo':
        return this.#comeBack();
    }
  }

  #bringHome(from: 'F1' | 'F2' | 'F4', trouble: ReturnTrouble): Outcome {
    this.standing = { kind: 'failback', step: from };
    if (!this.isAttached) return 'E_SOURCE_UNREACHABLE';
    if (this.isSyncOnly) return undefined;
    if (from !== 'F4' && trouble === 'last round breaks') {
      this.standing = { kind: 'failback', step: 'F2' };
      return 'E_CHANNEL';
    }
    if (trouble === 'primary does not boot') {
      this.standing = { kind: 'failback', step: 'F4' };
      return 'E_HYPERVISOR';
    }
    this.state = 'FAILED_BACK';
    this.standing = undefined;
    this.isSourceRunning = true;
    return undefined;
  }

  /** The VM serves at the DR site again. */
  #comeBack(): Outcome {
    const { standing } = this;
    const hasStarted = standing === undefined || standing.step === 'F4' || standing.step === 'B1';
    const wasLevel = standing?.step === 'F1';
    this.state = 'FAILING_BACK';
    this.standing = { kind: 'failback-undo', step: 'B1' };
    // it may run there, and only it can say that it does not
    if (hasStarted && !this.isAttached) return 'E_SOURCE_UNREACHABLE';
    if (hasStarted) this.isSourceRunning = false;
    this.standing = { kind: 'failback-undo', step: 'B3' };
    if (!wasLevel && this.isBootFailing) return 'E_HYPERVISOR';
    this.state = 'FAILED_OVER';
    this.standing = undefined;
    return undefined;
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
    const { standing } = this;
    // one that was to stand there does
    const isLevel = standing?.step === 'F1' && this.isSyncOnly;
    if (standing !== undefined && !isLevel) this.#goOn(standing);
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
