// A test session in the journal, beside the state machine: what failover-book.ts is for an operation.

import type { Guid } from '../../shared/bytes/index.js';
import type { Clock } from '../../shared/clock.js';
import { DrError } from '../../shared/errors.js';
import type { Actor } from '../store/records.js';
import type { VmStore } from '../store/vm-store.js';
import type { Book } from './engine.js';
import type { Proof, TestSession } from './model.js';

export type TestPatch = Partial<Omit<TestSession, 'operationId'>> & { readonly proof?: Proof };

export class TestBook implements Book<TestPatch> {
  readonly #vm: VmStore;
  readonly #clock: Clock;
  readonly #operationId: Guid;
  readonly #actor: Actor;

  constructor(vm: VmStore, clock: Clock, operationId: Guid, actor: Actor) {
    this.#vm = vm;
    this.#clock = clock;
    this.#operationId = operationId;
    this.#actor = actor;
  }

  /** @throws DrError E_LOCKED when the session is over */
  get session(): TestSession {
    const session = this.#vm.protection.tests.get(this.#operationId);
    if (session !== undefined) return session;
    const { vmName } = this.#vm.protection;
    throw new DrError('E_LOCKED', `${vmName}: test ${this.#operationId} is over`, {
      context: { operationId: this.#operationId },
    });
  }

  async begin(session: TestSession): Promise<void> {
    await this.#append(session, null);
  }

  async enter(step: string, found: readonly TestPatch[], intent?: () => TestPatch): Promise<void> {
    await this.#vm.change(async () => {
      const patches = intent === undefined ? found : [...found, intent()];
      const { proof, ...session } = Object.assign({}, this.session, ...patches) as TestSession & {
        proof?: Proof;
      };
      await this.#append({ ...session, step }, proof ?? null);
    });
  }

  /** The session is over. In no change of the VM. */
  async end(): Promise<void> {
    await this.#vm.change(async () => {
      if (this.#vm.protection.tests.has(this.#operationId)) await this.#append(null, null);
    });
  }

  async #append(test: TestSession | null, proof: Proof | null): Promise<void> {
    await this.#vm.append({
      kind: 'test',
      atMs: this.#clock.now(),
      operationId: this.#operationId,
      test,
      proof,
      ...this.#actor,
    });
  }
}
